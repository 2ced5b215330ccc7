"""All that the routes of one process share, and its life from the first look at the releases to the last answer."""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

from fastapi import Request
from PIL import Image

from csd_core.live.gallery import LiveGallery
from csd_core.params.model import Params
from csd_core.releases.store import Releases
from csd_core.serving.http.problems import Problem
from csd_core.serving.http.uploads import Decoder
from csd_core.serving.keys import KeyRing
from csd_core.serving.release_manager import ANSWER_SECONDS, ReleaseManager
from csd_core.serving.telemetry import Metrics
from csd_core.serving.writes import Writes
from csd_core.system.errors import CsdError
from csd_core.workspace import Workspace

CLOSE_SECONDS = 5.0
"""How long the threads are waited for at the end; a store or disk that hangs never lets go of one."""
Result = TypeVar("Result")
log = logging.getLogger("csd.serving")


class Service:
    """One process of the service.

    Args:
        files: The project.
        params: Its parameters.
        workers: Processes that share the machine.
        metrics: Of this process.
        keys: Who may ask; None answers everybody.

    Attributes:
        params: Its parameters.
        metrics: Of this process.
        keys: Who may ask; None answers everybody.
        current: Which release is served.
        decoder: Decodes and embeds uploads.
        writes: Writes to the gallery.
    """

    def __init__(
        self, workspace: Workspace, params: Params, *, workers: int, metrics: Metrics, keys: KeyRing | None = None
    ) -> None:
        self.params, self.metrics, self.keys = params, metrics, keys
        threads = params.runtime.threads or max(1, (os.cpu_count() or 1) // workers)
        self.current = ReleaseManager(
            releases=Releases.of(workspace, params.live.releases),
            live=LiveGallery.of(workspace, params),
            params=params,
            threads=threads,
            metrics=metrics,
        )
        self.decoder = Decoder(metrics)
        self.writes = Writes(self.current)
        self._readers = ThreadPoolExecutor(4, "csd-read")

    async def read(self, call: Callable[[], Result]) -> Result:
        """Call a function that reads files or the gallery, on a thread.

        Raises:
            Problem: 503 if there is no answer in time.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._readers, call)
        except TimeoutError:
            what = f"the gallery has not answered for {ANSWER_SECONDS:g} s; send it again later"
            raise Problem(503, "not-ready", what, headers={"Retry-After": "10"}) from None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the active release and follow it; at the end, finish the requests that were taken."""
        Image.MAX_IMAGE_PIXELS = int(self.params.serve.max_megapixels * 1_000_000)  # the decoder refuses above it
        with suppress(CsdError, OSError):  # /readyz tells, and it is looked at again
            await self.current.look()
        following = asyncio.create_task(self.current.run())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            with _in_time():
                self.writes.close()
                self.decoder.close()
                self._readers.shutdown(wait=True)
                self.current.close()


@contextmanager
def _in_time() -> Iterator[None]:
    """End this process if the body takes too long: nobody waits for an answer any more."""

    def end() -> None:
        log.error("ended by force", extra={"reason": f"the gallery has not answered for {CLOSE_SECONDS:g} s"})
        os._exit(1)

    watch = threading.Timer(CLOSE_SECONDS, end)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


async def service_of(request: Request) -> Service:
    """Return the service that a request came to; not async, FastAPI would call it on a thread for each request."""
    service: Service = request.app.state.service
    return service
