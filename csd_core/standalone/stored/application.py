"""Carry out a plan in a store: second vectors beside the first, judged as they were written, then switched."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csd_core.data.tables import read_table
from csd_core.engine.work import Engine
from csd_core.records.check import CheckReport, Measurement
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.gallery import UNIT_TOLERANCE, Provenance
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.standalone.application import Applied, ReEmbedded, embed_items
from csd_core.standalone.plan_folder import CHECK, PlanFolder
from csd_core.standalone.stored.gallery import unit
from csd_core.standalone.stored.rows import PlannedRows, fingerprints
from csd_core.standalone.stored.sample import Sample, Search
from csd_core.stores.protocol import Rows, Store, refuse_other
from csd_core.system.console import echo, progress
from csd_core.system.errors import ArtifactError, CompatibilityError, DataError, ParamsError
from csd_core.upgrade.gate_rules import points

SHORTFALL = 0.02
"""By which the change of Recall@1 on what was written may stay behind the planned one: other rows lie in between."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Application:
    """A plan that is being carried out.

    Attributes:
        plan: The plan.
        rows: Its rows.
        embedded: What was re-embedded.
        labels: Id of an image -> its class.
    """

    plan: PlanFolder
    rows: PlannedRows
    embedded: ReEmbedded
    labels: dict[str, str]

    def can(self, places: Ints) -> Bools:
        """Return (n,) which of some rows can have a second vector: all but those whose image was not embedded."""
        return ~self.rows.embed[places] | np.isin(self.rows.column("item", places), self.embedded.ids)

    def vectors(self, places: Ints, before: Floats) -> Floats:
        """Return (n, D) second vectors of rows that can have one."""
        record = self.rows.record
        found = np.zeros((len(places), int(record.after.dimension or 0)), np.float32)
        embed = self.rows.embed[places]
        if embed.any():
            vectors = self.embedded.of(self.rows.column("item", places[embed]))
            found[embed, : vectors.shape[1]] = vectors
        for number, kind in enumerate(record.kinds):
            some = np.flatnonzero((self.rows.kinds[places] == number) & ~embed)
            if len(some):
                mapped = self._mapped(before[some], kind.adapter)
                width = min(mapped.shape[1], found.shape[1])
                found[some, :width] = mapped[:, :width]
        return found

    def _mapped(self, vectors: Floats, adapter: str | None) -> Floats:
        if adapter is None:
            return vectors
        path = self.plan.lineage.adapter(adapter)
        if path is None:
            raise ArtifactError(f"{self.plan.folder}: lacks the adapter {adapter[:12]}; plan again")
        loaded = Adapter.load(path)
        return loaded(vectors[:, : loaded.metadata.source_dimension])

    def look(self, search: Search, places: Ints, vectors: Floats, *, after: bool) -> None:
        """Let the sample's queries search rows of which the image is known."""
        items = self.rows.column("item", places)
        known = np.array([each in self.labels for each in items.tolist()], np.bool_)
        places, items, vectors = places[known], items[known], vectors[known]
        kind, embed = self.rows.kinds[places], self.rows.embed[places]
        native = Provenance(str(self.rows.record.after.query_model), "")

        def of(provenance: Provenance) -> Ints:
            mine = np.zeros(len(places), np.bool_)
            for number, each in enumerate(self.rows.record.kinds):
                becomes = each.after if after else Provenance(each.embedded_by, each.adapters)
                if becomes == provenance:
                    mine |= (kind == number) & ~(embed & after)
            return np.flatnonzero(mine | (embed & after & (provenance == native)))

        labels = np.array([self.labels[each] for each in items.tolist()], np.str_)
        search.add(vectors, items=items, labels=labels, provenances=of)


