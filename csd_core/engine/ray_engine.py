"""Ray as an engine: work is shared out over the machines of a cluster, to one worker on each core or GPU.

A worker gets the work once, with all it needs from this machine, and reads inputs itself if it sees the same ones; to
others this machine sends them. What a lost machine had in hand is given to others.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic

from csd_core.engine.ray_connection import connected
from csd_core.engine.ray_workers import Desk, InputReader, Worker, versions
from csd_core.engine.work import Item, Job, Result
from csd_core.system.console import echo
from csd_core.system.errors import CompatibilityError, CsdError, ParamsError, message_of

TRIES = 3
"""How many workers may die with the same item in hand, and how many may fail to start before any has."""
IN_HAND = 2
"""Items that a worker has: one it works on and one that waits there, so that none is waited for."""
LOOK = 0.25
"""Seconds between two looks at the rows that are done."""
SAY_SECONDS, GIVE_UP_SECONDS = 60.0, 600.0
"""Without any worker: until that is said, and until the run ends."""
REASONS = {
    "out of memory": "out of memory",
    "node was terminated": "its machine is gone",
    "node died": "its machine is gone",
    "is unavailable": "it does not answer",
    "connection error code 2": "its process ended",
}
"""What Ray tells at length -> the same in short."""
READERS = 8
"""Inputs that this machine reads at once for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Workers of a Ray cluster.

    Attributes:
        address: host:port of a cluster that this machine belongs to, or auto; None starts Ray on this machine.
        workers: At most one for each item; None for one on each core, or each GPU if the work takes one.
    """

    address: str | None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible number of workers."""
        if self.workers is not None and self.workers < 1:
            raise ParamsError(f"workers is {self.workers}, it must be at least 1")

    def each(self, job: Job[Item, Result], /) -> Generator[tuple[int, Result], None, None]:
        """Work on every item and yield its place and its result, as they come (see `Engine.each`).

        Raises:
            ParamsError: if Ray is not installed.
            CsdError: if the cluster cannot be used, work raises it, or an item is lost again and again.
        """
        if not job.items:
            return
        with connected(self.address, cores=self.workers or os.cpu_count() or 1) as ray:
            crew = _Crew(ray, job)
            try:
                yield from crew.share_out(workers=min(self.workers or crew.room, len(job.items)))
            finally:
                crew.dismiss()


@dataclass(slots=True, eq=False)
class _Hired:
    """A worker, and what is awaited of it.

    Attributes:
        actor: Ray's handle.
        starting: Its hello, until it came.
        loans: What it is asked for and the number of the item, in the order in which it works.
        machine: Where it is.
    """

    actor: Any
    starting: Any
    loans: deque[tuple[Any, int]] = field(default_factory=deque)
    machine: str = "a machine of the cluster"

    @property
    def awaited(self) -> Any:
        """Return what comes next; None if nothing was asked for."""
        return self.starting or (self.loans[0][0] if self.loans else None)


