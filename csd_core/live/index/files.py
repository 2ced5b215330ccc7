"""The files of an index: all rows of a table as they were when it was made, mapped, and the cells of each group.

    index.json        IndexRecord
    rows.arrow        id, path, words, time and LanceDB's address of each of N rows, by ascending id
    <part>.npy        (n, D) float32, the vectors of a group's rows
    <part>.rows.npy   (n,) which of the N rows they are, where there are several groups
    <part>.faiss      the cells of those that are many

They hold all that an answer shows, so a search reads nothing else. LanceDB never changes a row in place: a row that is
still at its address is as it was, one that is not is gone, and rows at other addresses were written since.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table

from csd_core.audit.checksums import hash_of
from csd_core.live.index import nearest
from csd_core.live.index.nearest import Nearest
from csd_core.live.memory import Rows, RowsPart, vectors_file
from csd_core.live.reader import LiveReader, kinds_of, refuse_spaces
from csd_core.live.rules import SearchGroup, SearchRules
from csd_core.live.storage.lance import ADDRESS, addresses, windows
from csd_core.records.ranking import ScoreMap
from csd_core.records.stages import Digest, Record
from csd_core.retrieval.gallery import Provenance
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError, message_of

RECORD, FACTS = "index.json", "rows.arrow"
_WINDOW = 1 << 14
"""Rows read at a time where all are looked up again."""

Bools = npt.NDArray[np.bool_]
Addresses = npt.NDArray[np.uint64]


class IndexedGroup(Record):
    """A group of rows, as `SearchGroup` has it."""

    query_model: Digest
    dimension: int
    score: ScoreMap
    provenances: tuple[tuple[Digest, str], ...]
    """Models and adapters that made the rows, ascending."""


class IndexRecord(Record):
    """index.json."""

    physical: str
    """LanceDB's name of the table that the addresses are of."""
    rows: int
    parts: tuple[IndexedGroup, ...]


class Standing(NamedTuple):
    """What a version of the table has of the index's rows, and beside them."""

    there: Bools | None
    """(N,) rows that are there still; None if all are."""
    added: Addresses
    """Of the rows that are not in the index, ascending."""


class _Place(NamedTuple):
    """Where the rows of the index lie in a table of LanceDB's."""

    physical: str
    addresses: Addresses
    """(m,) ascending."""
    positions: npt.NDArray[np.intp]
    """(m,) which rows of the index lie there."""


def write_index(folder: Path, live: LiveReader, table: str, rules: SearchRules, *, threads: int = 1) -> None:
    """Write the index of a table as it is now; on an error the folder is as it was.

    Args:
        folder: Where.
        live: The gallery that the table is in.
        table: Its name.
        rules: Which models' queries search which rows.
        threads: That build it.

    Raises:
        CompatibilityError: if a row is in a space that may not be searched.
    """
    with atomic_folder(folder) as made:

        def read(handle: Table) -> None:
            kinds = kinds_of(handle)
            refuse_spaces(kinds, table, rules)
            groups = rules.groups_of({provenance for provenance, _ in kinds})
            rows = Rows.read(handle, table, groups, into=made)
            _save(made, rows, physical=handle.name, threads=threads)

        live.read(table, None, read)


