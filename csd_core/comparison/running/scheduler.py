"""Run the cells of a comparison: groups side by side, the cells of one group one after the other."""

import queue
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from csd_core.comparison.results.measures import CellMeasures, measure_cell
from csd_core.comparison.results.test_queries import ask_test_queries
from csd_core.comparison.running.child import Children, reproduce
from csd_core.comparison.running.run_folder import Bench, Code
from csd_core.comparison.running.runs import Cell, CellParams
from csd_core.comparison.running.timings import Timings
from csd_core.data.folders import check_folders
from csd_core.system.errors import ArtifactError, CsdError

LOOK = 0.5
"""Seconds between two looks at what the workers tell, so that Ctrl-C is heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a worker tells.

    Attributes:
        cell: Whose it is.
        stage: The stage that starts; None at the end of a cell.
        seconds: It took, at the end.
        busy: Whether anything was stale.
        measures: What it measured; None where it failed.
        failure: Why it failed.
    """

    cell: Cell
    stage: str | None = None
    seconds: float = 0.0
    busy: bool = False
    measures: CellMeasures | None = None
    failure: str | None = None


def finished(folder: Path, params: Mapping[Cell, CellParams]) -> dict[Cell, CellMeasures]:
    """Return what earlier runs measured with the very parameters that are asked for now."""
    found = {}
    for cell, mine in params.items():
        file = Bench.of(cell, folder).measures
        with suppress(ArtifactError):  # missing, or damaged: to be measured again
            measures = CellMeasures.load(file)
            if measures.params == mine.digest:
                found[cell] = measures
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRunner:
    """Runs cells in their folders.

    Attributes:
        folder: The comparison's.
        code: What the cells run.
    """

    folder: Path
    code: Code

    def run(
        self,
        cell: Cell,
        mine: CellParams,
        *,
        known: CellMeasures | None,
        children: Children,
        on_stage: Callable[[str], None],
    ) -> Event:
        """Run what is stale in a cell, and measure it.

        Args:
            cell: Which.
            mine: Its parameters.
            known: What an earlier run measured with them.
            children: Where the process is kept.
            on_stage: Told the name of each stage that starts.
        """
        bench, started, code = Bench.of(cell, self.folder), time.monotonic(), self.code.digest
        try:
            check_folders(bench.root, mine.params.sources.folders)
            bench.set_up(self.code, mine.text())
            busy = reproduce(bench, children, on_stage=on_stage)
            if known and known.code == code and not busy:
                return Event(cell=cell, seconds=time.monotonic() - started, busy=False, measures=known)
            values = (
                *measure_cell(bench.root, mine.params, Timings.of(bench.timings)),
                *ask_test_queries(bench.root, mine.params),
            )
        except (CsdError, OSError) as error:
            bench.measures.unlink(missing_ok=True)
            return Event(cell=cell, seconds=time.monotonic() - started, failure=str(error))
        measures = CellMeasures(params=mine.digest, code=code, values=values)
        measures.save(bench.measures)
        return Event(cell=cell, seconds=time.monotonic() - started, busy=busy, measures=measures)


class Run:
    """One go at the cells of a comparison."""

    def __init__(self, params: Mapping[Cell, CellParams], *, folder: Path, code: Code, jobs: int) -> None:
        self._params, self._known = params, finished(folder, params)
        self._runner = CellRunner(folder=folder, code=code)
        self._jobs = jobs
        self._children = Children()
        self._told: queue.Queue[Event | Future[None]] = queue.Queue()

    def events(self, cells: Sequence[Cell]) -> Generator[Event, None, None]:
        """Run them and tell what happens, until all are done.

        Cells of one (profile, seed) share data and first stage through DVC's run cache, so they wait for each other.
        """
        groups = [[*group] for _, group in groupby(cells, key=lambda cell: (cell.seed, cell.profile))]
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="worker") as pool:
            try:
                for group in groups:
                    pool.submit(self._group, group).add_done_callback(self._told.put)
                yield from self._listen(len(groups))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                self._children.interrupt()

    def _listen(self, working: int) -> Iterator[Event]:
        while working:
            try:
                told = self._told.get(timeout=LOOK)
            except queue.Empty:
                continue
            if isinstance(told, Event):
                yield told
            else:
                told.result()  # a mistake in a worker ends the run
                working -= 1

    def _group(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self._told.put(self._cell(cell))

    def _cell(self, cell: Cell) -> Event:
        tell: Callable[[str], None] = lambda stage: self._told.put(Event(cell=cell, stage=stage))  # noqa: E731
        return self._runner.run(
            cell, self._params[cell], known=self._known.get(cell), children=self._children, on_stage=tell
        )
