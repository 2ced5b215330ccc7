"""Clocks that are set back or forward by a year: what was deleted stays deleted, what was written stays."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from csd_core.live.rows import LiveItems
from csd_core.live.storage import clock

YEAR = timedelta(days=365)


@pytest.fixture
def set_clock(monkeypatch):
    def by(offset):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + offset

        monkeypatch.setattr(clock, "datetime", Clock)

    return by


@pytest.fixture
def built(live, gallery_of_items):
    live.build("g", gallery_of_items(5), origin="pipeline", images=None)
    live.tag("g", "first")


def put(live, identity):
    vectors = np.eye(1, 8, dtype=np.float32)
    live.upsert("g", LiveItems(ids=np.array([identity]), labels=np.array(["a"]), vectors=vectors, embedded_by="m"))


def buried(live, identity, *, tag=None):
    rows = live.rows("g", version=tag, ids=[identity], columns=["written_at"])
    times = rows["written_at"].combine_chunks().cast("timestamp[us]").to_numpy()
    return bool(live.tombstones().is_deleted(np.array([identity]), written_at=times)[0])


def test_times_never_go_back(set_clock):
    set_clock(timedelta())
    first = clock.after()
    set_clock(-YEAR)
    assert clock.after(first) == first + np.timedelta64(1, "us")


@pytest.mark.parametrize("step", [-YEAR, timedelta(), YEAR])
def test_a_row_deleted_after_it_was_written_stays_deleted(live, built, set_clock, step):
    set_clock(timedelta())
    put(live, "x")
    live.tag("g", "then")
    set_clock(step)
    live.delete("g", ["x"], why="test")
    assert buried(live, "x", tag="then")


@pytest.mark.parametrize("step", [-YEAR, YEAR])
def test_a_row_that_was_overwritten_before_its_deletion_stays_deleted_too(live, built, set_clock, step):
    set_clock(YEAR)
    put(live, "x")
    live.tag("g", "then")
    set_clock(step)
    put(live, "x")
    live.delete("g", ["x"], why="test")
    assert buried(live, "x", tag="then")


@pytest.mark.parametrize("step", [-YEAR, YEAR])
def test_a_row_written_after_its_deletion_stands_though_its_tombstone_was_not_lifted(
    live, built, set_clock, step, monkeypatch
):
    set_clock(timedelta())
    live.delete("g", ["x"], why="test")
    set_clock(step)
    monkeypatch.setattr("csd_core.live.tombstones.lift", lambda *_: None)
    put(live, "x")
    assert not buried(live, "x")


def test_a_gallery_made_before_times_were_recorded_learns_them_at_its_first_write(live, built, set_clock, tmp_path):
    set_clock(YEAR)
    put(live, "x")
    live.tag("g", "then")
    assert live._tables.catalogue().newest > np.datetime64(datetime.now(UTC).replace(tzinfo=None) + YEAR / 2)


@pytest.mark.slow
@pytest.mark.parametrize("move", ["back", "writes ahead", "deletions ahead"])
def test_releases_rows_retirement_and_audit_log_follow_the_order_of_what_was_done(preloaded, tmp_path, move):
    script = Path(__file__).with_name("clocked.py")
    environment = os.environ | {"LD_PRELOAD": str(preloaded("clock.c"))}
    command = [sys.executable, str(script), str(tmp_path / "project"), move]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
