import numpy as np
import pyarrow as pa
import pytest

from csd_core.live.rows import pipeline_rows
from csd_core.live.rules import SearchRules
from csd_core.records.ranking import GroupScoring, Logistic
from csd_core.releases.contents.golden_queries import NEIGHBOURS, chosen, expect

NOW = np.datetime64("2026-01-01", "us")


@pytest.fixture
def rows(gallery_of_items):
    """200 rows, of which each vector occurs twice."""
    gallery = gallery_of_items(200, model="m")
    gallery.vectors[100:] = gallery.vectors[:100]
    return pipeline_rows(gallery, origin="pipeline", written_at=NOW)


def rules(*, score=None):
    group = [GroupScoring(embedded_by="m", adapters="", query_model="m", dimension=8, score=score)] if score else ()
    return SearchRules(query_model="m", dimension=8, spaces={"m": ("m",)}, scoring=tuple(group))


def nearest_one_by_one(rows, query):
    vectors = np.array(rows["vector"].to_pylist(), np.float32)
    ranked = sorted(zip((-vectors @ query).tolist(), rows["id"].to_pylist(), strict=True))
    return [identity for _, identity in ranked[:NEIGHBOURS]]


@pytest.mark.parametrize("step", [1, 3, 64, 200])
def test_expected_answers_do_not_depend_on_how_many_rows_are_read_at_a_time(rows, step):
    items = chosen(pa.chunked_array([rows["id"]]))
    queries = np.eye(8, dtype=np.float32)[np.arange(len(items)) % 8]
    pieces = [rows.slice(start, step) for start in range(0, 200, step)]
    for search in (rules(), rules(score=Logistic(slope=9.0, offset=-4.0))):
        found = expect(pieces, items, {"m": queries}, search)
        assert [query.item for query in found.queries] == items.tolist() == sorted(items.tolist())
        for query, vector in zip(found.queries, queries, strict=True):
            assert list(query.ids) == nearest_one_by_one(rows, vector)  # of equal ones that with the lesser id
            assert len(query.margins) == (NEIGHBOURS if search.scoring else 0)
            assert list(query.scores) == sorted(query.scores, reverse=True)


def test_fewer_rows_than_neighbours_are_all_expected(rows):
    few = rows.slice(0, 3)
    found = expect(
        [few.slice(0, 1), few.slice(1, 2)], np.array(["item-0"]), {"m": np.eye(8, dtype=np.float32)}, rules()
    )
    assert sorted(found.queries[0].ids) == ["item-0", "item-1", "item-2"]
