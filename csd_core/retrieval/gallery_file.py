"""A gallery on disk, read a batch of rows at a time: what passes over many rows needs no `Gallery` of them all.

G rows, D dimensions; the files are those of `csd_core.retrieval.gallery`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from csd_core.records.gallery import GalleryRecord
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.gallery_rows import CHUNK, COLUMNS, read_files, rows_digest, words_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GalleryFile:
    """A gallery on disk: in memory are its ids and the numbers of its words, some 100 bytes a row.

    Attributes:
        record: How its rows are searched.
        columns: (G,) of each of COLUMNS; all but the ids are dictionary-encoded.
        vectors: (G, D) float32, memory-mapped.
    """

    record: GalleryRecord
    columns: pa.Table
    vectors: npt.NDArray[np.float32]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what `Gallery.save` wrote.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        record, columns, vectors = read_files(folder)
        return cls(record=record, columns=columns, vectors=vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def digest(self) -> str:
        """The same as that of the `Gallery`."""
        return rows_digest(
            ((words_of(self._part(start)[name]).tolist() for start in self._starts()) for name in COLUMNS),
            query_model=self.record.query_model,
            searchable_spaces=self.record.searchable_spaces,
            scoring=self.record.scoring,
            vectors=self.vectors,
        )

    def kinds(self) -> set[tuple[Provenance, str]]:
        """Return the provenances of its rows, each with the space that they are in."""
        found: set[tuple[Provenance, str]] = set()
        for start in self._starts():
            names = ("embedded_by", "adapters", "space")
            rows = zip(*(words_of(self._part(start)[name]).tolist() for name in names), strict=True)
            found |= {(Provenance(model, adapters), space) for model, adapters, space in set(rows)}
        return found

    def parts(self) -> Iterator[Gallery]:
        """Yield the rows in their order, some at a time.

        Raises:
            CompatibilityError: if a vector is not of unit length or a row's space may not be searched.
            ArtifactError: if an id repeats within a part.
        """
        for start in self._starts():
            part = self._part(start)
            yield Gallery.of_columns(part, vectors=self.vectors[start : start + CHUNK], record=self.record)

    def _starts(self) -> range:
        return range(0, len(self), CHUNK)

    def _part(self, start: int) -> pa.Table:
        return self.columns.slice(start, CHUNK)
