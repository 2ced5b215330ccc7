"""Publishes, rolls back and completes a gallery while the machine's clock is set, between steps and within them.

    python clocked.py FOLDER MOVE    with clock.c preloaded

MOVE is `back` (a month further back each time), `writes ahead` (people write a year ahead and delete a year back, and
what is published jumps between the two) or `deletions ahead` (the other way round).
"""

import ctypes
import itertools
import sys
from datetime import UTC, datetime
from pathlib import Path

from projects import Project, content_ids, pixels_of

from csd_core.releases.backfill.finish import complete
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback

YEAR, MONTH = 365 * 86400, 30 * 86400
library = ctypes.CDLL(None)
library.clock_by.argtypes = [ctypes.c_long]


def set_clocks(move):
    """Return a function that sets the clock before a step, a write or a deletion."""
    further = (-MONTH * number for number in itertools.count(1))
    ahead, jumps = YEAR if move == "writes ahead" else -YEAR, itertools.cycle([YEAR, -YEAR])
    offsets = {"write": lambda: ahead, "deletion": lambda: -ahead, "step": lambda: next(jumps)}

    def set_clock(before="step"):
        library.clock_by(next(further) if move == "back" else offsets[before]())

    return set_clock


def item(kind):
    return content_ids(pixels_of(kind, 1, seed=1))[0]


class People:
    """Write and delete, and know what there must be."""

    def __init__(self, project, set_clock):
        self.project, self.set_clock = project, set_clock
        self.gone, self.stays = set(), set()

    def put(self, kind):
        self.set_clock("write")
        self.project.put(pixels_of(kind, 1, seed=1), "live")
        self.stays.add(item(kind))
        self.gone.discard(item(kind))

    def delete(self, kind):
        self._delete(item(kind))

    def delete_one_of_the_pipeline(self):
        self._delete(min(self.project.rows().keys() - self.stays))

    def _delete(self, identity):
        self.set_clock("deletion")
        assert self.project.delete([identity]) == 1
        self.gone.add(identity)
        self.stays.discard(identity)

    def check(self, count, *, retired):
        """Everything is as it must be after so many releases."""
        self.set_clock()
        rows = self.project.rows().keys()
        assert self.stays <= rows, "a row that was written is lost"
        assert not self.gone & rows, "a row that was deleted is back"
        releases = self.project.production.releases
        trail = releases.audit.read()
        assert [release.number for release in releases.all()] == list(range(1, count + 1))
        assert releases.active().number == count
        assert trail.active == releases.pointer()
        assert [entry.line for entry in trail.entries] == list(range(1, len(trail.entries) + 1))
        assert {int(name.split("-")[0]) for name in trail.retired} == retired
        assert self.project.findings() == ()


def main(root, move):
    set_clock, before = set_clocks(move), datetime.now(UTC)
    library.clock_by(YEAR)
    assert (datetime.now(UTC) - before).days >= 365, "the clock is not set"
    project = Project(root, tasks=("t1", "t2", "t3"), images=6, settings={"keep_releases": 2})
    project.promote("t1", "none").promote("t2", "adapt").promote("t3", "keep")
    publish(project.production, task="t1", on_step=lambda _: set_clock())
    people = People(project, set_clock)
    for kind in (40, 41, 42):
        people.put(kind)
    people.delete(41)
    people.delete_one_of_the_pipeline()
    people.check(1, retired=set())

    def meanwhile(step):
        set_clock()
        if step == "built":  # people write and delete in the table that is still active
            people.delete(42)
            people.delete_one_of_the_pipeline()
            people.put(43)
        if step == "verified" and item(43) in people.stays:  # the steps to here are done again, for somebody wrote
            people.put(42)
            people.delete(43)

    publish(project.production, task="t2", on_step=meanwhile)
    people.check(2, retired=set())
    people.put(44)
    rollback(project.production, why="test", on_step=lambda _: set_clock())
    people.check(3, retired={1})
    people.delete(44)
    people.put(41)
    publish(project.production, task="t2", on_step=lambda _: set_clock())
    people.check(4, retired={1, 2})
    publish(project.production, task="t3", on_step=lambda _: set_clock())
    people.check(5, retired={1, 2, 3})
    people.put(44)
    complete(project.production, why="the rest", shard_rows=4, on_step=lambda _: set_clock())
    people.check(6, retired={1, 2, 3, 4})
    assert publish(project.production, task="t3") is None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