class SearchIndex:
    """An index on disk, mapped; several snapshots of a table search it.

    Attributes:
        rows: As they were when it was made.
        physical: LanceDB's name of the table then.
    """

    def __init__(self, record: IndexRecord, rows: Rows) -> None:
        self.rows = rows
        self.physical = record.physical
        at = rows.facts[ADDRESS].to_numpy()
        order = np.argsort(at)
        self._place = _Place(record.physical, at[order], order)

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Open one; None if there is none.

        Raises:
            ArtifactError: if it is damaged.
        """
        if not folder.is_dir():
            return None
        record = IndexRecord.load(folder / RECORD)
        try:
            facts = pa.ipc.open_file(pa.memory_map(str(folder / FACTS))).get_batch(0)
            parts = tuple(_part(folder, number, group) for number, group in enumerate(record.parts))
        except (OSError, ValueError, EOFError, pa.ArrowException) as error:
            raise ArtifactError(
                f"{folder}: the index cannot be read ({message_of(error)}); `csd verify` says more"
            ) from None
        return cls(record, Rows(facts=facts, parts=parts))

    def standing(self, handle: Table) -> Standing:
        """What an open table has of these rows at its version.

        It reads the addresses alone. Where the table was written again since, under another name, each row is looked
        up by its id and time once.
        """
        place = self._place
        if place.physical != handle.name:
            place = self._place = self._found_again(handle)
        now = addresses(handle)
        where = np.searchsorted(place.addresses, now)
        known = np.zeros(len(now), np.bool_)
        inside = where < len(place.addresses)
        known[inside] = place.addresses[where[inside]] == now[inside]
        if np.count_nonzero(known) == self.rows.facts.num_rows:
            return Standing(None, now[~known])
        there = np.zeros(self.rows.facts.num_rows, np.bool_)
        there[place.positions[where[known]]] = True
        return Standing(there, now[~known])

    def _found_again(self, handle: Table) -> _Place:
        """Where the rows lie in a table that was written again; a row written by a person since has a later time."""
        columns = ["id", "written_at", ADDRESS]
        found = pa.Table.from_batches(
            windows(handle, columns, rows=_WINDOW),
            pa.schema([*(handle.schema.field(each) for each in columns[:2]), pa.field(ADDRESS, pa.uint64())]),
        )
        position = pc.index_in(found["id"], value_set=self.rows.facts["id"])
        same = pc.fill_null(
            pc.equal(self.rows.facts["written_at"].take(position.combine_chunks()), found["written_at"]), False
        )
        mine = found.append_column("position", position).filter(same).sort_by(ADDRESS)
        return _Place(handle.name, mine[ADDRESS].to_numpy(), mine["position"].to_numpy().astype(np.intp))


def erase(folder: Path, items: Collection[str]) -> bool:
    """Make an index again without erased items; returns whether it had any. A run that was killed is completed.

    Args:
        folder: Of the index; it need not exist.
        items: sha256 of their ids.
    """
    previous = folder.with_name(f".{folder.name}.former")  # as `atomic_folder` names it
    if previous.is_dir() and not folder.is_dir():
        previous.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
    index = SearchIndex.of(folder)
    if index is None:
        return False
    rows, wanted = index.rows, frozenset(items)
    keep = np.array([hash_of(each.as_py()) not in wanted for each in rows.facts["id"]], np.bool_)
    if keep.all():
        return False
    new = np.cumsum(keep) - 1
    parts = []
    for part in rows.parts:
        mine = keep if part.positions is None else keep[part.positions]
        positions = None if part.positions is None else new[part.positions[mine]]
        parts.append(RowsPart(group=part.group, positions=positions, vectors=part.vectors[mine]))
    with atomic_folder(folder) as made:
        for number, part in enumerate(parts):
            np.save(vectors_file(made, number), part.vectors)
        left = Rows(facts=rows.facts.filter(pa.array(keep)), parts=tuple(parts))
        _save(made, left, physical=index.physical)
    return True


def _save(folder: Path, rows: Rows, *, physical: str, threads: int = 1) -> None:
    """Write all but the vectors, which are there."""
    with pa.OSFile(str(folder / FACTS), "wb") as file, pa.ipc.new_file(file, rows.facts.schema) as writer:
        writer.write_batch(rows.facts)
    for number, part in enumerate(rows.parts):
        if part.positions is not None:
            np.save(folder / f"{number}.rows.npy", part.positions)
        if len(part.vectors) > nearest.FEW:
            nearest.build(part.vectors, folder / f"{number}.faiss", threads=threads)
    groups = tuple(
        IndexedGroup(
            query_model=each.group.query_model,
            dimension=each.group.dimension,
            score=each.group.score,
            provenances=tuple(sorted(each.group.provenances)),
        )
        for each in rows.parts
    )
    IndexRecord(physical=physical, rows=rows.facts.num_rows, parts=groups).save(folder / RECORD)


def _part(folder: Path, number: int, record: IndexedGroup) -> RowsPart:
    """One part of an index on disk."""
    group = SearchGroup(
        query_model=record.query_model,
        dimension=record.dimension,
        score=record.score,
        provenances=frozenset(Provenance(*each) for each in record.provenances),
    )
    positions, cells = folder / f"{number}.rows.npy", folder / f"{number}.faiss"
    return RowsPart(
        group=group,
        positions=np.load(positions, mmap_mode="r").view(np.ndarray) if positions.is_file() else None,
        vectors=np.load(vectors_file(folder, number), mmap_mode="r").view(np.ndarray),
        nearest=Nearest(cells) if cells.is_file() else None,
    )
