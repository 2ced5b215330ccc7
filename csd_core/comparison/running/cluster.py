"""The cells of a comparison on the machines of a Ray cluster: a cell is a task, and a lost machine's cell starts again.

A machine that sees the comparison's folder works there, and so continues what another left. One that does not works in
its user's cache, ~/.cache/csd/compare-..., and only the figures come back; who clears that folder loses no result.
"""

import hashlib
import os
import secrets
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from csd_core.comparison.results.measures import CellMeasures
from csd_core.comparison.running.child import Children
from csd_core.comparison.running.run_folder import Bench, Code
from csd_core.comparison.running.runs import Cell, CellParams
from csd_core.comparison.running.scheduler import CellRunner, Event, finished
from csd_core.engine.pace import Pace
from csd_core.engine.work import Engine, Job, Reader, Work
from csd_core.system.atomic import write_text
from csd_core.system.locks import Lock

MARK = ".mark"
"""A file of a comparison's folder, by which a machine knows it."""


class CellTask(NamedTuple):
    """A cell that is to be run.

    Attributes:
        cell: Which.
        params: Its parameters.
        known: What an earlier run measured with them.
    """

    cell: Cell
    params: CellParams
    known: CellMeasures | None

    def __str__(self) -> str:
        return f"cell {self.cell}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellWork(Work[CellTask, Event]):
    """Runs cells, on whatever machine.

    Attributes:
        folder: The comparison's, or the cache of a machine that does not see it.
        code: What the cells run.
        threads: CPU threads of a cell.
        takes_gpu: Whether it trains on a GPU where there is one.
        away: Whether the folder is a cache.
    """

    folder: Path
    code: Code
    threads: int
    takes_gpu: bool
    away: bool = False

    def mark(self) -> str:
        """Return what stands in the comparison's folder."""
        return (self.folder / MARK).read_text("utf-8")

    def read(self, key: Any, /) -> Any:
        """Refuse: what a cell reads lies where its parameters say."""
        raise TypeError(f"cells have no inputs that could be sent, {key} was asked for")

    def portable(self, *, gpu: bool) -> Self:  # noqa: ARG002 - a stage looks for its GPU itself
        """Return the same work: code and parameters are in memory."""
        return self

    def reading(self, _reader: Reader, /) -> Self:
        """Return the same work in a cache of this machine."""
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return replace(self, folder=Path.home() / ".cache" / "csd" / f"compare-{name}", away=True)

    def __call__(self, task: CellTask, pace: Pace, /) -> Event:
        """Run a cell.

        Raises:
            BusyError: if the cell is at work already, as on a machine that was taken for lost.
        """
        if self.away and task.known and task.known.code == self.code.digest:
            return Event(cell=task.cell, measures=task.known)
        bench = Bench.of(task.cell, self.folder)
        # stages of a cell share out nothing: the cells are
        runtime = task.params.values["runtime"] | {"engine": "local"}
        params = replace(task.params, values=task.params.values | {"runtime": runtime})
        runner = CellRunner(folder=self.folder, code=self.code)
        with Lock(bench.root / ".lock", what=f"cell {task.cell}").held():
            (bench.root / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)  # names a process of a lost machine
            event = runner.run(task.cell, params, known=task.known, children=Children(), on_stage=lambda _: None)
        pace.report(1)
        return replace(event, failure=event.failure and f"on {socket.gethostname()}: {event.failure}")


def cluster_events(
    engine: Engine, cells: Sequence[Cell], params: Mapping[Cell, CellParams], *, folder: Path, code: Code
) -> Generator[Event, None, None]:
    """Run cells and tell the end of each; the first one of each profile and seed goes first.

    The others find its first stage in DVC's cache, if they come later and see the same folder.

    Args:
        engine: Who runs them.
        cells: Which.
        params: Of all cells.
        folder: The comparison's; the caller holds its lock.
        code: What the cells run.

    Raises:
        CsdError: if the engine fails; finished cells stay.
    """
    write_text(folder / MARK, secrets.token_hex(16))
    compute = [params[cell].params.compute for cell in cells]
    work = CellWork(
        folder=folder.absolute(),
        code=code,
        threads=max(each.threads * each.processes for each in compute),
        takes_gpu=any(each.device != "cpu" for each in compute),
    )
    yield from events_of(engine, work, cells, params)


def events_of(
    engine: Engine, work: CellWork, cells: Sequence[Cell], params: Mapping[Cell, CellParams]
) -> Generator[Event, None, None]:
    """Yield the end of each cell, and keep what it measured in the comparison's folder."""
    known = finished(work.folder, params)
    first = {(cell.profile, cell.seed): cell for cell in reversed(cells)}.values()
    ordered = sorted(cells, key=lambda cell: cell not in first)
    tasks = [CellTask(cell, params[cell], known.get(cell)) for cell in ordered]
    with closing(engine.each(Job(work=work, items=tasks))) as working:
        for _, event in working:
            kept = Bench.of(event.cell, work.folder).measures
            if event.measures:
                event.measures.save(kept)
            else:
                kept.unlink(missing_ok=True)
            yield event
