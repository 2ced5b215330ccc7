"""Where an erased item still lies: in the pipeline's data, which only the pipeline can change."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from csd_core.workspace import Workspace

_PARQUET = b"PAR1"


class Trace(NamedTuple):
    """A file that still names an erased item."""

    file: Path
    item: str
    original: str | None
    """Path of the image in its source's folder, where the file tells."""


def traces(workspace: Workspace, ids: Collection[str]) -> tuple[Trace, ...]:
    """Where canonical sets, shards, galleries, what DVC has cached of them, and records still name items."""
    wanted = pa.array(sorted(ids), pa.string())
    found: list[Trace] = []
    for path in _tables(workspace.root):
        found += _in_table(path, wanted)
    for path in sorted((workspace.root / "artifacts").glob("**/*.json")):
        text = path.read_text(encoding="utf-8")
        found += [Trace(path, item, None) for item in wanted.to_pylist() if json.dumps(item) in text]
    return tuple(found)


def _tables(root: Path) -> Iterator[Path]:
    for pattern in ("data/sources/*/items.parquet", "data/shards/*/items.parquet", "artifacts/*/gallery/rows.parquet"):
        yield from sorted(root.glob(pattern))
    for path in sorted((root / ".dvc" / "cache").rglob("*")):
        if path.is_file() and _starts_as_parquet(path):
            yield path


def _starts_as_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _in_table(path: Path, wanted: pa.Array) -> list[Trace]:
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("id", "path") if name in file.schema_arrow.names]
            if "id" not in columns:
                return []
            rows = file.read(columns=columns)
    except (pa.ArrowException, OSError):
        return []  # not ours, or another stage's to complain about
    mine = rows.filter(pc.is_in(rows["id"], value_set=wanted))
    originals = mine["path"].to_pylist() if "path" in columns else [None] * mine.num_rows
    return [Trace(path, item, original) for item, original in zip(mine["id"].to_pylist(), originals, strict=True)]