class _Crew(Generic[Item, Result]):
    """The workers of one run."""

    def __init__(self, ray: Any, job: Job[Item, Result]) -> None:
        self._ray, self._items, self._report = ray, job.items, job.report
        work, rate = job.work, job.max_rows_per_second
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        beside_us = {"num_cpus": 0, "scheduling_strategy": here}
        self._desk = ray.remote(Desk).options(**beside_us).remote(rate)
        machines = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        gpus = sum(int(each.get("GPU", 0)) for each in machines) if work.takes_gpu else 0
        cores = [int(each.get("CPU", 0)) for each in machines]
        wanted = max(1, min(work.threads, max(cores)))  # so that the largest machine has room for one
        self.room = max(1, gpus or sum(each // wanted for each in cores))
        """Workers that the cluster has room for."""
        portable = ray.put(work.portable(gpu=gpus > 0))
        self._reader = ray.remote(InputReader).options(**beside_us, max_concurrency=READERS).remote(portable)
        actor = ray.remote(Worker).options(num_cpus=wanted, num_gpus=1 if gpus else 0)
        others = {"mark": work.mark(), "desk": self._desk, "reader": self._reader, "throttled": rate is not None}
        self._actor: Callable[[], Any] = lambda: actor.remote(portable, **others)
        self._hired: list[_Hired] = []
        self._counted: Counter[int] = Counter()
        """Rows of items in hand that were reported."""
        self._lost: Counter[int] = Counter()
        self._failed_starts, self._started = 0, False
        self._looked = self._last_seen = time.monotonic()
        self._waiting_was_said = False

    def share_out(self, *, workers: int) -> Generator[tuple[int, Result], None, None]:
        """Give the next item to whoever is free; yield the results as they come."""
        waiting, left = deque(range(len(self._items))), len(self._items)
        while left:
            while len(self._hired) < min(workers, left):
                self._hire()
            for worker in self._hired:
                self._lend(worker, waiting, workers)
            awaited = {each.awaited: each for each in self._hired if each.awaited}
            done, _ = self._ray.wait(list(awaited), num_returns=1, timeout=LOOK)
            self._look()
            for reference in done:
                worker = awaited[reference]
                try:
                    came = self._ray.get(reference)
                except self._ray.exceptions.RayTaskError:
                    raise
                except self._ray.exceptions.RayError as error:
                    waiting.extendleft(reversed(self._lose(worker, error)))
                    continue
                if worker.starting:
                    self._welcome(worker, came)
                    continue
                number = worker.loans.popleft()[1]
                (result, told), rows = came
                self._report(rows - self._counted.pop(number, 0))
                if told is not None:
                    raise told
                left -= 1
                yield number, result

    def dismiss(self) -> None:
        """End all workers; nothing in one is worth waiting for."""
        for actor in (self._desk, self._reader, *(each.actor for each in self._hired)):
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    def _hire(self) -> None:
        actor = self._actor()
        self._hired.append(_Hired(actor, actor.hello.remote()))

    def _welcome(self, worker: _Hired, hello: Any) -> None:
        """Let a worker that has started begin.

        Raises:
            CompatibilityError: if its results might be others.
        """
        worker.starting, worker.machine = None, hello.machine
        ours = versions()
        for name in ours.keys() | hello.versions.keys():
            here, there = ours.get(name, "none"), hello.versions.get(name, "none")
            if here != there:
                raise CompatibilityError(
                    f"Ray: machine {hello.machine} has {name} {there}, this one {here}, so its results might be "
                    "others; install the same on all machines and restart Ray there"
                )
        self._started, self._failed_starts = True, 0

    def _lend(self, worker: _Hired, waiting: deque[int], workers: int) -> None:
        """Give a worker something to do; a second item only while there are enough for everybody."""
        while waiting and not worker.starting and len(worker.loans) < (IN_HAND if len(waiting) > workers else 1):
            number = waiting.popleft()
            worker.loans.append((worker.actor.do.remote(number, self._items[number]), number))

    def _lose(self, worker: _Hired, error: BaseException) -> list[int]:
        """Forget a worker that died; return the numbers of the items it had.

        Raises:
            CsdError: if workers die again and again.
        """
        self._hired.remove(worker)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)
        why = _reason(error)
        if worker.starting:
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                raise CsdError(
                    f"Ray: no worker starts ({why}); install the same csd on all machines of the cluster, and look at "
                    "`ray status`"
                )
            return []
        numbers = [number for _, number in worker.loans]
        for number in numbers:
            self._report(-self._counted.pop(number, 0))
        if numbers:
            self._lost[numbers[0]] += 1
            if self._lost[numbers[0]] >= TRIES:
                raise CsdError(
                    f"Ray: {TRIES} workers were lost while they worked on {self._items[numbers[0]]} ({why}); what is "
                    "finished is kept: run again to continue, with fewer workers if memory is short"
                )
        echo(f"Ray: a worker on {worker.machine} was lost ({why}); what it had in hand is done again")
        return numbers

    def _look(self) -> None:
        """Report what was done since the last look, and say if nobody is there to do it.

        Raises:
            CsdError: if that lasts.
        """
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        in_hand = {number for worker in self._hired for _, number in worker.loans}
        rows = {
            number: count for number, count in self._ray.get(self._desk.counted.remote()).items() if number in in_hand
        }
        self._counted.update(rows)
        if rows:
            self._report(sum(rows.values()))
        if any(not worker.starting for worker in self._hired):
            self._last_seen, self._waiting_was_said = now, False
        elif now - self._last_seen > GIVE_UP_SECONDS:
            raise CsdError(
                f"Ray: no worker could start for {GIVE_UP_SECONDS:.0f} s; what is finished is kept: free cores (or "
                "GPUs) of the cluster, or add machines, and run again"
            )
        elif now - self._last_seen > SAY_SECONDS and not self._waiting_was_said:
            self._waiting_was_said = True
            echo("Ray: no worker has started yet; waiting for a free core (or GPU) of the cluster")


def _reason(error: BaseException) -> str:
    """Return the short reason of an error that Ray tells in paragraphs."""
    words = message_of(error)
    return next((short for told, short in REASONS.items() if told in words), words[:200])
