"""Images of one shape in an Arrow file, each encoded on its own; read as an array is, decoded when they are asked for.

    images.arrow   id, image: sha256 of the pixels that were encoded, and a WebP or JPEG file of them

WebP keeps every pixel. JPEG does not, so what a model trains on and what the gallery embeds differ a little from what a
query is decoded to; ids are still those of the true pixels.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from csd_core.data.npy import RowWriter, map_images, write_rows
from csd_core.data.pixels import Pixels
from csd_core.system.errors import ArtifactError

ARRAY, ENCODED = "images.npy", "images.arrow"
Rows = npt.NDArray[np.intp]
Written = bytes | memoryview
T = TypeVar("T")
Store = Literal["raw", "webp", "jpeg"]
"""As `data.store` names them."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "webp": {"format": "WEBP", "lossless": True, "method": 0, "exact": True},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
_FIELDS = [pa.field("id", pa.string()), pa.field("image", pa.large_binary())]
_AT_A_TIME = 16
"""Images that a thread takes at once: a task for each would cost more than some of them."""


class Images(Protocol):
    """Images as an array gives them: some of them by position, decoded or read at that moment."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    def __len__(self) -> int:
        """N."""

    @overload
    def __getitem__(self, rows: int, /) -> Pixels: ...
    @overload
    def __getitem__(self, rows: Rows | slice, /) -> Pixels: ...
    def __getitem__(self, rows: int | Rows | slice, /) -> Pixels:
        """Return (H, W, C) or (n, H, W, C) uint8."""


class EncodedImages:
    """The images of an Arrow file, memory-mapped.

    Attributes:
        shape: (N, H, W, C).
        store: How they are encoded.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            ArtifactError: if it is missing, cut short or holds something else.
        """
        self._path = path
        try:
            reader = pa.ipc.open_file(pa.memory_map(os.fspath(path)))
            row = tuple(int(axis) for axis in reader.schema.metadata[b"shape"].split(b","))
            self.store: Store = reader.schema.metadata[b"store"].decode()
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except FileNotFoundError:
            raise ArtifactError(f"{path}: missing; run `csd run` to make it") from None
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: not a whole file of encoded images ({error}); make it again") from None
        self._batches = batches
        self._starts = np.cumsum([0, *(len(batch) for batch in batches)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *row)

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    @overload
    def __getitem__(self, rows: int, /) -> Pixels: ...
    @overload
    def __getitem__(self, rows: Rows | slice, /) -> Pixels: ...
    def __getitem__(self, rows: int | Rows | slice, /) -> Pixels:
        """Return (H, W, C) or (n, H, W, C) uint8.

        Raises:
            ArtifactError: if an image is damaged.
        """
        if isinstance(rows, int):
            return self._decode(range(len(self))[rows])
        places = np.arange(len(self))[rows]
        decoded = np.empty((len(places), *self.shape[1:]), np.uint8)

        def fill(start: int) -> None:
            for place in range(start, min(start + _AT_A_TIME, len(places))):
                decoded[place] = self._decode(int(places[place]))

        _side_by_side(fill, range(0, len(places), _AT_A_TIME))
        return decoded

    def file(self, row: int) -> bytes:
        """Return an image as it is encoded."""
        found: bytes = self._value("image", row).as_py()
        return found

    def id(self, row: int) -> str:
        """Return the sha256 of the pixels that were encoded."""
        found: str = self._value("id", row).as_py()
        return found

    def _value(self, column: str, row: int) -> pa.Scalar:
        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._batches[batch].column(column)[row - int(self._starts[batch])]

    def _decode(self, row: int) -> Pixels:
        try:
            with Image.open(io.BytesIO(self._value("image", row).as_buffer()), formats=("WEBP", "JPEG")) as image:
                pixels = np.asarray(image.convert("L") if self.shape[-1] == 1 else image)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{self._path}: image {row} is damaged ({error}); make the file again") from None
        return pixels.reshape(self.shape[1:])


class ImageWriter(Protocol):
    """Appends images to a file; each method returns what it wrote for them."""

    def append(self, images: Pixels, ids: Sequence[str]) -> Sequence[Written]:
        """Write (n, H, W, C) uint8 and the ids of these pixels."""

    def copy(self, source: Images, rows: Rows, ids: Sequence[str]) -> Sequence[Written]:
        """Write some images of another file, as they are stored there where both are encoded."""


class _ArrayWriter:
    def __init__(self, rows: RowWriter) -> None:
        self._rows = rows

    def append(self, images: Pixels, ids: Sequence[str]) -> Sequence[Written]:  # noqa: ARG002 - the table beside has them
        self._rows.append(images)
        return [np.ascontiguousarray(images).data]

    def copy(self, source: Images, rows: Rows, ids: Sequence[str]) -> Sequence[Written]:
        return self.append(source[rows], ids)


class _EncodedWriter:
    def __init__(self, file: pa.ipc.RecordBatchFileWriter, store: Store) -> None:
        self._file, self._store = file, store

    def append(self, images: Pixels, ids: Sequence[str]) -> Sequence[Written]:
        return self._write(_side_by_side(lambda row: self._encode(images[row]), range(len(images))), ids)

    def copy(self, source: Images, rows: Rows, ids: Sequence[str]) -> Sequence[Written]:
        if not isinstance(source, EncodedImages):
            return self.append(source[rows], ids)
        return self._write([source.file(row) for row in rows.tolist()], ids)

    def _encode(self, image: Pixels) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, **_OPTIONS[self._store])
        return buffer.getvalue()

    def _write(self, files: list[bytes], ids: Sequence[str]) -> list[bytes]:
        columns = [pa.array(ids, pa.string()), pa.array(files, pa.large_binary())]
        self._file.write_batch(pa.record_batch(columns, ["id", "image"]))
        return files


@contextmanager
def write_images(folder: Path, shape: tuple[int, ...], store: Store) -> Iterator[ImageWriter]:
    """Yield the writer of a folder's images; the file is valid once the block has ended without an error.

    Args:
        folder: Where to write images.npy or images.arrow.
        shape: (H, W, C) of each image.
        store: How they are stored.
    """
    if store == "raw":
        with write_rows(folder / ARRAY, shape) as rows:
            yield _ArrayWriter(rows)
        return
    schema = pa.schema(_FIELDS, {"shape": ",".join(map(str, shape)), "store": store})
    with pa.OSFile(os.fspath(folder / ENCODED), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
        yield _EncodedWriter(file, store)


def load_images(folder: Path) -> Images:
    """Open the images of a folder, memory-mapped.

    Raises:
        ArtifactError: if there are none or their file is damaged.
    """
    encoded = folder / ENCODED
    return open_images(encoded if encoded.exists() else folder / ARRAY)


def open_images(file: Path) -> Images:
    """Open a file of images, memory-mapped.

    Raises:
        ArtifactError: if it is missing or damaged.
    """
    return EncodedImages(file) if file.name == ENCODED else map_images(file)


def file_of(images: Images) -> str:
    """Return the name of the file that holds images."""
    return ENCODED if isinstance(images, EncodedImages) else ARRAY


def store_of(images: Images) -> Store:
    """Return how images are stored."""
    return images.store if isinstance(images, EncodedImages) else "raw"


def _side_by_side(do: Callable[[int], T], places: range) -> list[T]:
    """Return what `do` gives for each place, in their order.

    Pillow works without the interpreter's lock; how many threads there are changes no pixel.
    """
    if len(places) == 1:
        return [do(place) for place in places]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(do, places))
