"""Vectors that lie somewhere, read in batches of (ids, vectors): what a file, an index or a store has in common.

n rows of a batch, N of all, D dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from csd_core.data.tables import Strings
from csd_core.stores.parquet_file import ParquetFile
from csd_core.stores.protocol import BATCH_ROWS, Store
from csd_core.system.errors import ArtifactError, CompatibilityError, message_of

Floats = npt.NDArray[np.float32]

FORMATS = ".npy (ids in .ids.txt), .parquet, .lance, .faiss or .index"
"""What `open_vectors` reads."""


class VectorSource(Protocol):
    """Rows of (id, vector); they need not be of unit length."""

    @property
    def dimension(self) -> int:
        """D."""

    @property
    def rows(self) -> int:
        """N."""

    def batches(self) -> Iterator[tuple[Strings, Floats]]:
        """Yield (n,) ids and (n, D) float32 vectors, n at most 8,192, until all rows were yielded."""


def open_vectors(path: Path, *, id_column: str = "id", ids: Strings | None = None) -> VectorSource:
    """Open vectors by the ending of their name.

    Args:
        path: The file; for .lance the folder of a LanceDB table.
        id_column: Column of ids, of a table.
        ids: (N,) for an .npy or a FAISS index without ids of its own: row by row the same items.

    Raises:
        ArtifactError: if it is missing, damaged or of another format, or has no ids.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: there is no such file of vectors; give {FORMATS}")
    match path.suffix.lower():
        case ".npy":
            return _Array.open(path, ids)
        case ".parquet":
            return _Stored.open(ParquetFile(path, name=str(path), id=id_column, vector=None))
        case ".lance":
            from csd_core.stores.lance import LanceTable  # noqa: PLC0415 - takes a second to import

            folder = path.absolute().parent
            return _Stored.open(LanceTable(folder, name=str(path), table=path.stem, id=id_column, vector=None))
        case ".faiss" | ".index":
            return _FaissIndex.open(path, ids)
        case ending:
            raise ArtifactError(
                f"{path}: vectors cannot be read from {ending or 'a name without ending'}; give {FORMATS}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Array:
    """An .npy file of (N, D) numbers, memory-mapped."""

    ids: Strings
    array: npt.NDArray[Any]

    @classmethod
    def open(cls, path: Path, ids: Strings | None) -> "_Array":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{path}: not a whole .npy file ({error}); write it with numpy.save") from None
        if array.ndim != 2 or array.dtype.kind not in "fiu":  # noqa: PLR2004 - N, D
            raise ArtifactError(f"{path}: holds {array.dtype} {array.shape}; vectors are real numbers (N, D)")
        listed = path.with_suffix(".ids.txt")
        if listed.is_file():
            ids = _listed(listed)
        return cls(ids=_row_by_row(ids, len(array), path, listed.name), array=array)

    @property
    def dimension(self) -> int:
        return int(self.array.shape[1])

    @property
    def rows(self) -> int:
        return len(self.array)

    def batches(self) -> Iterator[tuple[Strings, Floats]]:
        for start in range(0, self.rows, BATCH_ROWS):
            some = slice(start, start + BATCH_ROWS)
            with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and told as that
                yield self.ids[some], np.asarray(self.array[some], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stored:
    """A Parquet file or a table of LanceDB, read as an upgrade of it does."""

    store: Store
    dimension: int

    @classmethod
    def open(cls, store: Store) -> "_Stored":
        first = next(iter(store.rows()), None)
        if first is None:
            raise ArtifactError(f"{store.name}: has no rows with a vector; write the vectors again")
        return cls(store=store, dimension=first.vectors.shape[1])

    @property
    def rows(self) -> int:
        return self.store.count()

    def batches(self) -> Iterator[tuple[Strings, Floats]]:
        for some in self.store.rows():
            if some.vectors.shape[1] != self.dimension:
                raise CompatibilityError(
                    f"{self.store.name}: has vectors of {self.dimension} and {some.vectors.shape[1]} dimensions; keep "
                    "rows of one model in a table of their own"
                )
            yield some


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _FaissIndex:
    """A FAISS index that can reconstruct its vectors; ids are those of an IndexIDMap, or given."""

    ids: Strings
    index: Any
    owner: Any  # whose memory the index is in

    @classmethod
    def open(cls, path: Path, ids: Strings | None) -> "_FaissIndex":
        import faiss  # noqa: PLC0415 - takes a second to import

        try:
            index = owner = faiss.read_index(str(path))
            if isinstance(owner, faiss.IndexIDMap):
                ids = faiss.vector_to_array(owner.id_map).astype(np.str_)
                index = faiss.downcast_index(owner.index)
            if isinstance(index, faiss.IndexIVF):
                index.make_direct_map()
            if index.ntotal:
                index.reconstruct_n(0, 1)
        except RuntimeError as error:
            reason = message_of(error).rpartition(": ")[2]  # without the function and the place in FAISS's source
            raise ArtifactError(f"{path}: FAISS cannot give its vectors ({reason}); export them to .npy") from None
        return cls(ids=_row_by_row(ids, index.ntotal, path, "an IndexIDMap"), index=index, owner=owner)

    @property
    def dimension(self) -> int:
        return int(self.index.d)

    @property
    def rows(self) -> int:
        return int(self.index.ntotal)

    def batches(self) -> Iterator[tuple[Strings, Floats]]:
        for start in range(0, self.rows, BATCH_ROWS):
            count = min(BATCH_ROWS, self.rows - start)
            yield self.ids[start : start + count], self.index.reconstruct_n(start, count)


def _listed(file: Path) -> Strings:
    """Return the lines of a file of ids; an id may hold any character but the end of a line."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # reading makes every end of a line this one
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{file}: is not UTF-8 (byte {error.start}); write it so, one id a line") from None
    return np.array(lines[:-1] if lines[-1] == "" else lines, np.str_)


def _row_by_row(ids: Strings | None, rows: int, path: Path, where: str) -> Strings:
    if ids is None:
        raise ArtifactError(f"{path}: its {rows:,} vectors have no ids; put them in {where}")
    if len(ids) != rows:
        raise ArtifactError(f"{path}: has {rows:,} vectors for {len(ids):,} ids; put one id for each in {where}")
    return ids
