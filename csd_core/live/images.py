"""The image of a row: PNG bytes beside its vector, or a reference from which it can be fetched again.

A reference is a path (relative ones start at the project's folder), an http(s) address, or `FILE.npy#ROW`: a row of a
shard's images. Pixels are canonical, so PNG keeps them exactly.
"""

import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from csd_core.data.decode import Form, decode, resize
from csd_core.data.encoded import EncodedImages, Images, open_images
from csd_core.data.thumbnails import Fit, Thumbnails, encoded
from csd_core.live.rows import StoredImages, Strings
from csd_core.records.stages import ImageForm
from csd_core.system.errors import ArtifactError, DataError
from csd_core.workspace import Workspace

Pixels = npt.NDArray[np.uint8]

NO_IMAGE = "has neither an image nor a reference to one"
LARGEST = 64 << 20
"""Bytes fetched from an address at most."""
PATIENCE = 20.0
"""Seconds an address may take to answer."""
_ADDRESSES = ("http://", "https://")
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


def encode_png(image: Pixels) -> bytes:
    """An (H, W, C) uint8 image, C 1 or 3, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def content_id(image: Pixels) -> str:
    """The id that ingest gives an image in its canonical form."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def fetch(ref: str, *, form: Form, root: Path) -> Pixels:
    """(size, size, channels) uint8, or as the form says, of an image at a path or an http(s) address.

    Raises:
        DataError: with the reason, if it is not there or not an image.
    """
    if ref.startswith(_ADDRESSES):
        return decode(_download(ref), form)
    return decode(_file(ref, root=root), form)


def picture(row: Mapping[str, Any], *, form: ImageForm, size: int | None, root: Path) -> bytes | None:
    """Return the thumbnail of a row's original, stored or made of what the row refers to.

    Args:
        row: Its columns id and IMAGES.
        form: Of its image; an original that is no larger has no thumbnail.
        size: Longer side in pixels; None makes none.
        root: Where relative references and the canonical sets are.

    Returns:
        JPEG; None where there is none, or it cannot be had.

    Raises:
        ArtifactError: if a canonical set's thumbnails are damaged.
    """
    if row["thumbnail"] is not None or row["image"] is not None or not row["image_ref"] or not size:
        thumbnail: bytes | None = row["thumbnail"]
        return thumbnail
    if _in_array(row["image_ref"]):  # a shard's; its canonical set may have the thumbnail
        return Thumbnails(Workspace(root).source(row["source"])).of(row["id"]) if row["source"] else None
    return thumbnail_of(row["image_ref"], form=form, size=size, root=root)


def thumbnail_of(ref: str, *, form: ImageForm, size: int | None, root: Path) -> bytes | None:
    """Return a small picture of an image at a path or an http(s) address, as JPEG.

    Args:
        ref: Of the image.
        form: What is stored of it; an image that is no larger has no thumbnail.
        size: Longer side in pixels; None makes none.
        root: Where relative references start.
    """
    try:
        return encoded(fetch(ref, form=Fit.beside(form, size), root=root), form) if size else None
    except DataError:
        return None


def unreachable(refs: Mapping[str, str | None], *, root: Path) -> dict[str, str]:
    """Look where the images of rows should be, without reading one; an http(s) address is not asked.

    Args:
        refs: Id -> reference of a row that has no image beside its vector.
        root: Where relative references start.

    Returns:
        Id -> why its image cannot be read.
    """
    found: dict[str, str] = {}
    arrays = _RowReader(root)
    for identity, ref in refs.items():
        if not ref:
            found[identity] = NO_IMAGE
            continue
        try:
            if place := _in_array(ref):
                arrays.images(*place)
            elif not ref.startswith(_ADDRESSES):
                _file(ref, root=root)
        except (DataError, ArtifactError) as error:
            found[identity] = str(error)
    return found


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
    read_row: Callable[[str, int], tuple[Pixels, str]],
) -> Pixels:
    if png is not None:
        return decode(png, form)
    if not ref:
        raise DataError(NO_IMAGE)
    if place := _in_array(ref):
        image, found = read_row(*place)
        if found != identity:
            raise DataError(f"{ref} holds another image now")
        resized: Pixels = resize(image[None], form)[0]
        return resized
    return fetch(ref, form=form, root=root)


def _in_array(ref: str) -> tuple[str, int] | None:
    """File and row of a reference into an array of images."""
    name, _, row = ref.rpartition("#")
    return (name, int(row)) if name.endswith((".npy", ".arrow")) and row.isdecimal() else None


def _file(ref: str, *, root: Path) -> Path:
    path = root / ref.removeprefix("file://")
    if not path.is_file():
        raise DataError(f"{ref}: there is no such file")
    return path


class _RowReader:
    """Reads rows of image arrays; each file is mapped once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._maps: dict[str, Images] = {}

    def images(self, name: str, row: int) -> Images:
        """(N, H, W, C) uint8, N > row."""
        if name not in self._maps:
            self._maps[name] = open_images(self._root / name)
        images = self._maps[name]
        if row >= len(images):
            raise DataError(f"{name} has {len(images)} images, no row {row}")
        return images

    def __call__(self, name: str, row: int) -> tuple[Pixels, str]:
        """Return (H, W, C) uint8 and the item's id."""
        images = self.images(name, row)
        image: Pixels = images[row]
        return image, images.id(row) if isinstance(images, EncodedImages) else content_id(image)


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
