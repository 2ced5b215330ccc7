"""What an engine does, and what it asks of work.

A piece of work is pure: it returns its result to whoever asked and writes nothing. So it may be done again anywhere,
and a process or a machine that dies takes nothing with it but the pieces in its hands.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from csd_core.engine.pace import Pace, Rows, Schedule, ignore

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

Reader = Callable[[Iterable[Any]], Iterator[Any]]
"""Reads the inputs behind keys, in their order; it may fetch the next ones while one is worked on."""


class Work(Protocol[Item_contra, Result_co]):
    """Something to do with items. It, they and the results are picklable.

    Attributes:
        takes_gpu: Whether it computes on a GPU where there is one.
        threads: CPU threads that it computes with.
    """

    @property
    def threads(self) -> int:
        """Return the CPU threads that it computes with."""

    @property
    def takes_gpu(self) -> bool:
        """Return whether it computes on a GPU where there is one."""

    def __call__(self, item: Item_contra, pace: Pace, /) -> Result_co:
        """Work on an item."""

    def mark(self) -> str:
        """Return what only a machine that sees the same inputs returns, too; where there are none it may raise."""

    def read(self, key: Any, /) -> Any:
        """Return one input, as the work's reader would."""

    def portable(self, *, gpu: bool) -> Self:
        """Return this work for machines that see no file of this one, with such as a model's bytes in memory.

        Args:
            gpu: Whether the process that does it has a GPU of its own.
        """

    def reading(self, reader: Reader, /) -> Self:
        """Return this work with inputs that come from `reader`, for machines that do not see them."""


class CompleteWork(Work[Item_contra, Result_co], Protocol):
    """Work whose items hold all that it needs: a worker reads nothing."""

    def mark(self) -> str:
        """Return the same everywhere."""
        return ""

    def read(self, key: Any, /) -> Any:
        """Refuse: nobody asks."""
        raise TypeError(f"{self} has no inputs beside its items, {key} was asked for")

    def reading(self, _reader: Reader, /) -> Self:
        """Return the same work."""
        return self


class Items(Protocol[Result_co]):
    """What to work on: a sequence, or something that reads an item when it is given out (or lost, and given again)."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, place: int, /) -> Result_co:
        """Return one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[Item, Result]):
    """Work on many items.

    Attributes:
        work: Called as `work(item, pace)`.
        items: What to work on; `str(item)` names one in messages.
        max_rows_per_second: Over all workers together; None for full speed.
        report: Told, in this process, of rows as they are finished; of fewer than none where a worker was lost with
            rows that it had told of.
    """

    work: Work[Item, Result]
    items: Items[Item]
    max_rows_per_second: float | None = None
    report: Rows = ignore

    def __post_init__(self) -> None:
        """Refuse an impossible rate here, not on a machine far away."""
        if self.max_rows_per_second is not None:
            Schedule(self.max_rows_per_second)


class Engine(Protocol):
    """Does jobs."""

    def each(self, job: Job[Item, Result], /) -> Generator[tuple[int, Result], None, None]:
        """Work on every item and yield its place and its result, as they come.

        Close the iterator when you stop early: that ends the workers.

        Raises:
            CsdError: if work raises it, no worker can do it, or the engine is not installed.
        """


def in_order(found: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """Yield the results of `Engine.each` by place; those that come early wait in memory."""
    early: dict[int, Result] = {}
    due = 0
    for place, result in found:
        early[place] = result
        while due in early:
            yield early.pop(due)
            due += 1
