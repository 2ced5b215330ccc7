"""The gallery: rows of (item, provenance, vector), as an immutable artefact.

G rows, D dimensions. `rows.parquet` holds id, label, task, split, embedded_by, adapters and space; `vectors.npy` is
(G, D) float32 of unit length in the same order; `gallery.json` says which model queries it. A row knows which model
made its vector (`embedded_by`), what mapped it since (`adapters`) and whose space it is in (`space`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.records.gallery import GalleryRecord
from csd_core.records.ranking import GroupScoring
from csd_core.retrieval.gallery_rows import CHUNK, read_files, rows_digest, words_of
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError, CompatibilityError

Strings = npt.NDArray[np.str_]

UNIT_TOLERANCE = 1e-3
"""Largest deviation from length 1 that rounding explains."""


class Provenance(NamedTuple):
    """How a row's vector came to be; rows of one provenance are treated alike."""

    embedded_by: str
    """Digest of the model."""
    adapters: str
    """Digests of what mapped it since, oldest first, joined by commas; empty for none."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Digests of the adapters, oldest first."""
        return tuple(self.adapters.split(",")) if self.adapters else ()

    def mapped_by(self, adapter: str) -> "Provenance":
        """Return the provenance after one more adapter."""
        return Provenance(self.embedded_by, ",".join((*self.chain, adapter)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gallery:
    """Searchable items.

    Attributes:
        ids: (G,) content hashes, unique.
        labels: (G,) class names.
        tasks: (G,) the task an item came with.
        splits: (G,) train, select, gate or test.
        embedded_by: (G,) digest of the model that made the vector.
        adapters: (G,) digests of what mapped the vector since, joined by commas; empty for none.
        spaces: (G,) digest of the model whose space the vector is in.
        vectors: (G, D) float32 of unit length.
        query_model: Digest of the model whose queries search it; None while it is empty.
        searchable_spaces: Spaces that may be searched.
        scoring: How rows of some provenances are searched; `query_model` searches the others, by cosine.
    """

    ids: Strings
    labels: Strings
    tasks: Strings
    splits: Strings
    embedded_by: Strings
    adapters: Strings
    spaces: Strings
    vectors: npt.NDArray[np.float32]
    query_model: str | None
    searchable_spaces: tuple[str, ...]
    scoring: tuple[GroupScoring, ...] = ()
    _groups: dict[Provenance, npt.NDArray[np.intp]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse rows that cannot be searched.

        Raises:
            CompatibilityError: if a vector is not of unit length or a row's space may not be searched.
            ArtifactError: if columns differ in length or an id repeats.
        """
        columns = (self.labels, self.tasks, self.splits, self.embedded_by, self.adapters, self.spaces, self.vectors)
        if any(len(column) != len(self) for column in columns):
            raise ArtifactError(
                f"gallery columns have lengths {[len(self.ids), *map(len, columns)]}; all must be equal"
            )
        if len(np.unique(self.ids)) != len(self):
            raise ArtifactError("gallery: an id occurs twice; each item has one row")
        squares = np.einsum("gd,gd->g", self.vectors, self.vectors)
        wrong = np.flatnonzero(~(np.abs(squares - 1) <= 2 * UNIT_TOLERANCE))
        if len(wrong):
            raise CompatibilityError(
                f"gallery: {len(wrong)} vectors are not of unit length, such as that of item {self.ids[wrong[0]]} "
                f"(length {np.sqrt(squares[wrong[0]]):.3g}); embed them with an exported model"
            )
        foreign = set(np.unique(self.spaces).tolist()) - set(self.searchable_spaces)
        if foreign:
            raise CompatibilityError(
                f"gallery: rows in the space of {min(foreign)[:12]} cannot be searched by model "
                f"{(self.query_model or 'none')[:12]}; backfill them"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls) -> Self:
        """Return the gallery before the first model."""
        none = np.empty(0, np.str_)
        return cls(
            ids=none,
            labels=none,
            tasks=none,
            splits=none,
            embedded_by=none,
            adapters=none,
            spaces=none,
            vectors=np.empty((0, 0), np.float32),
            query_model=None,
            searchable_spaces=(),
        )

    @classmethod
    def embedded(
        cls,
        *,
        ids: Strings,
        labels: Strings,
        tasks: Strings,
        splits: Strings,
        vectors: npt.NDArray[np.float32],
        model: str,
    ) -> Self:
        """Return rows that `model` has just embedded."""
        made_by = np.full(len(ids), model)
        return cls(
            ids=ids,
            labels=labels,
            tasks=tasks,
            splits=splits,
            embedded_by=made_by,
            adapters=np.full(len(ids), ""),
            spaces=made_by,
            vectors=vectors,
            query_model=model,
            searchable_spaces=(model,),
        )

    @property
    def digest(self) -> str:
        """sha256 over rows and vectors, in hex."""
        columns = (self.ids, self.labels, self.tasks, self.splits, self.embedded_by, self.adapters, self.spaces)
        return rows_digest(
            ((column[at : at + CHUNK].tolist() for at in range(0, len(self), CHUNK)) for column in columns),
            query_model=self.query_model,
            searchable_spaces=self.searchable_spaces,
            scoring=self.scoring,
            vectors=self.vectors,
        )

    @property
    def query_models(self) -> tuple[str, ...]:
        """Digests of the models that must embed a query, newest first: that of new rows, then those of older rows."""
        others = [group.query_model for group in self.scoring]
        return tuple(dict.fromkeys([self.query_model, *others])) if self.query_model else ()

    def searched_by(self, provenance: Provenance) -> GroupScoring | None:
        """Return how rows of a provenance are searched; None where the query model searches them by cosine."""
        return next((group for group in self.scoring if (group.embedded_by, group.adapters) == provenance), None)

    def dimension_of(self, provenance: Provenance) -> int:
        """Return how many leading components rows of a provenance have; the others are zeros."""
        group = self.searched_by(provenance)
        return group.dimension if group else self.vectors.shape[1]

    def groups(self) -> dict[Provenance, npt.NDArray[np.intp]]:
        """Provenance -> ascending positions of its rows, in order of first appearance."""
        if not self._groups:
            self._groups.update(positions_of(self.embedded_by, self.adapters))
        return dict(self._groups)

    def take(self, positions: npt.NDArray[np.intp]) -> "Gallery":
        """Return some of the rows, searched by the same model."""
        return Gallery(
            ids=self.ids[positions],
            labels=self.labels[positions],
            tasks=self.tasks[positions],
            splits=self.splits[positions],
            embedded_by=self.embedded_by[positions],
            adapters=self.adapters[positions],
            spaces=self.spaces[positions],
            vectors=self.vectors[positions],
            query_model=self.query_model,
            searchable_spaces=self.searchable_spaces,
            scoring=self.scoring,
        )

    def joined(self, new: "Gallery", *, query_model: str, searchable_spaces: Sequence[str]) -> "Gallery":
        """These rows and then `new`'s, searched by `query_model`; narrower vectors end in zeros where models differ."""
        if not len(self):
            vectors = new.vectors
        elif not len(new):
            vectors = self.vectors
        elif self.vectors.shape[1] != new.vectors.shape[1] and not self.scoring:
            raise CompatibilityError(
                f"new rows have {new.vectors.shape[1]} dimensions, the gallery {self.vectors.shape[1]}; backfill it"
            )
        else:
            width = max(self.vectors.shape[1], new.vectors.shape[1])
            vectors = np.concatenate([padded(self.vectors, width), padded(new.vectors, width)])
        return Gallery(
            ids=np.concatenate([self.ids, new.ids]),
            labels=np.concatenate([self.labels, new.labels]),
            tasks=np.concatenate([self.tasks, new.tasks]),
            splits=np.concatenate([self.splits, new.splits]),
            embedded_by=np.concatenate([self.embedded_by, new.embedded_by]),
            adapters=np.concatenate([self.adapters, new.adapters]),
            spaces=np.concatenate([self.spaces, new.spaces]),
            vectors=vectors,
            query_model=query_model,
            searchable_spaces=tuple(searchable_spaces),
            scoring=self.scoring,
        )

    def save(self, folder: Path) -> None:
        """Write the three files, whole or not at all; equal galleries give equal bytes."""
        columns: dict[str, Any] = {
            "id": self.ids,
            "label": self.labels,
            "task": self.tasks,
            "split": self.splits,
            "embedded_by": self.embedded_by,
            "adapters": self.adapters,
            "space": self.spaces,
        }
        table = pa.table({name: pa.array(values.tolist(), pa.string()) for name, values in columns.items()})
        with atomic_folder(folder) as partial:
            pq.write_table(table, partial / "rows.parquet", compression="zstd")
            np.save(partial / "vectors.npy", self.vectors, allow_pickle=False)
            GalleryRecord(
                rows=len(self),
                dimension=self.vectors.shape[1] if len(self) else None,
                query_model=self.query_model,
                searchable_spaces=self.searchable_spaces,
                scoring=self.scoring,
            ).save(partial / "gallery.json")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the vectors are memory-mapped.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        record, columns, vectors = read_files(folder)
        return cls.of_columns(columns, vectors=vectors, record=record)

    @classmethod
    def of_columns(cls, columns: pa.Table, *, vectors: npt.NDArray[np.float32], record: GalleryRecord) -> Self:
        """Return rows as rows.parquet has them.

        Args:
            columns: (G,) of each of COLUMNS.
            vectors: (G, D).
            record: How they are searched.
        """
        return cls(
            ids=words_of(columns["id"]),
            labels=words_of(columns["label"]),
            tasks=words_of(columns["task"]),
            splits=words_of(columns["split"]),
            embedded_by=words_of(columns["embedded_by"]),
            adapters=words_of(columns["adapters"]),
            spaces=words_of(columns["space"]),
            vectors=vectors,
            query_model=record.query_model,
            searchable_spaces=record.searchable_spaces,
            scoring=record.scoring,
        )


def positions_of(embedded_by: Strings, adapters: Strings) -> dict[Provenance, npt.NDArray[np.intp]]:
    """Return provenance -> ascending positions of its rows, in order of first appearance."""
    models, model = np.unique(embedded_by, return_inverse=True)
    chains, chain = np.unique(adapters, return_inverse=True)
    kinds, first, number = np.unique(model * len(chains) + chain, return_index=True, return_inverse=True)
    found = {}
    for each in np.argsort(first):
        made_by, mapped_by = models[kinds[each] // len(chains)], chains[kinds[each] % len(chains)]
        found[Provenance(str(made_by), str(mapped_by))] = np.flatnonzero(number == each)
    return found


def padded(vectors: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Return (N, width) vectors that end in zeros; as they are where they have that width."""
    missing = width - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors
