"""Which release a process serves, and how the next one takes over while requests are answered.

The pointer of the releases is looked at every `serve.poll_seconds`. A new release is loaded and examined beside the old
one; then new requests get it, while those that hold the old one are answered from it to their end. A release that is
unfit is refused, and the old one stays.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Literal, NamedTuple

from csd_core.live.gallery import LiveGallery
from csd_core.params.model import Params
from csd_core.releases.contents.release import Release
from csd_core.releases.store import Releases
from csd_core.serving.http.problems import Problem
from csd_core.serving.loaded_release import LoadedRelease
from csd_core.serving.release_loader import ReleaseLoader
from csd_core.serving.telemetry import Metrics
from csd_core.system.errors import ArtifactError, CsdError, StorageError

RETRY_REFUSED = 5.0
"""Seconds after which a release that was refused is examined again."""
ANSWER_SECONDS = 25.0
"""How long a request waits for the gallery; a store that hangs is given up much later."""
LOOK_SECONDS = 10.0
"""How long the gallery may take to say whether its rows changed."""
IDLE_BEFORE = 300.0
"""Seconds after which the release before is let go if nobody asks for it."""

log = logging.getLogger("csd.serving")


class Refused(NamedTuple):
    """A release that is active but not served."""

    release: str
    reason: str
    at: float
    """Of the monotonic clock."""


class Trouble(NamedTuple):
    """Why the served release may not be the active one, although it still answers."""

    reason: str
    is_lost: bool
    """It is not known which release is active; otherwise only the rows may be old."""


class ReleaseManager:
    """The release that a process serves.

    Args:
        releases: Of the project.
        live: Its live gallery.
        params: Its parameters.
        threads: Of each model's session.
        metrics: Told of upgrades.

    Attributes:
        refused: The active release, if it is not served; None while all is well.
        trouble: What the last look could not read; None while all is well.
        active: Name of the release that was active at the last look that could read it.
        looked_at: When that was, of the monotonic clock.
    """

    def __init__(
        self, *, releases: Releases, live: LiveGallery, params: Params, threads: int, metrics: Metrics
    ) -> None:
        self.releases, self.live, self.params, self.metrics = releases, live, params, metrics
        self.refused: Refused | None = None
        self.trouble: Trouble | None = None
        self.active: str | None = None
        self.looked_at = time.monotonic()
        self._loader = ReleaseLoader(releases=releases, live=live, params=params, threads=threads, metrics=metrics)
        self._served: LoadedRelease | None = None
        self._before: LoadedRelease | None = None
        self._loading = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._wake = asyncio.Event()
        self._looker = ThreadPoolExecutor(1, "csd-look")

    @property
    def served(self) -> LoadedRelease:
        """The release that new requests get.

        Raises:
            Problem: 503 if there is none yet.
        """
        if self._served is None:
            reason = "no release is active yet; publish one with `csd publish`"
            if known := self.trouble or self.refused:
                reason = known.reason
            raise Problem(503, "not-ready", reason, headers={"Retry-After": "2"})
        return self._served

    @property
    def is_ready(self) -> bool:
        """Whether there is a release to answer from."""
        return self._served is not None

    @asynccontextmanager
    async def lease(self, which: Literal["active", "before"] = "active") -> AsyncIterator[LoadedRelease]:
        """Hold a release while a request is answered from it.

        Args:
            which: The active release, or the one before it.

        Raises:
            Problem: 503 if there is none yet, 404 if there is none before.
        """
        served = self.served if which == "active" else await self._release_before()
        served.leases += 1
        served.used_at = time.monotonic()
        try:
            yield served
        finally:
            served.leases -= 1

    async def run(self) -> None:
        """Look every `serve.poll_seconds`, and soon after a write, until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self.params.serve.poll_seconds)
            self._wake.clear()
            try:
                await self.look()
            except (CsdError, OSError):
                pass  # it is the trouble that /readyz tells
            except Exception:
                log.exception("reading the releases failed")

    def look_soon(self) -> None:
        """Let searches find what was just written here before the next poll."""
        self._wake.set()

    async def look(self, *, patient: bool = True) -> None:
        """Serve the release that is active now, and the rows as they are now.

        Args:
            patient: Rows that take long to load are not loaded every time.

        Raises:
            CsdError: if the rows cannot be read.
            OSError: if the releases cannot.
        """
        async with self._looking:
            lost = True
            try:
                pointer = await self._loader.in_background(self._pointer)
                self.active, self.looked_at = pointer, time.monotonic()
                await self._follow(pointer)
                lost = False
                if self._served is not None:
                    served = self._served
                    token = await self._token_of(served)
                    if await self._loader.in_background(lambda: served.refresh(token, patient=patient)):
                        self.metrics.gallery_rows(served.snapshot.count)
            except (CsdError, OSError) as error:
                self._note(Trouble(str(error), lost and not isinstance(error, StorageError)))
                raise
            self._note(None)
            if self._before is not None and time.monotonic() - self._before.used_at > IDLE_BEFORE:
                self._before = None

    def close(self) -> None:
        """Let the threads end."""
        self._looker.shutdown(wait=True)
        self._loader.close()

    async def _token_of(self, served: LoadedRelease) -> str:
        """The token of the rows as they are stored now.

        Raises:
            StorageError: if the gallery does not answer in time.
        """
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._looker, served.stored)
        except TimeoutError:
            raise StorageError(
                f"live gallery {self.live.uri}: its store or disk has not answered for {LOOK_SECONDS:g} s; see that it "
                "can be reached"
            ) from None

    def _pointer(self) -> str | None:
        """Return the name of the active release.

        Raises:
            ArtifactError: if there is none any more, or its files are gone.
        """
        pointer = self.releases.pointer()
        if self._served is None:
            return pointer
        if pointer is None:
            raise ArtifactError(
                f"{self.releases.place}: its file `current`, which names the active release, is gone; restore it, "
                "then run `csd verify`"
            )
        release = self._served.release
        if pointer == release.name and not release.embedder.is_file():
            raise ArtifactError(f"{release.embedder}: the file is gone; restore it, then run `csd verify`")
        return pointer

    async def _follow(self, pointer: str | None) -> None:
        """Load the active release, if it is not the one served."""
        if pointer is not None and (self._served is None or pointer != self._served.release.name):
            await self._take_over(pointer)
        elif self.refused:  # rolled back to what is served
            self._refuse(None)

    def _note(self, trouble: Trouble | None) -> None:
        """Remember what is wrong, and log it once."""
        if trouble != self.trouble and trouble is not None:
            log.error("releases or gallery unreadable", extra={"reason": trouble.reason})
        elif trouble is None and self.trouble is not None:
            log.info("releases and gallery readable again")
        self.trouble = trouble

    async def _take_over(self, pointer: str) -> None:
        """Load and examine the active release; serve it, or refuse it and keep the old one."""
        if self.refused and self.refused.release == pointer and time.monotonic() - self.refused.at < RETRY_REFUSED:
            return
        start = time.monotonic()
        try:
            served = await self._loader.load(self.releases.active)
        except (CsdError, OSError) as error:
            self._refuse(Refused(pointer, str(error), time.monotonic()))
            log.error("release refused", extra={"release": pointer, "reason": str(error)})  # noqa: TRY400 - one line, no traceback
            return
        if served is None:
            return
        old, self._served, self._before = self._served, served, None
        self._refuse(None)
        record = served.release.record
        self.metrics.release(record.number, variant=served.model.variant)
        self.metrics.gallery_rows(served.snapshot.count)
        self.metrics.upgrade(served=True)
        log.info(
            "release served",
            extra={
                "release": record.number,
                "before": old.release.number if old else None,
                "rows": served.snapshot.count,
                "seconds": round(time.monotonic() - start, 3),
                "draining": old.leases if old else 0,
            },
        )

    def _refuse(self, refused: Refused | None) -> None:
        if refused is not None:
            self.metrics.upgrade(served=False)
        self.metrics.refused(yes=refused is not None)
        self.refused = refused

    async def _release_before(self) -> LoadedRelease:
        """Return the release before the active one; it is loaded when it is first asked for."""
        active = self.served.release
        async with self._loading:
            if self._before is None:
                number = active.record.parent
                if number is None:
                    raise Problem(
                        404, "no-release-before", f"release {active.number} is the first; there is none before it"
                    )

                def unless_retired() -> Release | None:
                    release = self.releases.get(number)
                    return None if self.releases.is_retired(release) else release

                before = await self._loader.load(unless_retired)
                if before is None:
                    raise Problem(
                        404, "no-release-before", f"release {number} was retired: its model and rows are gone"
                    )
                if self.served.release.name != active.name:
                    raise Problem(
                        503,
                        "not-ready",
                        "another release has just become active; send it again",
                        headers={"Retry-After": "1"},
                    )
                self._before = before
            return self._before