def apply_to_store(
    plan: PlanFolder,
    store: Store,
    *,
    images: Path | None,
    work: Path,
    cache: Path | None = None,
    engine: Engine,
    max_rows_per_second: float | None,
    max_failed: int,
) -> Applied:
    """Write the second vectors of the planned rows, judge them and switch; an interrupted run continues.

    Rows that the plan does not know, or whose vector is another one now, are left alone and have no second vector.

    Args:
        plan: What to do.
        store: Where the rows lie.
        images: Folder of the images; needed where rows are re-embedded.
        work: Folder for what is embedded until it is written.
        cache: Folder of vectors that are known; None for none.
        engine: Who embeds.
        max_rows_per_second: Over all of them; None for full speed.
        max_failed: More rows without a second vector than this stop it before the switch.

    Raises:
        BusyError: if another upgrade is at work in the store.
        ArtifactError: if the store holds another upgrade, or a file of the plan is missing or damaged.
        ParamsError: if images are needed and not given.
        DataError: if too many rows would have no vector.
        CompatibilityError: if what was written is not what was planned.
    """
    rows = PlannedRows.load(plan.folder)
    with store.alone():
        held = store.held()
        refuse_other(held, rows.key, store.name)
        record = plan.record
        if held and held.active:
            raise ArtifactError(f"{store.name}: this plan is applied already; `csd upgrade undo` takes it back")
        if not record.rows_embedded + record.rows_mapped:
            echo(f"{store.name}: no stored row changes; serve what {plan.folder / 'serving.json'} says")
            return Applied(embedded=0, mapped=0, kept=record.rows, added=0, failed={})
        items = rows.items_to_embed()
        if len(items) and images is None:
            raise ParamsError(f"--images: the plan re-embeds {len(items):,} images; name the folder it was made with")
        store.begin(rows.key, int(rows.record.after.dimension or 0))  # a store that refuses does so before the work
        embedded = ReEmbedded(ids=items[:0], vectors=np.empty((0, record.dimension), np.float32), failed={})
        if len(items) and images is not None:
            embedded = embed_items(
                items, plan, images, work, cache=cache, engine=engine, max_rows_per_second=max_rows_per_second
            )
        table = read_table(plan.items, ("id", "label"))
        labels = dict(zip(table["id"].tolist(), table["label"].tolist(), strict=True))
        application = _Application(plan=plan, rows=rows, embedded=embedded, labels=labels)
        sample = Sample.load(plan.folder, rows.record.query_models)
        before = Search(sample=sample, record=rows.record.before)
        written, failed = _write(application, store, before, max_failed=max_failed)
        _verify(application, store, before, written)
        # again, for what changed while the rows were written and verified
        written, failed = _write(application, store, before, max_failed=max_failed)
        store.switch(rows.key)
    shutil.rmtree(work, ignore_errors=True)
    embed = rows.embed[written]
    maps = np.array([kind.adapter is not None for kind in rows.record.kinds])[rows.kinds[written]] & ~embed
    return Applied(
        embedded=int(embed.sum()),
        mapped=int(maps.sum()),
        kept=len(written) - int(embed.sum()) - int(maps.sum()),
        added=0,
        failed=failed,
    )


def _write(application: _Application, store: Store, before: Search, *, max_failed: int) -> tuple[Ints, dict[str, str]]:
    """Write what is not written yet; return the rows that have a second vector, and why others get none.

    A second vector that is there already, of a row whose vector changed or went since, is removed.

    Raises:
        DataError: if too many rows get none.
    """
    rows, key = application.rows, application.rows.key
    done = {name for batch in store.beside(key) for name in batch.ids.tolist()}
    stale = set(done)
    failed: dict[str, str] = {}
    written = [np.empty(0, np.intp)]
    with progress("write", total=len(rows.embed), unit="rows") as meter:
        for batch in store.rows():
            vectors, places = unit(batch.vectors), rows.places(batch.ids)
            known = np.flatnonzero(places >= 0)
            changed = fingerprints(vectors[known]) != rows.column("fingerprint", places[known])
            failed |= dict.fromkeys(batch.ids[places < 0].tolist(), "is not in the plan")
            failed |= dict.fromkeys(batch.ids[known[changed]].tolist(), "has another vector than when it was planned")
            known = known[~changed]
            application.look(before, places[known], vectors[known], after=False)
            can = application.can(places[known])
            for place in known[~can].tolist():
                (item,) = rows.column("item", places[[place]]).tolist()
                reason = application.embedded.failed.get(item, "has no image in the folder it was planned with")
                failed[str(batch.ids[place])] = reason
            known = known[can]
            stale.difference_update(batch.ids[known].tolist())
            written.append(places[known])
            todo = known[[each not in done for each in batch.ids[known].tolist()]]
            if len(todo):
                store.write(key, Rows(batch.ids[todo], application.vectors(places[todo], vectors[todo])))
            meter.advance(len(batch.ids))
    if stale:
        store.discard(key, np.array(sorted(stale), np.str_))
    if len(failed) > max_failed:
        identity, reason = next(iter(failed.items()))
        raise DataError(
            f"{store.name}: {len(failed)} rows would have no vector, --max-failed allows {max_failed}, such as "
            f"{identity}: {reason}; nothing is switched, and what is written is kept for another run"
        )
    return np.concatenate(written), failed


