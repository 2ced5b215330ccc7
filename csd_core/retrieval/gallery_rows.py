"""The files of a gallery: its columns as Arrow has them, their words, and a digest that is taken piece by piece."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.records.gallery import GalleryRecord
from csd_core.records.ranking import GroupScoring
from csd_core.system.errors import ArtifactError

Strings = npt.NDArray[np.str_]

COLUMNS = ["id", "label", "task", "split", "embedded_by", "adapters", "space"]
"""Of rows.parquet."""

CHUNK = 1 << 14
"""Rows whose words are in memory at a time."""


def read_files(folder: Path) -> tuple[GalleryRecord, pa.Table, npt.NDArray[np.float32]]:
    """Return a gallery's record, its columns, all but the ids dictionary-encoded, and its vectors, memory-mapped.

    Raises:
        ArtifactError: if a file is missing or damaged.
    """
    record = GalleryRecord.load(folder / "gallery.json")
    try:
        table = pq.read_table(folder / "rows.parquet", columns=COLUMNS, read_dictionary=COLUMNS[1:])
        vectors = np.load(folder / "vectors.npy", mmap_mode="r" if record.rows else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{folder}: damaged gallery ({error}); make it again with `csd run`") from None
    if not table.num_rows == len(vectors) == record.rows:
        raise ArtifactError(
            f"{folder}: the record has {record.rows} rows, rows.parquet {table.num_rows}, vectors.npy {len(vectors)}; "
            "make the gallery again with `csd run`"
        )
    return record, table.unify_dictionaries(), vectors


def words_of(column: pa.ChunkedArray) -> Strings:
    """(N,) words of a column of text, which may be dictionary-encoded."""
    if not pa.types.is_dictionary(column.type):
        return np.array(column.to_pylist(), np.str_)
    chunks = [np.array(each.dictionary.to_pylist(), np.str_)[each.indices.to_numpy()] for each in column.chunks]
    return np.concatenate(chunks) if chunks else np.empty(0, np.str_)


def rows_digest(
    columns: Iterable[Iterable[list[str]]],
    *,
    query_model: str | None,
    searchable_spaces: Sequence[str],
    scoring: Sequence[GroupScoring],
    vectors: npt.NDArray[np.float32],
) -> str:
    """sha256 over a gallery, in hex.

    Args:
        columns: Those of COLUMNS, each in pieces of any length.
        query_model: The model whose queries search it.
        searchable_spaces: Spaces that may be searched.
        scoring: How rows of some provenances are searched.
        vectors: (G, D).
    """
    found = hashlib.sha256()
    for pieces in columns:
        between = ""
        found.update(b"[")
        for words in pieces:
            found.update((between + json.dumps(words, ensure_ascii=False)[1:-1]).encode())
            between = ", "
        found.update(b"]")
    found.update(json.dumps([query_model, searchable_spaces]).encode())
    if scoring:
        found.update(json.dumps([group.model_dump() for group in scoring], sort_keys=True).encode())
    for start in range(0, len(vectors), CHUNK):
        found.update(np.ascontiguousarray(vectors[start : start + CHUNK]).data)
    return found.hexdigest()
