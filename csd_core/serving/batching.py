"""Micro-batching: concurrent items go through one call of a function that works on many at once.

While a call is under way the next items gather. An item that finds it idle waits, at most `wait` seconds,
only if others are on their way; so one client alone never waits.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(NamedTuple, Generic[Item, Result]):
    """An item that is in no call yet."""

    item: Item
    answer: "asyncio.Future[Result]"
    since: float
    """Of the performance counter."""


class MicroBatcher(Generic[Item, Result]):
    """Gathers items of one event loop into calls on a thread.

    Args:
        work: Called with 1 to `size` items; returns a result for each, in their order.
        size: Items of a call at most.
        wait: Seconds that an item waits for others at most while `work` is idle.
        executor: Whose thread calls `work`; one call is under way at a time.
        on_batch: Told, as a call begins and on its thread, the seconds that each of its items waited.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result]],
        *,
        size: int,
        wait: float,
        executor: Executor,
        on_batch: Callable[[Sequence[float]], object] = lambda _: None,
    ) -> None:
        self._work = work
        self._size, self._wait = size, wait
        self._executor = executor
        self._on_batch = on_batch
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._expected = 0
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Announce an item that is on its way; the body may call once, or not at all."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._consider()

    async def __call__(self, item: Item) -> Result:
        """Return the result for one item.

        Raises:
            Exception: what `work` raised; all items of that call get it.
        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, answer, time.perf_counter()))
        self._consider()
        return await answer

    def _consider(self) -> None:
        """Start a call if it is time."""
        while self._waiting and self._waiting[0].answer.done():  # its client is gone
            self._waiting.popleft()
        if self._busy or not self._waiting:
            return
        others = self._expected - len(self._waiting)
        if self._wait > 0 and others > 0 and len(self._waiting) < self._size:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._wait, self._start)
            return
        self._start()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch: list[_Waiting[Item, Result]] = []
        while self._waiting and len(batch) < self._size:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                batch.append(waiting)
        if not batch:
            return
        self._busy = True
        call = asyncio.get_running_loop().run_in_executor(self._executor, self._call, batch)
        call.add_done_callback(lambda done: self._finish(done, [waiting.answer for waiting in batch]))

    def _call(self, batch: Sequence[_Waiting[Item, Result]]) -> Sequence[Result]:
        now = time.perf_counter()
        self._on_batch([now - waiting.since for waiting in batch])
        return self._work([waiting.item for waiting in batch])

    def _finish(self, done: "asyncio.Future[Sequence[Result]]", answers: list["asyncio.Future[Result]"]) -> None:
        self._busy = False
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        results = [None] * len(answers) if error else done.result()
        for answer, result in zip(answers, results, strict=True):
            if answer.done():
                continue
            if error:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]  # None only beside an error
        self._consider()
