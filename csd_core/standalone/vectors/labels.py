"""What a team knows of its items: a table of ids and classes, with groups, tasks and paths where it has them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from csd_core.data.tables import Strings
from csd_core.retrieval.metrics import Bools, Ints
from csd_core.system.errors import DataError, message_of
from csd_core.system.names import class_flaw

UNLABELLED = "unlabelled"
"""Class of items of which nobody says one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """N labelled items, in the order of their table.

    Attributes:
        file: The table.
        ids: (N,) unique.
        classes: (N,) class names; UNLABELLED where nobody says.
        groups: (N,) items of one group share a role, such as the photos of one product; None where nobody says.
        tasks: (N,) what each item came with; None where nobody says.
        paths: (N,) of the images; None where nobody says.
        asks: (N,) items that pairs ask with; None where classes are known.
    """

    file: Path
    ids: Strings
    classes: Strings
    groups: Strings | None
    tasks: Strings | None
    paths: Strings | None
    asks: Bools | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Ints) -> "Labels":
        """Return the items of some rows, in their order."""
        columns = {name: getattr(self, name) for name in ("ids", "classes", "groups", "tasks", "paths", "asks")}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})


def unlabelled(file: Path, ids: Strings) -> Labels:
    """Return items of which nothing is known but their ids, (N,) as a file has them."""
    return Labels(file=file, ids=ids, classes=np.full(len(ids), UNLABELLED), groups=None, tasks=None, paths=None)


def read_labels(file: Path, *, id_column: str = "id", classes: bool = True) -> Labels:
    """Read a .csv or .parquet table with the columns id, class and, where they are known, group, task and path.

    Args:
        file: The table. Without a column `id`, paths are the ids.
        id_column: Name of the column of ids.
        classes: The table must have a column of classes; otherwise it may.

    Raises:
        DataError: if it is missing or damaged, lacks a column, repeats an id or leaves a class empty.
    """
    known = read_columns(file)
    id_name = "path" if id_column == "id" and "id" not in known else id_column
    if id_name not in known or (classes and "class" not in known):
        lacking = "class" if id_name in known else id_column
        raise DataError(f"{file}: has no column {lacking}; its columns are {', '.join(known)}")
    ids = known[id_name]
    if not len(ids):
        raise DataError(f"{file}: has no rows; give an id and a class for each item")
    unique, counts = np.unique(ids, return_counts=True)
    if unique[0] == "":
        raise DataError(f"{file}: row {int(np.flatnonzero(ids == '')[0]) + 1} has no {id_name}; give each item one")
    if (counts > 1).any():
        raise DataError(f"{file}: id {unique[counts > 1][0]} occurs twice; give each item one row")
    named = known.get("class", np.full(len(ids), UNLABELLED))
    for label in np.unique(named).tolist():
        if flaw := class_flaw(label):
            row = int(np.flatnonzero(named == label)[0])
            raise DataError(f'{file}: row {row + 1} has the class "{label}", which cannot be one: {flaw}')
    return Labels(
        file=file,
        ids=ids,
        classes=named,
        groups=known.get("group"),
        tasks=known.get("task"),
        paths=known.get("path"),
    )


def read_columns(file: Path) -> dict[str, Strings]:
    """Return the columns of a .csv or .parquet table that hold text or numbers, as text.

    Raises:
        DataError: if it is missing or damaged.
    """
    if not file.is_file():
        raise DataError(f"{file}: there is no such table; give a .csv or .parquet")
    try:
        table = _table(file)
        plain = [field.name for field in table.schema if _is_text(field.type)]
        if len(set(plain)) < len(plain):
            raise DataError(f"{file}: two columns have one name; its columns are {', '.join(plain)}")
        return {name: _strings(table, name) for name in plain}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else message_of(error)
        raise DataError(f"{file}: cannot be read as a table ({reason}); write it again, as UTF-8") from None


def _table(file: Path) -> pa.Table:
    if file.suffix.lower() == ".parquet":
        with pq.ParquetFile(file) as opened_table:  # unlike read_table, it takes two columns of one name
            return opened_table.read()
    with file.open("rb") as opened:
        names = pc.open_csv(opened).schema.names
    texts = pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return pc.read_csv(file, convert_options=texts)  # as text: an id 007 keeps its zeros


def _is_text(kind: pa.DataType) -> bool:
    """Whether it is text or numbers; a column of images or lists is of no matter."""
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _strings(table: pa.Table, name: str) -> Strings:
    return np.array([value or "" for value in table[name].cast(pa.string()).to_pylist()], np.str_)