def _verify(application: _Application, store: Store, before: Search, written: Ints) -> None:
    """Read back what was written, and let the gate's queries search it.

    Raises:
        CompatibilityError: if a row is missing, a vector is not of unit length, or Recall@1 falls short of the plan's.
    """
    rows, remedy = (
        application.rows,
        "nothing is switched; `csd upgrade clean` removes what was written, then apply again",
    )
    after = Search(sample=before.sample, record=rows.record.after)
    found = np.zeros(len(rows.embed), np.bool_)
    for batch in store.beside(rows.key):
        places = rows.places(batch.ids)
        wrong = (places < 0) | ~(np.abs(np.linalg.norm(batch.vectors, axis=1) - 1) <= UNIT_TOLERANCE)
        if wrong.any():
            raise CompatibilityError(f"{store.name}: row {batch.ids[wrong][0]} has no vector of the plan; {remedy}")
        application.look(after, places, batch.vectors, after=True)
        found[places] = True
    if not found[written].all():
        there = np.zeros(len(found), np.bool_)  # without what was deleted meanwhile
        for batch in store.rows():
            places = rows.places(batch.ids)
            there[places[places >= 0]] = True
        lost = int((there & ~found)[written].sum())
        if lost:
            raise CompatibilityError(f"{store.name}: {lost:,} rows that were written are not there; {remedy}")
    report, record = CheckReport.load(application.plan.folder / CHECK), application.plan.record
    chosen = next(each for each in report.alternatives if each.way == (record.strategy, record.share))
    planned = _recall(chosen.measured) - _recall(report.status_quo)
    shares = [float(each.hits().mean()) for each in (before, after)]
    echo(
        f"{store.name}: Recall@1 of {len(after.sample.ids):,} queries on the rows as written {points(shares[1])}, "
        "before "
        f"{points(shares[0])}"
    )
    if shares[1] - shares[0] < planned - SHORTFALL:
        raise CompatibilityError(
            f"{store.name}: on the rows as written Recall@1 changes by {points(shares[1] - shares[0])} points, planned "
            f"were {points(planned)}; {remedy}"
        )


def _recall(measured: Measurement | None) -> float:
    recalls = measured.overall if measured else None
    return (recalls.recall_at_1 if recalls else None) or 0.0


def take_back(plan: PlanFolder, store: Store) -> None:
    """Make the vectors before an upgrade the active ones again.

    Raises:
        ArtifactError: if the plan is not applied.
    """
    key = PlannedRows.load(plan.folder).key
    with store.alone():
        held = store.held()
        if held is None or held.key != key or not held.active:
            raise ArtifactError(f"{store.name}: this plan is not active, so there is nothing to undo")
        store.undo(key)


def clean_up(plan: PlanFolder, store: Store) -> bool:
    """Remove the vectors of an upgrade that are not active; return whether its own stay, for they are.

    Raises:
        ArtifactError: if the store holds nothing of this plan.
    """
    key = PlannedRows.load(plan.folder).key
    with store.alone():
        held = store.held()
        if held is None or held.key != key:
            raise ArtifactError(f"{store.name}: holds no vectors of this plan, so there is nothing to remove")
        store.clean(key)
    return held.active
