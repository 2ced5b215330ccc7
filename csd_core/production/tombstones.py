"""Which items people deleted or had erased, so that no upgrade brings them back; ids are kept as hashes only."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from csd_core.production.checksums import hash_of
from csd_core.production.tables import Tables, put, remove

TOMBSTONES = "tombstones"
SCHEMA = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("why", pa.string(), nullable=False),
        pa.field("erased", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Grave:
    """One item that was deleted.

    Attributes:
        at: When, UTC without a zone.
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
        graves: sha256 of an id -> what became of the item.
    """

    graves: dict[str, Grave]

    def buries(
        self, ids: npt.NDArray[np.str_], *, written_at: npt.NDArray[np.datetime64] | None = None
    ) -> npt.NDArray[np.bool_]:
        """(N,) rows that must not be served.

        Args:
            ids: (N,) of the rows.
            written_at: (N,) when a person wrote them. A row written after its item was deleted stands, unless the item
                was erased: a process may have been killed before it could lift the tombstone. Without times none does.
        """
        buried = np.zeros(len(ids), np.bool_)
        if not self.graves:
            return buried
        for row, identity in enumerate(ids.tolist()):
            grave = self.graves.get(hash_of(identity))
            buried[row] = grave is not None and (grave.erased or written_at is None or written_at[row] <= grave.at)
        return buried

    def erased(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Those of the ids that must never come back."""
        if not self.graves:
            return ()
        return tuple(
            identity for identity in ids if (grave := self.graves.get(hash_of(identity))) is not None and grave.erased
        )


def read(tables: Tables) -> Tombstones:
    """All of them."""
    rows = tables.system_rows(TOMBSTONES)
    if rows is None:
        return Tombstones({})
    times = rows["at"].cast(pa.timestamp("us")).to_numpy()
    texts = zip(rows["item"].to_pylist(), rows["why"].to_pylist(), rows["erased"].to_pylist(), strict=True)
    return Tombstones({item: Grave(at, why, erased) for at, (item, why, erased) in zip(times, texts, strict=True)})


def bury(tables: Tables, ids: Iterable[str], *, why: str, erased: bool) -> None:
    """Add tombstones; one that says erased stays so. The caller holds the write lock."""
    known = read(tables)
    items = [hash_of(identity) for identity in ids]
    final = [erased or (item in known.graves and known.graves[item].erased) for item in items]
    count = len(items)
    if count:
        rows = pa.table(
            {"item": items, "at": [datetime.now(UTC)] * count, "why": [why] * count, "erased": final}, schema=SCHEMA
        )
        put(tables.system(TOMBSTONES, SCHEMA), SCHEMA, rows.to_batches(), on="item")


def lift(tables: Tables, ids: Iterable[str]) -> None:
    """Remove the tombstones of items that were written again. The caller holds the write lock."""
    known = read(tables).graves
    lifted = {hash_of(identity) for identity in ids} & known.keys() if known else set()
    if lifted:
        remove(tables.system(TOMBSTONES, SCHEMA), lifted, column="item")
