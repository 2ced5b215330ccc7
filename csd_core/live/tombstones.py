"""Which items people deleted or had erased, so that no upgrade brings them back; ids are kept as hashes only.

The table has an index, so that looking up a few items costs the same among a hundred and among a hundred thousand
deletions. A deletion is forgotten once nothing could bring its item back; an erasure never is.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.expr import col
from lancedb.table import Table

from csd_core.audit.checksums import hash_of
from csd_core.live.storage.clock import NEVER
from csd_core.live.storage.lance import lance_errors, put, remove
from csd_core.live.storage.tables import Tables
from csd_core.live.storage.upkeep import is_due, tidy

TOMBSTONES = "tombstones"
SCHEMA = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("why", pa.string(), nullable=False),
        pa.field("erased", pa.bool_(), nullable=False),
    ]
)
INDEXED = 1024
"""From so many deletions on the table has an index; fewer are read as fast without."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One item that was deleted.

    Attributes:
        at: When, UTC without a zone; later than every row of the item that it removes.
        why: What the person said.
        erased: It must never come back.
    """

    at: np.datetime64
    why: str
    erased: bool


@dataclass(frozen=True, slots=True)
class Tombstones:
    """What was deleted, as of one moment.

    Attributes:
        tombstones_found: sha256 of an id -> what became of the item.
    """

    tombstones_found: dict[str, Tombstone]

    def is_deleted(
        self, ids: npt.NDArray[np.str_], *, written_at: npt.NDArray[np.datetime64] | None = None
    ) -> npt.NDArray[np.bool_]:
        """(N,) rows that must not be served.

        Args:
            ids: (N,) of the rows.
            written_at: (N,) when a person wrote them. A row written after its item was deleted stands, unless the item
                was erased: a process may have been killed before it could lift the tombstone. Without times none does.
        """
        deleted = np.zeros(len(ids), np.bool_)
        if not self.tombstones_found:
            return deleted
        for row, identity in enumerate(ids.tolist()):
            tombstone = self.tombstones_found.get(hash_of(identity))
            deleted[row] = tombstone is not None and (
                tombstone.erased or written_at is None or written_at[row] <= tombstone.at
            )
        return deleted

    def erased(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Those of the ids that must never come back."""
        if not self.tombstones_found:
            return ()
        return tuple(
            identity
            for identity in ids
            if (tombstone := self.tombstones_found.get(hash_of(identity))) is not None and tombstone.erased
        )

    @property
    def latest(self) -> np.datetime64:
        """The time of the last of them."""
        return max((tombstone.at for tombstone in self.tombstones_found.values()), default=NEVER)


def read(tables: Tables) -> Tombstones:
    """All of them."""
    rows = tables.system_rows(TOMBSTONES)
    return Tombstones({}) if rows is None else _of(rows)


def of(tables: Tables, ids: Iterable[str]) -> Tombstones:
    """Those of some items."""
    handle = tables.opened(TOMBSTONES)
    items = sorted({hash_of(identity) for identity in ids})
    if handle is None or not items:
        return Tombstones({})
    listed = ", ".join(f"'{item}'" for item in items)
    with lance_errors(TOMBSTONES):
        if not handle.count_rows(f"item IN ({listed})"):  # a third of what a search costs, and most writes end here
            return Tombstones({})
        return _of(handle.search().where(col("item").isin(items)).to_arrow())


def version(tables: Tables) -> int:
    """A number that changes whenever a tombstone does."""
    handle = tables.opened(TOMBSTONES)
    return 0 if handle is None else int(handle.version)


def bury(tables: Tables, ids: Collection[str], *, at: np.datetime64, why: str, erased: bool) -> None:
    """Add tombstones; one that says erased stays so. The caller holds the write lock.

    Args:
        tables: Where.
        ids: Of the items.
        at: When; later than all rows of the items.
        why: What the person said.
        erased: They must never come back.
    """
    known = of(tables, ids).tombstones_found
    items = sorted({hash_of(identity) for identity in ids})
    final = [erased or (item in known and known[item].erased) for item in items]
    count = len(items)
    if count:
        times = pa.array(np.full(count, at), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        rows = pa.table({"item": items, "at": times, "why": [why] * count, "erased": final}, schema=SCHEMA)
        handle = tables.system(TOMBSTONES, SCHEMA)
        put(handle, SCHEMA, rows.to_batches(), on="item")
        _tidied(handle, rows=count)


def lift(tables: Tables, known: Tombstones) -> None:
    """Remove the tombstones of items that were written again. The caller holds the write lock.

    Args:
        tables: Where.
        known: Those of the items, as they are now.
    """
    if known.tombstones_found:
        handle = tables.system(TOMBSTONES, SCHEMA)
        remove(handle, known.tombstones_found, column="item")
        _tidied(handle, rows=len(known.tombstones_found))


def forget(tables: Tables, *, needed: Collection[str]) -> int:
    """Remove the tombstones of deleted items that nothing could bring back. The caller holds the write lock.

    Args:
        tables: Where.
        needed: sha256 of the ids that something still has.

    Returns:
        How many went.
    """
    tombstones_found = read(tables).tombstones_found
    gone = [item for item, tombstone in tombstones_found.items() if not tombstone.erased and item not in needed]
    if not gone:
        return 0
    handle = tables.system(TOMBSTONES, SCHEMA)
    with lance_errors(TOMBSTONES):
        if len(gone) == len(tombstones_found):
            handle.delete("true")
        else:
            remove(handle, gone, column="item")
    tidy(handle, indexed="item", at_least=INDEXED)
    return len(gone)


def _of(rows: pa.Table) -> Tombstones:
    times = rows["at"].cast(pa.timestamp("us")).to_numpy()
    texts = zip(rows["item"].to_pylist(), rows["why"].to_pylist(), rows["erased"].to_pylist(), strict=True)
    return Tombstones({item: Tombstone(at, why, erased) for at, (item, why, erased) in zip(times, texts, strict=True)})


def _tidied(handle: Table, *, rows: int) -> None:
    """Now and then, merge what many small writes left."""
    if is_due(handle, rows=rows):
        tidy(handle, indexed="item", at_least=INDEXED)
