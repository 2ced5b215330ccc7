"""How releases are examined and loaded: one at a time, in a thread beside the requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from csd_core.live.gallery import LiveGallery
from csd_core.params.model import Params
from csd_core.releases.contents.release import Release
from csd_core.releases.store import Releases
from csd_core.serving.loaded_release import LoadedRelease, check_fit, generations_of
from csd_core.serving.telemetry import Metrics

Result = TypeVar("Result")


class ReleaseLoader:
    """Loads releases for a process, whose threads they share.

    Args:
        releases: Of the project.
        live: Its live gallery.
        params: Its parameters.
        threads: Of each model's session.
        metrics: Handed to the releases.
    """

    def __init__(
        self, *, releases: Releases, live: LiveGallery, params: Params, threads: int, metrics: Metrics
    ) -> None:
        self._releases, self._live, self._params, self._metrics = releases, live, params, metrics
        self._threads = threads
        self._background = ThreadPoolExecutor(1, "csd-load")
        self._compute = ThreadPoolExecutor(1, "csd-embed")
        self._searcher = ThreadPoolExecutor(1, "csd-search")

    async def load(self, find: Callable[[], Release | None]) -> LoadedRelease | None:
        """Examine and load a release; return None if `find` does.

        Args:
            find: Looks it up.

        Raises:
            CsdError: with the first thing that is wrong with it.
        """

        def loaded() -> LoadedRelease | None:
            release = find()
            if release is None:
                return None
            check_fit(release, self._releases, self._live)
            return LoadedRelease(
                release,
                live=self._live,
                params=self._params,
                threads=self._threads,
                generations=generations_of(self._releases),
                compute=self._compute,
                searcher=self._searcher,
                metrics=self._metrics,
            )

        return await self.in_background(loaded)

    async def in_background(self, call: Callable[[], Result]) -> Result:
        """Call in the thread that loads."""
        return await asyncio.get_running_loop().run_in_executor(self._background, call)

    def close(self) -> None:
        """Let the threads end."""
        for executor in (self._background, self._compute, self._searcher):
            executor.shutdown(wait=True)
