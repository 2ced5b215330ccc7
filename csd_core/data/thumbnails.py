"""A small picture of each original, for people to look at: no model sees it.

    thumbnails.arrow   id, thumbnail: the items of a canonical set whose original is larger than the form

It is JPEG in colour, upright, of the same part of the original as the form's pixels, and carries no metadata.
"""

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from csd_core.data.pixels import Form, Pixels, as_array, in_form
from csd_core.data.tables import Strings
from csd_core.system.errors import ArtifactError

THUMBNAILS = "thumbnails.arrow"
MEDIA_TYPE = "image/jpeg"
_QUALITY = 80
_SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("thumbnail", pa.binary(), nullable=False)])


class Fit(NamedTuple):
    """The form of a thumbnail: `decode` makes one of a file."""

    size: int
    """Its longer side has at most so many pixels."""
    channels: int = 3
    resize: Literal["fit"] = "fit"
    crop_share: float = 1.0
    background: str = "black"
    resampling: str = "bicubic"
    shorter_side: int | None = None

    @classmethod
    def beside(cls, form: Form, size: int) -> "Fit":
        """Return the form of the thumbnail of an image in `form`; transparency lies on the same background."""
        return cls(size, background=form.background)


def encoded(picture: Pixels, form: Form) -> bytes | None:
    """Return a thumbnail as JPEG; None where it shows no more than the image in its form does.

    Args:
        picture: (h, w, C) uint8, as decoded to `Fit`.
        form: Of the image that is stored beside it.
    """
    if max(picture.shape[:2]) <= form.size:
        return None
    buffer = io.BytesIO()
    _image(picture).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def of_arrays(images: Pixels, form: Form, size: int | None) -> tuple[bytes | None, ...]:
    """Return the thumbnails of images that came as an array (N, h, w, C); none where `size` is None."""
    if size is None or max(images.shape[1:3]) <= form.size:
        return ()
    return tuple(encoded(as_array(in_form(_image(image), Fit.beside(form, size))), form) for image in images)


class ThumbnailWriter:
    """Writes the thumbnails of a canonical set; without any there is no file.

    Args:
        folder: Of the set.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / THUMBNAILS
        self._file: pa.ipc.RecordBatchFileWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()

    def append(self, ids: Sequence[str], thumbnails: Sequence[bytes | None]) -> None:
        """Write those of some items; an item without one is passed over."""
        pairs = [(identity, each) for identity, each in zip(ids, thumbnails, strict=True) if each is not None]
        if not pairs:
            return
        self._file = self._file or pa.ipc.new_file(self._path, _SCHEMA)
        self._file.write_batch(pa.record_batch([pa.array(column) for column in zip(*pairs, strict=True)], _SCHEMA))


class Thumbnails:
    """The thumbnails of a canonical set, mapped from disk.

    Args:
        folder: Of the set; where it is not there, or has none, no item has one.

    Raises:
        ArtifactError: if the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / THUMBNAILS
        self._rows = _SCHEMA.empty_table()
        with suppress(FileNotFoundError):
            try:
                self._rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            except pa.ArrowInvalid as error:
                raise ArtifactError(f"{path}: not a whole Arrow file ({error}); ingest the source again") from None

    def rows(self, ids: Strings) -> npt.NDArray[np.intp]:
        """Return (N,) where the thumbnails of some items are; -1 for those that have none."""
        found = pc.index_in(pa.array(ids.tolist(), pa.string()), value_set=self._rows["id"])
        positions: npt.NDArray[np.intp] = found.fill_null(-1).to_numpy().astype(np.intp)
        return positions

    def at(self, row: int) -> bytes | None:
        """Return the thumbnail of a row; None for -1."""
        return None if row < 0 else self._rows["thumbnail"][row].as_py()

    def of(self, item: str) -> bytes | None:
        """Return the thumbnail of an item; None where it has none."""
        return self.at(pc.index(self._rows["id"], item).as_py())


def _image(picture: Pixels) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
