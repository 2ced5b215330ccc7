"""What runs in Ray's own processes: a desk and a reader beside whoever asked, and workers on all machines."""

import hashlib
import importlib.metadata
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic

from csd_core.engine.pace import Pace, Schedule
from csd_core.engine.ray_connection import imported
from csd_core.engine.work import Item, Result, Work
from csd_core.system.errors import CsdError

AHEAD = 2
"""Inputs that are on their way while one is worked on."""
TELL_SECONDS = 0.25
"""Between two reports of a worker."""
OF_BYTES = (("onnxruntime", "onnxruntime-gpu"), ("numpy",))
"""Packages that have a say in the bytes of results; of each group one is installed."""

Outcome = tuple[Result | None, CsdError | None]
"""A result, or the error of csd that came instead: what Ray raises is wrapped, with a traceback."""


@cache
def versions() -> dict[str, str]:
    """Return what must be the same on all machines, so that results are."""
    package = Path(__file__).parents[1]
    code = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        code.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes())
    found = {"csd": f"{importlib.metadata.version('csd')} (code {code.hexdigest()[:8]})"}
    for names in OF_BYTES:
        for name in names:
            with suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return found


class Desk:
    """Where workers of all machines book rows, and tell how many they have done."""

    def __init__(self, rows_per_second: float | None) -> None:
        self._schedule = None if rows_per_second is None else Schedule(rows_per_second)
        self._free_at, self._rows = 0.0, Counter[int]()

    def book(self, rows: int) -> float:
        """Return the seconds until `rows` more may be worked on."""
        if self._schedule is None:
            return 0.0
        seconds, self._free_at = self._schedule.book(rows, free_at=self._free_at)
        return seconds

    def count(self, loan: int, rows: int) -> None:
        """Count rows of a loan."""
        self._rows[loan] += rows

    def counted(self) -> dict[int, int]:
        """Return the rows of each loan since the last call."""
        rows, self._rows = self._rows, Counter()
        return dict(rows)


class InputReader:
    """Reads inputs where they lie, for workers that do not see them."""

    def __init__(self, work: Work[Any, Any]) -> None:
        self._work = work

    def read(self, key: Any) -> Outcome[Any]:
        """Return one input."""
        try:
            return self._work.read(key), None
        except CsdError as error:
            return None, error


@dataclass(frozen=True)
class FetchedInputs:
    """Inputs that another machine's `InputReader` reads, a few of them ahead.

    Attributes:
        reader: The actor.
    """

    reader: Any

    def __call__(self, keys: Iterable[Any]) -> Iterator[Any]:
        """Yield the inputs behind keys.

        Raises:
            CsdError: if one cannot be read.
        """
        coming: deque[Any] = deque()
        for key in keys:
            coming.append(self.reader.read.remote(key))
            if len(coming) > AHEAD:
                yield _result(coming.popleft())
        while coming:
            yield _result(coming.popleft())


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a worker says when it has started.

    Attributes:
        machine: Address of its node.
        versions: Of what must be the same on all machines.
    """

    machine: str
    versions: dict[str, str]


class Worker(Generic[Item, Result]):
    """A process on some machine, with one session of the model."""

    def __init__(self, work: Work[Item, Result], *, mark: str, desk: Any, reader: Any, throttled: bool) -> None:
        self._work = work if _sees(work, mark) else work.reading(FetchedInputs(reader))
        self._desk, self._throttled = desk, throttled

    def hello(self) -> Hello:
        """Return who this is."""
        address: str = imported().util.get_node_ip_address()
        return Hello(machine=address, versions=versions())

    def do(self, loan: int, item: Item) -> tuple[Outcome[Result], int]:
        """Work on an item; return what came of it, and its rows, which the desk is told on the way."""
        tally = _Tally(self._desk, loan)
        try:
            result = self._work(item, Pace(throttle=self._wait if self._throttled else None, report=tally.add))
        except CsdError as error:
            return (None, error), tally.rows
        return (result, None), tally.rows

    def _wait(self, rows: int) -> None:
        time.sleep(imported().get(self._desk.book.remote(rows)))


class _Tally:
    """Counts the rows of a loan, and tells the desk now and then.

    Attributes:
        rows: All of them.
    """

    def __init__(self, desk: Any, loan: int) -> None:
        self.rows = self._told_rows = 0
        self._desk, self._loan, self._told_at = desk, loan, time.monotonic()

    def add(self, rows: int) -> None:
        self.rows += rows
        now = time.monotonic()
        if now - self._told_at > TELL_SECONDS:
            self._desk.count.remote(self._loan, self.rows - self._told_rows)
            self._told_rows, self._told_at = self.rows, now


def _sees(work: Work[Any, Any], mark: str) -> bool:
    """Return whether this machine has the inputs that the mark was taken of."""
    try:
        return work.mark() == mark
    except Exception:  # whatever is not as it is there: no folder, no rights, another format  # noqa: BLE001
        return False


def _result(reference: Any) -> Any:
    result, error = imported().get(reference)
    if error is not None:
        raise error
    return result
