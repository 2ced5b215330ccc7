"""Writes to the live gallery: concurrent ones share a commit, and none goes into the table of a replaced release."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np

from csd_core.live.images import encode_png
from csd_core.live.rows import LiveItems, StoredImages
from csd_core.retrieval.gallery import padded
from csd_core.serving.batching import MicroBatcher
from csd_core.serving.http.problems import Problem
from csd_core.serving.loaded_release import Image, LoadedRelease, Vector
from csd_core.serving.release_manager import ANSWER_SECONDS, ReleaseManager
from csd_core.system.errors import ParamsError

LOCK_SECONDS = 20.0
"""How long a write waits for other writers."""
FOLLOW_SECONDS = 20.0
"""How long a write waits for this process to serve a release that has just become active."""
COMMIT = 64
"""Writes of one commit at most."""
_STEP = 0.05


class Put(NamedTuple):
    """An item to write."""

    id: str
    label: str
    image: Image
    name: str | None = None
    """What people know it by."""
    thumbnail: bytes | None = None
    """JPEG of the original; None if that is no larger than the image."""


class Delete(NamedTuple):
    """An item to delete."""

    id: str


class Written(NamedTuple):
    """What became of a write."""

    existed: bool
    """The item was there before."""
    served: LoadedRelease
    """The release in whose table it was written."""


class _MovedError(Exception):
    """Another release became active between the embedding and the write."""


class Writes:
    """Writes of one process, in the order in which they came.

    Args:
        current: The release that is served.
    """

    def __init__(self, current: ReleaseManager) -> None:
        self._current = current
        self._executor = ThreadPoolExecutor(1, "csd-write")
        self._commits: MicroBatcher[Put | Delete, Written | ParamsError] = MicroBatcher(
            self._commit,
            size=COMMIT,
            wait=0,
            executor=self._executor,
            on_batch=lambda waits: current.metrics.batch("write", waits),
        )

    async def __call__(self, write: Put | Delete) -> Written:
        """Write durably; searches of this process find it once its rows were looked at again.

        Raises:
            Problem: 503 if the active release is not the one served, for longer than a hot upgrade takes, or if the
                gallery does not answer in time: then the item may have been written, or may be later.
            CsdError: if the item was erased, or the gallery cannot be written.
        """
        self._refuse_in_trouble()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._written(write)
        except TimeoutError:
            raise Problem(
                503,
                "writes-wait",
                f"the gallery has not answered for {ANSWER_SECONDS:g} s, so it is not known whether the item was "
                "written; send it again (to write it twice changes nothing)",
                headers={"Retry-After": "10"},
            ) from None

    async def _written(self, write: Put | Delete) -> Written:
        """Write into the table of the active release, whichever that becomes meanwhile."""
        deadline = asyncio.get_running_loop().time() + FOLLOW_SECONDS
        while True:
            try:
                written = await self._commits(write)
            except _MovedError:
                await self._current.look()
                self._refuse_in_trouble()
                if self._current.refused or asyncio.get_running_loop().time() > deadline:
                    raise Problem(
                        503,
                        "writes-wait",
                        "this process does not serve the active release, so a write would be lost; /readyz says why",
                        headers={"Retry-After": "10"},
                    ) from None
                await asyncio.sleep(_STEP)
                continue
            if isinstance(written, ParamsError):
                raise written
            return written

    def _refuse_in_trouble(self) -> None:
        """Refuse a write while it is not known where it belongs.

        Raises:
            Problem: 503.
        """
        if self._current.trouble is not None:
            raise Problem(503, "writes-wait", self._current.trouble.reason, headers={"Retry-After": "10"})

    def close(self) -> None:
        """Finish what was taken."""
        self._executor.shutdown(wait=True)

    def _commit(self, writes: list[Put | Delete]) -> Sequence[Written | ParamsError]:
        """On the writer's thread: embed, take the lock, see that the release is still active, write."""
        current = self._current
        served = current.served
        puts = [write for write in writes if isinstance(write, Put)]
        vectors = served.writer(np.stack([put.image for put in puts])) if puts else np.empty((0, 0), np.float32)
        rows = iter(vectors)
        with current.metrics.step("write"), current.live.writing(wait=LOCK_SECONDS):
            if current.releases.pointer() != served.release.name:
                raise _MovedError
            table = served.release.table
            there = current.live.has(table, list({write.id for write in writes}))
            ids = [put.id for put in puts]
            erased = set(current.live.tombstones_of(ids).erased(ids))
            done: list[Written | ParamsError] = []
            for kind, run in groupby(writes, key=type):
                some = list(run)
                for write in some:
                    done.append(
                        ParamsError(f"item {write.id} was erased, and an erased item never comes back")
                        if kind is Put and write.id in erased
                        else Written(existed=there[write.id], served=served)
                    )
                    there[write.id] = kind is Put
                if kind is Put:
                    latest = {put.id: (put, next(rows)) for put in some if isinstance(put, Put)}
                    if kept := [pair for identity, pair in latest.items() if identity not in erased]:
                        current.live.upsert(table, _items(kept, served))
                else:
                    current.live.delete(table, [write.id for write in some], why="deleted over HTTP")
        return done


def _items(embedded: Iterable[tuple[Put, Vector]], served: LoadedRelease) -> LiveItems:
    """As rows. An upload has no address to fetch it from again, so its pixels are kept whatever `live.images` says."""
    puts, vectors = zip(*embedded, strict=True)
    return LiveItems(
        ids=np.array([put.id for put in puts], np.str_),
        labels=np.array([put.label for put in puts], np.str_),
        vectors=padded(np.stack(vectors), served.release.rules.width),
        embedded_by=served.writer.digest,
        images=StoredImages(
            [encode_png(put.image) for put in puts],
            [None] * len(puts),
            [put.thumbnail for put in puts],
            paths=[put.name for put in puts],
        ),
    )
