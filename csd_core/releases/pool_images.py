"""Images of the pipeline's rows, for the table of a release."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from csd_core.data.encoded import file_of
from csd_core.data.pool import ItemPool, positions_in
from csd_core.data.shards import ITEMS, Shard
from csd_core.data.tables import read_columns
from csd_core.data.thumbnails import Thumbnails
from csd_core.live.images import encode_png
from csd_core.live.rows import StoredImages, Strings
from csd_core.workspace import Workspace


class PoolImages:
    """The pipeline's images, as `live.images` says: stored, or as references into the shards; and their originals.

    Args:
        shards: Whose items; of each, its images stay open, and 100 bytes and its path for each item.
        kept: store or reference.
        thumbnails: Whether those of the canonical sets are stored too.
        workspace: Where the shards and their sources lie.
    """

    def __init__(
        self,
        shards: Iterable[Shard],
        *,
        kept: Literal["store", "reference"],
        thumbnails: bool,
        workspace: Workspace,
    ) -> None:
        self._kept, self._workspace = kept, workspace
        self._originals: list[Thumbnails | None] = []
        lean: list[Shard] = []
        paths: list[pa.Table] = []
        at: list[npt.NDArray[np.intp]] = []
        ids: list[npt.NDArray[np.bytes_]] = []
        for shard in shards:
            stored = Thumbnails(workspace.source(shard.record.source)) if kept == "store" and thumbnails else None
            self._originals.append(stored)
            at.append(np.full(len(shard.ids), -1) if stored is None else stored.rows(shard.ids))
            paths.append(read_columns(workspace.shard(shard.record.task) / ITEMS, ("source", "path")))
            nothing = np.empty(0, np.str_)
            ids.append(np.char.encode(shard.ids, "utf-8"))
            lean.append(replace(shard, ids=nothing, labels=nothing, splits=nothing))
        self._pool = ItemPool(shards=lean)
        self._ids = np.concatenate(ids)
        self._by_id = np.argsort(self._ids, kind="stable")
        self._starts = np.cumsum([0, *map(len, ids)])
        self._paths = pa.concat_tables(paths).combine_chunks()
        self._at = np.concatenate(at)

    def __call__(self, ids: Strings, /) -> StoredImages:
        """Images of `ids`, in their order."""
        positions = positions_in(self._ids, np.char.encode(ids, "utf-8"), order=self._by_id)
        known_by = self._paths.take(pa.array(positions))
        sources, paths = ([each or "" for each in known_by[name].to_pylist()] for name in ("source", "path"))
        if self._kept == "store":
            return StoredImages(
                [encode_png(image) for image in self._pool.images(positions)],
                [None] * len(ids),
                self._thumbnails(positions),
                sources=sources,
                paths=paths,
            )
        owners = np.searchsorted(self._starts, positions, side="right") - 1
        shards = [
            (self._workspace.shard(shard.record.task) / file_of(shard.images))
            .relative_to(self._workspace.root)
            .as_posix()
            for shard in self._pool.shards
        ]
        rows = (positions - self._starts[owners]).tolist()
        refs = [f"{shards[owner]}#{row}" for owner, row in zip(owners.tolist(), rows, strict=True)]
        return StoredImages([None] * len(ids), refs, sources=sources, paths=paths)

    def _thumbnails(self, positions: npt.NDArray[np.intp]) -> list[bytes | None]:
        owners = (np.searchsorted(self._starts, positions, side="right") - 1).tolist()
        pairs = zip((self._originals[owner] for owner in owners), self._at[positions].tolist(), strict=True)
        return [originals.at(row) if originals else None for originals, row in pairs]
