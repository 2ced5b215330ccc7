"""Processes of this machine that share out pieces of work.

Processes are spawned, never forked: onnxruntime and Lance keep threads that a fork would cut off. A process talks to
its parent through a pipe of its own, so one that dies can neither hold a lock the others need nor go unnoticed, and
one whose parent died finds the pipe closed and ends.
"""

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic

from csd_core.engine.pace import Pace, Schedule
from csd_core.engine.work import Item, Job, Result, Work
from csd_core.system.errors import CsdError, ParamsError

SPAWN = multiprocessing.get_context("spawn")
JOIN_SECONDS = 10.0
"""How long a process whose pipe is closed may take to be gone."""


class Throttle:
    """A schedule that processes of one machine share."""

    def __init__(
        self,
        rows_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start with the next row due at once.

        Raises:
            ParamsError: if the rate is not positive.
        """
        self._schedule = Schedule(rows_per_second, clock=clock)
        self._free_at = SPAWN.Value("d", 0.0)  # monotonic clocks agree between processes
        self._sleep = sleep

    def __call__(self, rows: int) -> None:
        """Wait until `rows` more may be worked on."""
        with self._free_at.get_lock():
            seconds, self._free_at.value = self._schedule.book(rows, free_at=self._free_at.value)
        if seconds:
            self._sleep(seconds)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A process has finished some rows of its item."""

    count: int


@dataclass(frozen=True, slots=True)
class _Done(Generic[Result]):
    """A process has finished its item."""

    result: Result


@dataclass(slots=True)
class _Worker(Generic[Item]):
    """A process, this end of its pipe, and what it works on, with its place."""

    process: BaseProcess
    connection: Connection
    item: Item | None = None
    place: int = 0

    def give(self, place: int, item: Item) -> None:
        self.place, self.item = place, item
        with suppress(BrokenPipeError):  # it died before it could read; its closed pipe will tell
            self.connection.send(item)

    def listen(self) -> Any:
        """Return the next message.

        Raises:
            CsdError: if the process failed or died.
        """
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(JOIN_SECONDS)
            raise CsdError(
                f"a worker process {_ending(self.process.exitcode)} while it worked on {self.item}; what is finished "
                "is kept: run again to continue, with fewer workers if memory is short"
            ) from None
        if isinstance(message, CsdError):
            raise message
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """Processes of this machine, each with one thread; with one worker, or one item, this process itself.

    Attributes:
        workers: At most one for each item.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse an impossible number of processes."""
        if self.workers < 1:
            raise ParamsError(f"workers is {self.workers}, it must be at least 1")

    def each(self, job: Job[Item, Result], /) -> Generator[tuple[int, Result], None, None]:
        """Work on every item and yield its place and its result, as they come (see `Engine.each`).

        Raises:
            CsdError: if work raises it, or a process dies.
        """
        rate, items = job.max_rows_per_second, job.items
        throttle = None if rate is None else Throttle(rate)
        if self.workers == 1 or len(items) == 1:
            pace = Pace(throttle=throttle, report=job.report)
            for place in range(len(items)):
                yield place, job.work(items[place], pace)
            return
        crew: list[_Worker[Item]] = []
        try:
            crew.extend(_hire(job.work, throttle) for _ in range(min(self.workers, len(items))))
            yield from _share_out(job, crew)
        finally:
            for worker in crew:
                worker.process.kill()  # nothing in it would answer a milder signal, and it writes nothing
                worker.process.join()
                worker.connection.close()


def _share_out(job: Job[Item, Result], crew: list[_Worker[Item]]) -> Iterator[tuple[int, Result]]:
    """Give the next item to whoever is free; yield the results as they come."""
    waiting = deque(range(len(job.items)))
    busy = {worker.connection: worker for worker in crew}

    def give(worker: _Worker[Item]) -> None:
        place = waiting.popleft()
        worker.give(place, job.items[place])

    for worker in crew:
        give(worker)
    while busy:
        for connection in wait(list(busy)):
            worker = busy[connection]  # type: ignore[index]  # wait returns what it was given
            message = worker.listen()
            if isinstance(message, _Rows):
                job.report(message.count)
                continue
            place = worker.place
            if waiting:
                give(worker)
            else:
                del busy[worker.connection]
            yield place, message.result


def _hire(work: Work[Item, Result], throttle: Throttle | None) -> _Worker[Item]:
    """Start a process that waits for items."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(theirs, work, throttle), daemon=True)
    process.start()
    theirs.close()  # or its death would not close the pipe
    return _Worker(process, ours)


def _serve(connection: Connection, work: Work[Item, Result], throttle: Throttle | None) -> None:
    """Work on what comes through the pipe until the parent ends this process or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    pace = Pace(throttle=throttle, report=lambda rows: connection.send(_Rows(rows)))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            item = connection.recv()
            try:
                answer: _Done[Result] | CsdError = _Done(work(item, pace))
            except CsdError as error:
                answer = error
            connection.send(answer)


def _ending(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"was killed ({name}{', as when memory runs out' if name == 'SIGKILL' else ''})"
    return f"stopped with exit code {code}"
