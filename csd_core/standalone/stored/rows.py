"""What a plan says of each row of a store, so that exactly these rows are upgraded, whatever the store holds by then.

stored.json     StoredRecord: kinds of rows, and how they are searched before and after
rows.parquet    id in the store, id of its image, fingerprint of its vector, whether it is re-embedded, its kind
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.data.tables import Strings
from csd_core.records.gallery import GalleryRecord
from csd_core.records.ranking import GroupScoring
from csd_core.records.stages import Digest, Record
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.system.errors import ArtifactError
from csd_core.upgrade.plans import UpgradePlan

RECORD, ROWS = "stored.json", "rows.parquet"
KEY_DIGITS = 8


class RowKind(Record):
    """Rows that are treated alike, unless they are re-embedded."""

    embedded_by: Digest
    adapters: str
    space: Digest
    adapter: Digest | None
    """Maps them; None where they stay."""

    @property
    def after(self) -> Provenance:
        """The provenance of those that are not re-embedded."""
        before = Provenance(self.embedded_by, self.adapters)
        return before.mapped_by(self.adapter) if self.adapter else before


class StoredRecord(Record):
    """stored.json."""

    kinds: tuple[RowKind, ...]
    before: GalleryRecord
    after: GalleryRecord

    @property
    def query_models(self) -> set[str]:
        """Digests of the models that embed queries, before or after."""
        both = (self.before, self.after)
        return {str(each.query_model) for each in both} | {group.query_model for each in both for group in each.scoring}


class History(NamedTuple):
    """How rows came to be, after an upgrade."""

    embedded_by: Strings
    adapters: Strings
    spaces: Strings
    searchable_spaces: tuple[str, ...]
    scoring: tuple[GroupScoring, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedRows:
    """The rows of a plan.

    Attributes:
        record: What they have in common.
        key: Of the upgrade: the start of a digest of the plan's rows.
        table: Columns id, item, fingerprint, embed and kind.
    """

    record: StoredRecord
    key: str
    table: pa.Table

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactError: if a file is missing or damaged, or the plan is for a gallery in a folder.
        """
        if not (folder / RECORD).is_file():
            raise ArtifactError(f"{folder}: is not the plan of a gallery in a store; make one with its address")
        digest = hashlib.sha256((folder / RECORD).read_bytes())
        try:
            digest.update((folder / ROWS).read_bytes())
            table = pq.read_table(folder / ROWS)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder / ROWS}: cannot be read ({error}); plan again") from None
        return cls(record=StoredRecord.load(folder / RECORD), key=digest.hexdigest()[:KEY_DIGITS], table=table)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.table["id"].to_pylist())}

    @cached_property
    def embed(self) -> Bools:
        """(G,) rows that are re-embedded."""
        return np.asarray(self.table["embed"].to_numpy(), np.bool_)

    @cached_property
    def kinds(self) -> Ints:
        """(G,) the number of each row's kind."""
        return np.asarray(self.table["kind"].to_numpy(), np.intp)

    def places(self, ids: Strings) -> Ints:
        """Return (n,) the planned rows with these ids; -1 for others."""
        return np.array([self._place.get(each, -1) for each in ids.tolist()], np.intp)

    def column(self, name: str, places: Ints) -> Strings:
        """Return (n,) `item` or `fingerprint` of some rows."""
        return np.array(self.table[name].take(pa.array(places)).to_pylist(), np.str_)

    def items_to_embed(self) -> Strings:
        """Return ids of the images that are embedded, each once; rows without an image are not among them."""
        found = np.unique(self.column("item", np.flatnonzero(self.embed)))
        return np.asarray(found[found != ""], np.str_)

    def after(self, ids: Strings) -> History:
        """Return how rows of the store came to be if the plan was applied; others are the candidate's."""
        model = str(self.record.after.query_model)
        places = self.places(ids)
        native = (places < 0) | self.embed[places]
        kind = self.kinds[places]
        columns = [
            [each.after.embedded_by for each in self.record.kinds],
            [each.after.adapters for each in self.record.kinds],
            [model if each.adapter else each.space for each in self.record.kinds],
        ]
        made_by, adapters, spaces = (
            np.where(native, new, np.array(column, np.str_)[kind])
            for new, column in zip((model, "", model), columns, strict=True)
        )
        return History(made_by, adapters, spaces, self.record.after.searchable_spaces, self.record.after.scoring)


def write_rows(
    folder: Path, *, ids: Strings, items: Strings, gallery: Gallery, plan: UpgradePlan, dimension: int
) -> None:
    """Write what becomes of each row.

    Args:
        folder: Of the plan.
        ids: (G,) in the store.
        items: (G,) of their images; empty for none.
        gallery: The rows.
        plan: What becomes of them.
        dimension: Of the candidate's vectors.
    """
    kinds: list[RowKind] = []
    number = np.empty(len(gallery), np.int32)
    width = dimension if plan.embed.any() else 0
    for provenance, rows in gallery.groups().items():
        adapter = plan.adapters.get(provenance)
        for space in np.unique(gallery.spaces[rows]).tolist():
            number[rows[gallery.spaces[rows] == space]] = len(kinds)
            kinds.append(
                RowKind(
                    embedded_by=provenance.embedded_by,
                    adapters=provenance.adapters,
                    space=space,
                    adapter=adapter.digest if adapter else None,
                )
            )
        if not plan.embed[rows].all():
            width = max(width, adapter.metadata.dimension if adapter else gallery.dimension_of(provenance))
    record = StoredRecord(
        kinds=tuple(kinds),
        before=GalleryRecord(
            rows=len(gallery),
            dimension=gallery.vectors.shape[1],
            query_model=gallery.query_model,
            searchable_spaces=gallery.searchable_spaces,
            scoring=gallery.scoring,
        ),
        after=GalleryRecord(
            rows=len(gallery),
            dimension=width or None,
            query_model=plan.model,
            searchable_spaces=plan.searchable_spaces,
            scoring=plan.scoring,
        ),
    )
    record.save(folder / RECORD)
    table = {
        "id": pa.array(ids.tolist()),
        "item": pa.array(items.tolist()),
        "fingerprint": pa.array(fingerprints(gallery.vectors).tolist()),
        "embed": pa.array(plan.embed),
        "kind": pa.array(number),
    }
    pq.write_table(pa.table(table), folder / ROWS, compression="zstd")


def fingerprints(vectors: Floats) -> Strings:
    """Return (n,) a short digest of each vector."""
    rows = np.ascontiguousarray(vectors, np.float32)
    return np.array([hashlib.blake2b(each.tobytes(), digest_size=8).hexdigest() for each in rows], np.str_)
