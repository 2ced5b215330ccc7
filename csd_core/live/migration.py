"""Rows that people wrote, carried from one table into another that a different model may search.

N rows, D dimensions. Each row is treated by its own provenance: it stays, an adapter maps it, or its image is embedded
anew. Rows that an older model's queries go on searching stay too; narrower vectors end in zeros.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from csd_core.live.gallery import LiveGallery
from csd_core.live.images import pixels
from csd_core.live.rows import LiveItems, StoredImages, gallery_of, texts_of, times_of
from csd_core.live.rules import SearchRules
from csd_core.params.upgrade import Strategy
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery, Provenance, padded
from csd_core.system.console import progress
from csd_core.system.errors import CsdError
from csd_core.upgrade.plans import UpgradePlan

CHUNK_BYTES = 64 << 20
"""Images in memory at a time."""
LARGEST_CHUNK = 4096
"""Rows in memory at a time, with their thumbnails."""
NO_IDS = pa.chunked_array([], pa.string())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MigrationRules:
    """What a model does with rows that others made.

    Attributes:
        embedder: The model.
        strategy: For the record of the plan.
        search: How the rows are searched afterwards, by this model and older ones.
        stays: Spaces whose rows stay as they are; its own rows always do.
        kept: Provenances whose rows stay as they are.
        adapters: How rows of a provenance are mapped.
        re_embed: Ids re-embedded whatever their provenance; as Arrow has them, for they may be all of the pipeline's.
    """

    embedder: Embedder
    strategy: Strategy
    search: SearchRules
    stays: frozenset[str]
    adapters: Mapping[Provenance, Adapter]
    re_embed: pa.ChunkedArray = field(default_factory=lambda: NO_IDS)
    kept: frozenset[Provenance] = frozenset()

    def plan(self, rows: Gallery, former: SearchRules) -> UpgradePlan:
        """What becomes of each row.

        Args:
            rows: Of the active table.
            former: How they are searched until now.
        """
        own = Provenance(self.embedder.digest, "")
        asked = pa.array(rows.ids.tolist(), pa.string())
        listed = self.re_embed.filter(pc.is_in(self.re_embed, value_set=asked))  # hashes the few, not the many
        embed = np.array(pc.is_in(asked, value_set=listed), np.bool_)
        adapters: dict[Provenance, Adapter] = {}

        def same_width(provenance: Provenance) -> bool:
            return former.dimension_of(provenance) == self.embedder.metadata.dimension

        for provenance, positions in rows.groups().items():
            if provenance == own:
                embed[positions] = False
            elif provenance in self.kept or (same_width(provenance) and str(rows.spaces[positions[0]]) in self.stays):
                pass
            elif provenance in self.adapters:
                adapters[provenance] = self.adapters[provenance]
            else:
                embed[positions] = True
        return UpgradePlan(
            strategy=self.strategy,
            model=self.embedder.digest,
            embed=embed,
            adapters=adapters,
            searchable_spaces=self.search.searchable_spaces,
            query_models={
                Provenance(each.embedded_by, each.adapters): each.query_model for each in self.search.scoring
            },
        )

    def can_search(self, rows: Gallery, former: SearchRules) -> npt.NDArray[np.bool_]:
        """(N,) rows whose vectors may be searched as they are."""
        found = np.zeros(len(rows), np.bool_)
        for provenance, positions in rows.groups().items():
            fits = former.dimension_of(provenance) == self.search.dimension_of(provenance)
            found[positions] = fits and self.search.may_search(provenance, str(rows.spaces[positions[0]]))
        return found


@dataclass(slots=True, kw_only=True, eq=False)
class RowMigration:
    """Carries rows from the active table into the next one.

    Attributes:
        live: Where both are.
        source: The active table.
        former: How its rows are searched.
        target: The next one.
        rules: What becomes of the rows.
        migrated: Rows that were written into the next table, however often.
        left_out: Id -> why its row could not be carried.
    """

    live: LiveGallery
    source: str
    former: SearchRules
    target: str
    rules: MigrationRules
    migrated: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def migrate(self, ids: Collection[str]) -> None:
        """Write rows of the active table into the next one, or list them among those left out.

        The slow part, embedding, runs without the write lock; a row that was written or deleted again meanwhile is not
        written: the next look at what changed finds it.

        Raises:
            CsdError: if no image at all can be had.
        """
        form = self.rules.embedder.metadata.form
        chunk = max(1, min(LARGEST_CHUNK, CHUNK_BYTES // (form.size * form.size * form.channels)))
        wanted = sorted(ids)
        with progress("live rows", total=len(wanted), unit="rows") as meter:
            for start in range(0, len(wanted), chunk):
                some = wanted[start : start + chunk]
                self._migrate(self.live.rows(self.source, ids=some))
                meter.advance(len(some))
        if wanted and not self.migrated and self.left_out.keys() >= set(wanted):
            first = next(iter(self.left_out.items()))
            raise CsdError(
                f"none of the {len(wanted)} live rows can be upgraded, such as item {first[0]}: {first[1]}; make their "
                "images reachable (or delete the items) and try again"
            )

    def discard_deleted(self) -> int:
        """Remove from the next table what was deleted meanwhile.

        Returns:
            How many rows went.
        """
        with self.live.writing():
            return self._discard_deleted()

    def _discard_deleted(self) -> int:
        tombstones_found = self.live.tombstones()
        gone: list[str] = []
        for rows in (
            self.live.batches(self.target, ["id", "origin", "written_at"]) if tombstones_found.tombstones_found else ()
        ):
            ids, by_people = texts_of(rows, "id"), texts_of(rows, "origin") == "live"
            times = np.where(by_people, times_of(rows), np.datetime64(0, "us"))
            gone += ids[tombstones_found.is_deleted(ids, written_at=times)].tolist()
        there = self.live.has(self.source, list(self.left_out))
        self.left_out = {identity: why for identity, why in self.left_out.items() if there[identity]}
        return self._discard(gone)

    def _migrate(self, rows: pa.Table) -> None:
        items, failed = self._treated(rows)
        before = _revisions(rows)
        with self.live.writing():
            now = _revisions(self.live.rows(self.source, ids=list(before), columns=["id", "revision"]))
            current = np.array([now.get(each) == before[each] for each in items.ids.tolist()], np.bool_)
            # a delete that was killed half-way has left a tombstone and the row
            current &= ~self.live.tombstones_of(items.ids.tolist()).is_deleted(items.ids, written_at=items.written_at)
            if current.any():
                self.live.upsert(self.target, _some(items, np.flatnonzero(current)))
            self._discard(failed)  # an earlier state of the row may have been carried
        self.migrated += int(current.sum())
        self.left_out = {each: why for each, why in self.left_out.items() if each not in before} | failed

    def _discard(self, ids: Collection[str]) -> int:
        """Remove rows of the next table without a tombstone."""
        return self.live.discard(self.target, list(ids))

    def _treated(self, rows: pa.Table) -> tuple[LiveItems, dict[str, str]]:
        """Rows as the model searches them, and why others cannot be had."""
        spaces = tuple(sorted(set(rows["space"].to_pylist())))
        old = gallery_of(rows, query_model=None, searchable_spaces=spaces, scoring=self.former.scoring)
        plan = self.rules.plan(old, self.former)
        stored = StoredImages.of(rows)
        fetched = pixels(
            stored.take(np.flatnonzero(plan.embed)),
            old.ids[plan.embed],
            form=self.rules.embedder.metadata.form,
            root=self.live.root,
        )
        # a row whose image cannot be had is mapped or stays, where its vector allows that
        missing = plan.embed & ~np.isin(old.ids, fetched.ids)
        out = missing & ~self.rules.can_search(old, self.former) & ~replace(plan, embed=~missing).mapped(old)
        kept = np.flatnonzero(~out)
        some = old.take(kept)
        plan = replace(plan, embed=plan.embed & ~missing).of(kept)
        new = plan.apply(some, lambda _: self.rules.embedder(fetched.images)) if len(kept) else some
        items = LiveItems(
            ids=new.ids,
            labels=new.labels,
            vectors=padded(new.vectors, self.rules.search.width),
            embedded_by=new.embedded_by,
            images=stored.take(kept),
            adapters=new.adapters,
            spaces=new.spaces,
            tasks=new.tasks,
            splits=new.splits,
            origins=texts_of(rows, "origin")[kept],
            revisions=texts_of(rows, "revision")[kept],
            written_at=times_of(rows)[kept],
        )
        return items, {identity: fetched.failed[identity] for identity in old.ids[out].tolist()}


def _revisions(rows: pa.Table) -> dict[str, str]:
    return dict(zip(rows["id"].to_pylist(), rows["revision"].to_pylist(), strict=True))


def _some(items: LiveItems, rows: npt.NDArray[np.intp]) -> LiveItems:
    """Some of the items; every column is an array here."""
    columns = {field_.name: getattr(items, field_.name)[rows] for field_ in fields(items) if field_.name != "images"}
    return replace(items, images=(items.images or StoredImages.none(len(items.ids))).take(rows), **columns)
