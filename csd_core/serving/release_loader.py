"""How releases are examined and loaded: one at a time, in a thread beside the requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from csd_core.audit.checksums import CHECKSUMS
from csd_core.live.gallery import LiveGallery
from csd_core.params.model import Params
from csd_core.releases.contents.release import Release
from csd_core.releases.store import Releases
from csd_core.releases.verify import problems_of
from csd_core.retrieval.embedder import digest_of
from csd_core.serving.loaded_release import LoadedRelease
from csd_core.serving.telemetry import Metrics
from csd_core.system.errors import ArtifactError

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
            _check_fit(release, self._releases, self._live)
            return LoadedRelease(
                release,
                live=self._live,
                params=self._params,
                threads=self._threads,
                generations=_generations_of(self._releases),
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


def _check_fit(release: Release, releases: Releases, live: LiveGallery) -> None:
    """Examine a release before it is served.

    Raises:
        CsdError: with the first thing that is wrong with it.
    """
    trail = releases.audit.read()
    checksums = trail.checksums_of(release.name)
    if checksums is None and trail.open and trail.open.release == release.name:
        checksums = digest_of(release.folder / CHECKSUMS)  # its publisher examined it and is about to log it
    problem = next(problems_of(release, live, checksums=checksums, rows=False), None)
    if problem is not None:
        raise ArtifactError(f"release {release.name}: {problem}")


def _generations_of(releases: Releases) -> dict[str, int]:
    """Return digest of a model -> number of the release that first served it."""
    found: dict[str, int] = {}
    for each in releases.all():
        found.setdefault(each.record.model, each.number)
    return found
