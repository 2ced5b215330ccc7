"""Filters of any moment and any word."""

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csd_core.live.filters import Filters
from csd_core.live.text import refuse_bad_id
from csd_core.system.errors import ParamsError

zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(timezones=st.none() | zones)
WRITTEN = [datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
ROWS = pa.record_batch({"written_at": pa.array(WRITTEN, pa.timestamp("us", "UTC"))})


@given(moments)
def test_any_moment_is_compared_as_it_reads(since):
    utc = since.replace(tzinfo=UTC) if since.tzinfo is None else since
    assert Filters(since=since).mask(ROWS).tolist() == [written >= utc for written in WRITTEN]
    assert Filters(since=since).predicate() is not None


@pytest.mark.parametrize("hours", [14, -14, 23, -23])
def test_a_moment_before_the_first_year_or_after_the_last_is_one(hours):
    zone = timezone(timedelta(hours=hours))
    assert Filters(since=datetime.min.replace(tzinfo=zone)).mask(ROWS)[1:].all()
    assert not Filters(since=datetime.max.replace(tzinfo=zone)).mask(ROWS)[:2].any()


def test_words_that_are_no_utf_8_are_refused():
    with pytest.raises(ParamsError, match="no UTF-8"):
        Filters(label=("a", "\udcff"))
    with pytest.raises(ParamsError, match="no UTF-8"):
        refuse_bad_id("\udcff")
    refuse_bad_id("e\u0301\n")
