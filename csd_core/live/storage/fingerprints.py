"""Fingerprints of rows: equal as long as their content is."""

import hashlib
import json
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from csd_core.live.rows import vectors_of
from csd_core.live.storage.columns import ADDED, completed

CONTENT = ("id", "label", "task", "split", "embedded_by", "adapters", "space", "origin", "image_ref")
"""Columns of text that make up a row's content; its vector and image do too."""
_BYTES = 32
"""Of a fingerprint."""


def fingerprints(batches: Iterable[pa.RecordBatch], *, whole: bool) -> Iterator[tuple[str, bytes]]:
    """Id and sha256 of each row; columns ADDED count where they are no nulls, so that a row keeps its fingerprint.

    Args:
        batches: Rows with all columns.
        whole: Of every column, or of the content alone, which leaves out revision and time.
    """
    names = (*CONTENT, "revision") if whole else CONTENT
    names_added = [each.name for each in ADDED]
    for batch in batches:
        texts = zip(*(batch[name].to_pylist() for name in names), strict=True)
        times = batch["written_at"].cast(pa.int64()).to_pylist() if whole else [None] * batch.num_rows
        added = zip(*(completed(batch, names_added)[name].to_pylist() for name in names_added), strict=True)
        rows = zip(texts, times, vectors_of(batch), batch["image"].to_pylist(), added, strict=True)
        for text, time, vector, image, (source, path, thumbnail) in rows:
            extra = [] if source is path is thumbnail is None else [source, path, len(thumbnail or b"")]
            head = json.dumps([*text, time, None if image is None else len(image), *extra], ensure_ascii=False)
            content = head.encode() + vector.tobytes() + (image or b"") + (thumbnail or b"")
            yield text[0], hashlib.sha256(content).digest()


def digest_of(batches: Iterable[pa.RecordBatch], *, dimension: int, rows: int, whole: bool) -> str:
    """sha256 over rows in hex, whatever their order; 110 bytes a row are held meanwhile.

    Args:
        batches: Rows with all columns.
        dimension: D of their vectors.
        rows: How many there are.
        whole: As `fingerprints` has it.
    """
    ids: list[pa.Array] = []
    prints = bytearray()
    for batch in batches:
        names, found = zip(*fingerprints([batch], whole=whole), strict=True) if batch.num_rows else ((), ())
        ids.append(pa.array(names, pa.string()))  # a copy: the batch's own would keep all its columns
        prints += b"".join(found)
    order = pc.sort_indices(pa.chunked_array(ids, pa.string())).to_numpy()
    digest = hashlib.sha256(f"{dimension} {rows}".encode())
    digest.update(np.frombuffer(prints, np.uint8).reshape(-1, _BYTES)[order].data)
    return digest.hexdigest()
