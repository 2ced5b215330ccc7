"""Images that come over HTTP, decoded off the event loop as ingest decodes files."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from csd_core.data.decode import Form, decode_large, decode_light, decode_small
from csd_core.data.thumbnails import Fit, encoded
from csd_core.records.stages import ImageForm
from csd_core.serving.http.problems import Problem
from csd_core.serving.loaded_release import Image, LoadedRelease, QueryVectors
from csd_core.serving.telemetry import Metrics
from csd_core.system.errors import DataError

MEDIUM_PATIENCE = 20.0
"""Seconds that an image which costs more than a light one waits for others that do."""
LARGE_PATIENCE = 5.0
"""Seconds that an image which costs much waits for others that do."""


class Decoder:
    """Decodes and embeds uploads.

    An image waits only for those that cost about as much, so a flood of large ones leaves the light ones their threads.

    Args:
        metrics: Told how long decoding takes.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        processors = os.cpu_count() or 1
        self._light = ThreadPoolExecutor(processors, "csd-decode")
        self._medium = _Lane("csd-decode-medium", processors, patience=MEDIUM_PATIENCE)
        self._large = _Lane("csd-decode-large", 1, patience=LARGE_PATIENCE)

    async def thumbnail(self, file: bytes, form: ImageForm, size: int | None) -> bytes | None:
        """Return a small picture of an image, as JPEG; None if it is no larger than its form, or costs too much.

        Args:
            file: The image.
            form: What is stored of it.
            size: Longer side in pixels; None makes none.

        Raises:
            Problem: 429 if it costs more than a light one and others that do are before it.
        """
        if not size:
            return None
        with suppress(DataError):
            picture = await self.image(file, Fit.beside(form, size))
            return await asyncio.wrap_future(self._light.submit(encoded, picture, form))
        return None

    async def image(self, file: bytes, form: Form) -> Image:
        """Return the decoded image, (size, size, channels) uint8, or as the form says.

        Raises:
            DataError: if the file is no whole image of a known format, or costs too much.
            Problem: 429 if it costs more than a light one and others that do are before it.
        """
        light = self._light.submit(self._timed, decode_light, file, form)
        image = await asyncio.wrap_future(light)
        if image is None:
            image = await self._medium.run(lambda: self._timed(decode_small, file, form))
        if image is None:
            image = await self._large.run(lambda: self._timed(decode_large, file, form))
        assert image is not None  # noqa: S101 - decode_large gives one or raises
        return image

    async def vectors(self, file: bytes, served: LoadedRelease) -> QueryVectors:
        """Return the vectors of an image by each query model; they are remembered by the file's bytes.

        Raises:
            DataError: if the file is no whole image of a known format, or too large.
        """
        key = hashlib.blake2b(file, digest_size=32).digest()
        known = served.remembered(key)
        if known is not None:
            return known
        with served.embedding.expecting():
            vectors = await served.embedding(await self.image(file, served.form))
        served.remember(key, vectors)
        return vectors

    def close(self) -> None:
        """Let the threads end."""
        self._light.shutdown(wait=True)
        self._medium.close()
        self._large.close()

    def _timed(self, decode: Callable[[bytes, Form], Image | None], file: bytes, form: Form) -> Image | None:
        with self._metrics.step("decode"):
            return decode(file, form)


class _Lane:
    """Threads for images that cost about the same, and a limit on how long an image waits for one.

    Args:
        name: Of the threads.
        threads: How many.
        patience: Seconds.
    """

    def __init__(self, name: str, threads: int, *, patience: float) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._turns = asyncio.Semaphore(threads)
        self._patience = patience

    async def run(self, call: Callable[[], Image | None]) -> Image | None:
        """Call on a thread.

        Raises:
            Problem: 429 if none is free in time.
        """
        try:
            await asyncio.wait_for(self._turns.acquire(), self._patience)
        except TimeoutError:
            what = "other large images are being decoded; send it again later"
            raise Problem(429, "too-busy", what, headers={"Retry-After": "5"}) from None
        job = self._threads.submit(call)
        job.add_done_callback(partial(self._end_turn, asyncio.get_running_loop()))  # also if whoever asked has left
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=True)

    def _end_turn(self, loop: asyncio.AbstractEventLoop, _: Future[Image | None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._turns.release)
