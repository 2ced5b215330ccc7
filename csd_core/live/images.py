"""The image of a row: PNG bytes beside its vector, or a reference from which it can be fetched again.

A reference is a path (relative ones start at the project's folder), an http(s) address, or `FILE.npy#ROW`: a row of a
shard's images. Pixels are canonical, so PNG keeps them exactly.
"""

import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from csd_core.data.decode import decode, resize
from csd_core.data.npy import map_images
from csd_core.data.pool import ItemPool
from csd_core.live.rows import StoredImages, Strings
from csd_core.records.stages import ImageForm
from csd_core.system.errors import ArtifactError, DataError
from csd_core.workspace import Workspace

Pixels = npt.NDArray[np.uint8]

LARGEST = 64 << 20
"""Bytes fetched from an address at most."""
PATIENCE = 20.0
"""Seconds an address may take to answer."""
_COMPRESSION = 1  # of zlib: small images gain nothing from more


class RowImages(Protocol):
    """Whatever gives the images of rows by id, a batch at a time."""

    def __call__(self, ids: Strings, /) -> StoredImages:
        """Images of `ids`, in their order."""


class FetchedImages(NamedTuple):
    """Images that were found, and what became of the others."""

    ids: Strings
    """(N,) of those found."""
    images: Pixels
    """(N, H, W, C) uint8."""
    failed: dict[str, str]
    """Id -> reason."""


class PoolImages:
    """The pipeline's images, as `live.images` says: stored, or as references into the shards.

    Args:
        pool: Whose items.
        kept: store or reference.
        workspace: Where its shards lie.
    """

    def __init__(self, pool: ItemPool, *, kept: Literal["store", "reference"], workspace: Workspace) -> None:
        self._pool, self._kept, self._workspace = pool, kept, workspace
        self._starts = np.cumsum([0, *(len(shard.ids) for shard in pool.shards)])

    def __call__(self, ids: Strings, /) -> StoredImages:
        """Images of `ids`, in their order."""
        positions = self._pool.positions(ids)
        if self._kept == "store":
            return StoredImages([encode_png(image) for image in self._pool.images(positions)], [None] * len(ids))
        owners = np.searchsorted(self._starts, positions, side="right") - 1
        shards = [
            (self._workspace.shard(shard.record.task) / "images.npy").relative_to(self._workspace.root).as_posix()
            for shard in self._pool.shards
        ]
        rows = (positions - self._starts[owners]).tolist()
        refs = [f"{shards[owner]}#{row}" for owner, row in zip(owners.tolist(), rows, strict=True)]
        return StoredImages([None] * len(ids), refs)


def encode_png(image: Pixels) -> bytes:
    """An (H, W, C) uint8 image, C 1 or 3, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def content_id(image: Pixels) -> str:
    """The id that ingest gives an image in its canonical form."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def fetch(ref: str, *, form: ImageForm, root: Path) -> Pixels:
    """(size, size, channels) uint8 of an image at a path or an http(s) address.

    Raises:
        DataError: with the reason, if it is not there or not an image.
    """
    if ref.startswith(("http://", "https://")):
        return decode(_download(ref), form)
    path = root / ref.removeprefix("file://")
    if not path.is_file():
        raise DataError(f"{ref}: there is no such file")
    return decode(path, form)


def pixels(stored: StoredImages, ids: Strings, *, form: ImageForm, root: Path) -> FetchedImages:
    """Decode the images of rows, as ingest would have.

    Args:
        stored: Their images or references.
        ids: (N,) of the rows.
        form: What to make of them.
        root: Where relative references start.
    """
    images = np.empty((len(ids), form.size, form.size, form.channels), np.uint8)
    found: list[int] = []
    failed: dict[str, str] = {}
    read_row = _RowReader(root)
    for row, (png, ref, identity) in enumerate(zip(stored.png, stored.refs, ids.tolist(), strict=True)):
        try:
            images[row] = _one(png, ref, identity, form=form, root=root, read_row=read_row)
            found.append(row)
        except (DataError, ArtifactError) as error:
            failed[identity] = str(error)
    return FetchedImages(ids[found], images if len(found) == len(ids) else images[found], failed)


def _one(
    png: bytes | None,
    ref: str | None,
    identity: str,
    *,
    form: ImageForm,
    root: Path,
    read_row: Callable[[str, int], Pixels],
) -> Pixels:
    if png is not None:
        return decode(png, form)
    if not ref:
        raise DataError("has neither an image nor a reference to one")
    name, _, row = ref.rpartition("#")
    if name.endswith(".npy") and row.isdecimal():
        image = read_row(name, int(row))
        if content_id(image) != identity:
            raise DataError(f"{ref} holds another image now")
        resized: Pixels = resize(image[None], form)[0]
        return resized
    return fetch(ref, form=form, root=root)


class _RowReader:
    """Reads rows of image arrays; each file is mapped once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._maps: dict[str, Pixels] = {}

    def __call__(self, name: str, row: int) -> Pixels:
        """(H, W, C) uint8."""
        if name not in self._maps:
            self._maps[name] = map_images(self._root / name)
        images = self._maps[name]
        if row >= len(images):
            raise DataError(f"{name} has {len(images)} images, no row {row}")
        image: Pixels = images[row]
        return image


def _download(address: str) -> bytes:
    request = urllib.request.Request(address, headers={"User-Agent": "csd"})  # noqa: S310 - http and https only
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - as above
            content: bytes = answer.read(LARGEST + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DataError(f"{address} cannot be fetched: {getattr(error, 'reason', error)}") from None
    if len(content) > LARGEST:
        raise DataError(f"{address} has more than {LARGEST >> 20} MiB")
    return content
