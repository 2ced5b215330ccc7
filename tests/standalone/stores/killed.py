"""Apply a plan and die of SIGKILL: `killed.py ADDRESS PLAN PLACE`, where PLACE is a method of the store and a count.

The store gives rows in small batches, so that there is something to interrupt.
"""

import os
import signal
import sys
from pathlib import Path

from csd_core.engine.processes import LocalEngine
from csd_core.standalone.plan_folder import PlanFolder
from csd_core.standalone.stored.application import apply_to_store
from csd_core.stores.address import open_store
from csd_core.stores.protocol import Rows

ROWS = 100


class Doomed:
    """A store whose process dies right after a call."""

    def __init__(self, store, place, count):
        self._store, self._place, self._left = store, place, count

    def rows(self):
        for batch in self._store.rows():
            for start in range(0, len(batch.ids), ROWS):
                yield Rows(batch.ids[start : start + ROWS], batch.vectors[start : start + ROWS])

    def __getattr__(self, name):
        real = getattr(self._store, name)
        if name != self._place:
            return real

        def call(*arguments):
            real(*arguments)
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

        return call


if __name__ == "__main__":
    address, plan, place, count = sys.argv[1:]
    apply_to_store(
        PlanFolder.load(Path(plan)),
        Doomed(open_store(address), place, int(count)),
        images=None,
        work=Path(f"{plan}.work"),
        engine=LocalEngine(),
        max_rows_per_second=None,
        max_failed=0,
    )
