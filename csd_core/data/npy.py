"""A .npy file written row by row: its length need not be known before, and only a chunk is in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from csd_core.system.errors import ArtifactError


class RowWriter:
    """Appends rows of one shape.

    Attributes:
        rows: Written so far.
    """

    def __init__(self, file: BinaryIO, row_shape: tuple[int, ...]) -> None:
        self.rows = 0
        self._file, self._row_shape = file, row_shape
        self._write_header()
        self._data = file.tell()

    def append(self, rows: npt.NDArray[np.uint8]) -> None:
        """Write (n, *row_shape) uint8 behind the others.

        Raises:
            ValueError: if the rows have another shape or type.
        """
        if rows.shape[1:] != self._row_shape or rows.dtype != np.uint8:
            raise ValueError(f"rows are {rows.dtype} {rows.shape}, expected uint8 (n, {self._row_shape})")
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Write the length."""
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._data:  # numpy pads headers so that the first axis can grow in place
            raise ValueError(f"the header grew from {self._data} to {self._file.tell()} bytes")

    def _write_header(self) -> None:
        shape = (self.rows, *self._row_shape)
        npy_format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@contextmanager
def write_rows(path: Path, row_shape: tuple[int, ...]) -> Iterator[RowWriter]:
    """Yield a writer of `path`; the file is valid once the block has ended without an error."""
    with path.open("wb") as file:
        writer = RowWriter(file, row_shape)
        yield writer
        writer.finish()


def map_images(path: Path) -> npt.NDArray[np.uint8]:
    """Images (N, H, W, C) uint8 of a .npy file, memory-mapped read-only.

    Raises:
        ArtifactError: if the file is missing, cut short or holds something else.
    """
    try:
        images: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; run `csd run` to make it") from None
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"{path}: not a whole .npy file ({error}); make it again") from None
    if images.ndim != 4 or images.dtype != np.uint8:  # noqa: PLR2004 - N, H, W, C
        raise ArtifactError(f"{path}: holds {images.dtype} {images.shape}, expected uint8 (N, H, W, C); make it again")
    return images
