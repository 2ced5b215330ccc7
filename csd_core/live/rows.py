"""A row of the live gallery: its columns, what a person writes, and the fingerprint of its content.

N rows, D dimensions. A row's `revision` changes whenever its item is written again, by the pipeline or by a person, but
not when only its vector is upgraded; so a pair (id, revision) says whether two tables hold the same item.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from csd_core.live.storage.columns import ADDED
from csd_core.live.text import refuse_bad_ids, refuse_undecodable
from csd_core.records.ranking import GroupScoring
from csd_core.retrieval.gallery import UNIT_TOLERANCE, Gallery, padded
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError

Strings = npt.NDArray[np.str_]
Vectors = npt.NDArray[np.float32]
Times = npt.NDArray[np.datetime64]
Origin = Literal["pipeline", "live"]

TEXTS = ("id", "label", "task", "split", "embedded_by", "adapters", "space", "origin", "revision")
"""Columns of text that every row has."""
COLUMNS = (*TEXTS, "vector", "written_at")
"""Columns of a row but for its image."""
IMAGES = ("image", "image_ref", "thumbnail", "source", "path")
"""Columns of a row's image, as StoredImages has them."""
BATCH_ROWS = 1024
"""Rows written or read at a time; their images are in memory together."""


class StoredImages(NamedTuple):
    """Images of some rows, each as PNG bytes, as a reference, or neither, and what people know their originals by."""

    png: Sequence[bytes | None]
    refs: Sequence[str | None]
    thumbnails: Sequence[bytes | None] = ()
    """JPEG of originals larger than the image; empty if no row has one, and so are the next two."""
    sources: Sequence[str | None] = ()
    """Keys in params.yaml; None of what people wrote."""
    paths: Sequence[str | None] = ()
    """Names in their sources, or those that people gave."""

    @classmethod
    def none(cls, rows: int) -> "StoredImages":
        """No images."""
        return cls([None] * rows, [None] * rows)

    @classmethod
    def of(cls, rows: pa.Table) -> "StoredImages":
        """Those of a table, with its columns IMAGES as far as it has them."""
        return cls._make(rows[name].to_pylist() if name in rows.column_names else () for name in IMAGES)

    def take(self, rows: Iterable[int]) -> "StoredImages":
        """Return some rows."""
        wanted = list(rows)
        return StoredImages._make([column[row] for row in wanted] if column else () for column in self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveItems:
    """Items to write.

    Attributes:
        ids: (N,) unique names.
        labels: (N,) class names.
        vectors: (N, D) float32 of unit length.
        embedded_by: Digest of the model that made the vectors, one or (N,).
        images: Their images; a row without one cannot be re-embedded when the model changes.
        adapters: What mapped the vectors since, one or (N,).
        spaces: Digest of the model whose space they are in, one or (N,); by default the model that made them.
        tasks: The task the items came with, one or (N,).
        splits: Their roles, one or (N,).
        origins: pipeline or live, one or (N,).
        revisions: (N,) of rows that are carried over from another table; by default new ones.
        written_at: (N,) UTC times of rows that are carried over; by default when they are written.
    """

    ids: Strings
    labels: Strings
    vectors: Vectors
    embedded_by: str | Strings
    images: StoredImages | None = None
    adapters: str | Strings = ""
    spaces: str | Strings | None = None
    tasks: str | Strings = "live"
    splits: str | Strings = ""
    origins: Origin | Strings = "live"
    revisions: Strings | None = None
    written_at: Times | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be stored or searched.

        Raises:
            ParamsError: if an id repeats, is empty or too long, or a label is empty.
            CompatibilityError: if a vector is not of unit length.
        """
        if self.vectors.ndim != 2 or not len(self.ids) == len(self.labels) == len(self.vectors):  # noqa: PLR2004 - N, D
            raise ArtifactError(
                f"items: {len(self.ids)} ids, {len(self.labels)} labels, vectors {self.vectors.shape}; one row for each"
            )
        refuse_bad_ids(self.ids.tolist())
        for label in set(self.labels.tolist()):
            refuse_undecodable(label, what="items: label")
        if not np.all(self.labels != ""):
            raise ParamsError("items: a label is empty; name the class of each item")
        refuse_bad_vectors(self.vectors, self.ids, where="items")

    def batches(self, *, now: np.datetime64) -> Iterable[pa.RecordBatch]:
        """As record batches of bounded size.

        Args:
            now: When they are written, if they are not carried over.
        """
        revision = uuid4().hex
        count = len(self.ids)
        columns = {
            "id": self.ids,
            "label": self.labels,
            "task": self.tasks,
            "split": self.splits,
            "embedded_by": self.embedded_by,
            "adapters": self.adapters,
            "space": self.embedded_by if self.spaces is None else self.spaces,
            "origin": self.origins,
            "revision": revision if self.revisions is None else self.revisions,
        }
        times = np.full(count, now) if self.written_at is None else self.written_at
        images = StoredImages.none(count) if self.images is None else self.images
        for start in range(0, count, BATCH_ROWS):
            some = slice(start, end := min(start + BATCH_ROWS, count))
            rows = batch_of(
                {name: values if isinstance(values, str) else values[some] for name, values in columns.items()},
                vectors=self.vectors[some],
                written_at=times[some],
            )
            yield with_images(rows, images.take(range(start, end)))


def schema(dimension: int) -> pa.Schema:
    """Of a table whose vectors have `dimension` dimensions."""
    return pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in TEXTS),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
            pa.field("written_at", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("image", pa.binary()),
            pa.field("image_ref", pa.string()),
            *ADDED,
        ]
    )


def batch_of(texts: dict[str, str | Strings], *, vectors: Vectors, written_at: Times) -> pa.RecordBatch:
    """Rows without images as Arrow; a text that is one string holds for every row."""
    count, dimension = vectors.shape
    columns: list[Any] = [
        pa.repeat(values, count) if isinstance(values, str) else pa.array(values.tolist(), pa.string())
        for values in (texts[name] for name in TEXTS)
    ]
    columns += [
        column_of(vectors),
        pa.array(written_at.astype("datetime64[us]"), pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
    ]
    return pa.record_batch(columns, schema=pa.schema(list(schema(dimension))[: len(columns)]))


def with_images(rows: pa.RecordBatch, images: StoredImages) -> pa.RecordBatch:
    """The rows of `batch_of` with their images, as a table has them."""
    count, whole = rows.num_rows, schema(rows.schema.field("vector").type.list_size)
    columns = [
        pa.array(images.png, pa.binary()),
        pa.array(images.refs, pa.string()),
        *(
            pa.array(values or [None] * count, field.type)
            for values, field in zip((images.sources, images.paths, images.thumbnails), ADDED, strict=True)
        ),
    ]
    return pa.record_batch([*rows.columns, *columns], schema=whole)


def column_of(vectors: Vectors) -> pa.FixedSizeListArray:
    """(N, D) as a column `vector`."""
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def pipeline_rows(gallery: Gallery, *, origin: Origin, written_at: np.datetime64) -> pa.RecordBatch:
    """Rows of the pipeline's gallery as a table has them, but for their images."""
    return batch_of(
        {
            "id": gallery.ids,
            "label": gallery.labels,
            "task": gallery.tasks,
            "split": gallery.splits,
            "embedded_by": gallery.embedded_by,
            "adapters": gallery.adapters,
            "space": gallery.spaces,
            "origin": origin,
            "revision": revisions_of(gallery),
        },
        vectors=gallery.vectors,
        written_at=np.full(len(gallery), written_at),
    )


def revisions_of(gallery: Gallery) -> Strings:
    """(G,) revisions of pipeline rows: equal as long as label, task and split are."""
    keys = np.stack([gallery.labels, gallery.tasks, gallery.splits], axis=1)
    distinct, number = np.unique(keys, axis=0, return_inverse=True)
    hashes = [
        hashlib.sha256(json.dumps(key, ensure_ascii=False).encode()).hexdigest()[:32] for key in distinct.tolist()
    ]
    return np.array(hashes, np.str_)[number.reshape(-1)] if len(gallery) else np.empty(0, np.str_)


def vectors_of(rows: pa.Table | pa.RecordBatch) -> Vectors:
    """(N, D) float32 of the column `vector`."""
    column = rows["vector"]
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    dimension = rows.schema.field("vector").type.list_size
    vectors: Vectors = flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
    return vectors


def texts_of(rows: pa.Table | pa.RecordBatch, name: str) -> Strings:
    """(N,) of a column of text; a null reads as the empty string."""
    return np.array([value or "" for value in rows[name].to_pylist()], np.str_)


def times_of(rows: pa.Table | pa.RecordBatch) -> Times:
    """(N,) UTC of the column `written_at`."""
    times: Times = rows["written_at"].cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    return times.astype("datetime64[us]")


def widened(rows: pa.RecordBatch, dimension: int) -> pa.RecordBatch:
    """Rows whose vectors have so many dimensions; narrower ones end in zeros."""
    vectors = padded(vectors_of(rows), dimension)
    return rows.set_column(rows.schema.get_field_index("vector"), "vector", column_of(vectors))


def gallery_of(
    rows: pa.Table,
    *,
    query_model: str | None,
    searchable_spaces: Sequence[str],
    scoring: tuple[GroupScoring, ...] = (),
) -> Gallery:
    """Rows of a live table as a gallery.

    Raises:
        CompatibilityError: if a row's space may not be searched.
    """
    return Gallery(
        ids=texts_of(rows, "id"),
        labels=texts_of(rows, "label"),
        tasks=texts_of(rows, "task"),
        splits=texts_of(rows, "split"),
        embedded_by=texts_of(rows, "embedded_by"),
        adapters=texts_of(rows, "adapters"),
        spaces=texts_of(rows, "space"),
        vectors=vectors_of(rows),
        query_model=query_model,
        searchable_spaces=tuple(searchable_spaces),
        scoring=scoring,
    )


def refuse_bad_vectors(vectors: Vectors, ids: Strings, *, where: str) -> None:
    """Refuse vectors that are not of unit length.

    Raises:
        CompatibilityError: naming the first.
    """
    squares = np.einsum("nd,nd->n", vectors, vectors)
    wrong = np.flatnonzero(~(np.abs(squares - 1) <= 2 * UNIT_TOLERANCE))
    if len(wrong):
        raise CompatibilityError(
            f"{where}: {len(wrong)} vectors are not of unit length, such as that of item {ids[wrong[0]]} (length "
            f"{np.sqrt(squares[wrong[0]]):.3g}); embed them with an exported model"
        )
