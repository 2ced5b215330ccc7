"""Images that come over HTTP, decoded off the event loop as ingest decodes files."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from csd_core.data.decode import decode_large, decode_small
from csd_core.records import ImageForm
from csd_core.serving.problems import Problem
from csd_core.serving.served import Image, Served, Vector
from csd_core.serving.telemetry import Metrics

PATIENCE = 5.0
"""Seconds that an image which costs much waits for others that do."""


class Decoder:
    """Decodes and embeds uploads; what needs much memory or time goes one at a time and holds up nothing else.

    Args:
        metrics: Told how long decoding takes.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, "csd-decode")
        self._large = ThreadPoolExecutor(1, "csd-decode-large")
        self._turn = asyncio.Semaphore(1)

    async def image(self, file: bytes, form: ImageForm) -> Image:
        """(size, size, channels) uint8.

        Raises:
            DataError: if the file is no whole image of a known format, or costs too much.
            Problem: 429 if it costs much and others that do are before it.
        """
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(self._threads, self._timed, decode_small, file, form)
        if image is not None:
            return image
        try:
            await asyncio.wait_for(self._turn.acquire(), PATIENCE)
        except TimeoutError:
            raise Problem(
                429,
                "too-busy",
                "other large images are being decoded; send it again later",
                headers={"Retry-After": "5"},
            ) from None
        job = self._large.submit(self._timed, decode_large, file, form)
        job.add_done_callback(partial(self._end_turn, loop))  # when the thread is done, also if whoever asked has left
        image = await asyncio.wrap_future(job)
        assert image is not None  # noqa: S101 - decode_large gives one or raises
        return image

    async def vector(self, file: bytes, served: Served) -> Vector:
        """(D,) of the query model; remembered by the file's bytes.

        Raises:
            DataError: if the file is no whole image of a known format, or too large.
        """
        key = hashlib.blake2b(file, digest_size=32).digest()
        known = served.remembered(key)
        if known is not None:
            return known
        with served.embedding.expecting():
            vector = await served.embedding(await self.image(file, served.query.metadata.form))
        served.remember(key, vector)
        return vector

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=True)
        self._large.shutdown(wait=True)

    def _end_turn(self, loop: asyncio.AbstractEventLoop, _: Future[Image | None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._turn.release)

    def _timed(self, decode: Callable[[bytes, ImageForm], Image | None], file: bytes, form: ImageForm) -> Image | None:
        with self._metrics.step("decode"):
            return decode(file, form)
