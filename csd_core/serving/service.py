"""All that the routes of one process share, and its life from the first look at the releases to the last answer."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from fastapi import Request
from PIL import Image

from csd_core.errors import CsdError
from csd_core.params import Params
from csd_core.production.live import LiveGallery
from csd_core.production.releases import Releases
from csd_core.serving.current import Current
from csd_core.serving.keys import KeyRing
from csd_core.serving.telemetry import Metrics
from csd_core.serving.uploads import Decoder
from csd_core.serving.writes import Writes
from csd_core.workspace import Workspace

Result = TypeVar("Result")


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
        self, files: Workspace, params: Params, *, workers: int, metrics: Metrics, keys: KeyRing | None = None
    ) -> None:
        self.params, self.metrics, self.keys = params, metrics, keys
        threads = params.runtime.threads or max(1, (os.cpu_count() or 1) // workers)
        self.current = Current(
            releases=Releases.of(files),
            live=LiveGallery.of(files, params),
            params=params,
            threads=threads,
            metrics=metrics,
        )
        self.decoder = Decoder(metrics)
        self.writes = Writes(self.current)
        self._readers = ThreadPoolExecutor(4, "csd-read")

    async def read(self, call: Callable[[], Result]) -> Result:
        """Call on a thread, for what reads files or the gallery."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load what is in force, follow it, and finish what was taken at the end."""
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
            self.writes.close()
            self.decoder.close()
            self._readers.shutdown(wait=True)
            self.current.close()


def service_of(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
