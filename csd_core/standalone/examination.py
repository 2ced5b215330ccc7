"""The gate on two models, labelled items and a gallery: fit adapters, measure every strategy, judge."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from csd_core.params.section import Split
from csd_core.params.upgrade import Policy, Upgrade
from csd_core.records.adapters import AdapterFits
from csd_core.records.check import CheckReport
from csd_core.records.verdict import Promoted, Rejected
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.lineage import Lineage
from csd_core.standalone.collection import Collection, read_collection
from csd_core.standalone.compared import Compared, Materials, read_compared
from csd_core.standalone.own_gallery import OwnGallery
from csd_core.standalone.pool import AnyModel, CollectionPool, FormedLineage, dimension_of
from csd_core.standalone.roles import NEW, Roles, assign_roles, refuse_too_few
from csd_core.system.atomic import atomic_folder
from csd_core.system.console import echo
from csd_core.system.errors import CompatibilityError, DataError, ParamsError
from csd_core.upgrade.check import check
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.gate import judge
from csd_core.upgrade.mapping.adaptation import Lessons, fit_adapters
from csd_core.upgrade.mapping.adapters import RECORD, CandidateAdapters
from csd_core.upgrade.measured import embedded, evaluation_data_of
from csd_core.upgrade.sampling import evenly
from csd_core.upgrade.situation import Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class GateInput:
    """What is to be judged.

    Attributes:
        materials: Models, labels, vectors and images.
        gallery: Folder of the gallery; None makes one of the old classes by the old model.
        new_classes: What the gallery lacks; empty finds them by the gallery.
        fit: Folder of images to fit adapters on; None takes images of the new classes.
        policy: What an upgrade must satisfy.
        settings: Ways to serve it.
        max_queries: At most so many queries judge and choose; None for all.
        seed: Of the images' roles.
    """

    materials: Materials
    gallery: Path | None
    new_classes: tuple[str, ...]
    fit: Path | None
    policy: Policy
    settings: Upgrade
    max_queries: int | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GateResult:
    """What became of it.

    Attributes:
        report: Every way to serve the candidate, measured.
        verdict: The gate's.
        own: The old gallery.
        dimension: Of the candidate's vectors.
        adapters: The candidate's.
        collection: The folder's items.
        roles: Of the items.
    """

    report: CheckReport
    verdict: Promoted | Rejected
    own: OwnGallery
    dimension: int
    adapters: CandidateAdapters
    collection: Collection
    roles: Roles


def run_gate(gate_input: GateInput, scratch: Path) -> GateResult:
    """Judge a candidate.

    Args:
        gate_input: What is to be judged.
        scratch: An empty folder with room for the decoded images; it must outlive the answer.

    Raises:
        CsdError: if something that was given is missing, unusable or does not belong together.
    """
    compared = read_compared(gate_input.materials, gallery=gate_input.gallery, scratch=scratch)
    old, new, own, collection = compared.old, compared.new, compared.own, compared.collection
    roles = assign_roles(
        collection,
        gallery=own.gallery if own else None,
        new_classes=gate_input.new_classes,
        seed=gate_input.seed,
        stored=compared.stored,
    )
    refuse_too_few(collection.items, roles)
    pool = collection.pool(splits=roles.splits, tasks=roles.tasks, cache=compared.cache)
    if own is None:
        at_hand = [file for file in [gate_input.materials.old] if file]
        known = Lineage(models={}, adapters={}).extended(models=at_hand)
        own = OwnGallery(gallery=embedded(pool, np.flatnonzero(roles.old), old), items=compared.items, lineage=known)
    elif lost := len(own.gallery) - int(roles.old.sum()):
        echo(
            f"{collection.items.record.name}: has no image of {lost:,} of the gallery's {len(own.gallery):,} rows; "
            "they are not measured, and a backfill cannot re-embed them: its figures hold for the other rows"
        )

    evaluation = evaluation_data_of(
        pool, own.gallery, list(get_args(Split)), candidate=new, active=_query_models(own, old)
    )
    gate, select = (_asked_by(evaluation, split, most=gate_input.max_queries) for split in ("gate", "select"))
    adapters = _fitted(gate_input, compared, own, pool, roles, select, scratch=scratch)
    situation = Situation(
        gallery=own.gallery,
        candidate=new.digest,
        dimension=dimension_of(new),
        adapters=adapters,
        settings=gate_input.settings,
    )
    report = check(
        str(roles.tasks[~roles.old][0]) if not roles.old.all() else NEW,
        gate=gate,
        select=select,
        situation=situation,
        champion=old.digest,
        pending=(),
        best_own_gallery=own.items.best_own_gallery,
    )
    return GateResult(
        report=report,
        verdict=judge(report, gate_input.policy),
        own=own,
        dimension=situation.dimension,
        adapters=adapters,
        collection=collection,
        roles=roles,
    )


def _query_models(own: OwnGallery, old: AnyModel) -> dict[str, AnyModel]:
    """Digest -> each model that embeds queries of the old gallery."""
    models = own.lineage.models
    lost = [digest for digest in own.gallery.query_models if digest != old.digest and digest not in models]
    if lost:
        raise CompatibilityError(
            f"the gallery's older rows are searched by model {lost[0][:12]}, which does not lie in its lineage; name "
            "the folder that `csd upgrade apply` or the pipeline wrote, with its lineage"
        )
    return {
        digest: old if digest == old.digest else Embedder.load(models[digest]) for digest in own.gallery.query_models
    }


def _asked_by(evaluation: EvaluationData, split: Split, *, most: int | None) -> EvaluationData:
    """Return the same with the queries of a split, or evenly drawn ones of them; every item stays a row."""
    asked = evaluation.asked_by(split)
    return asked if most is None else asked.asking(asked.asked[evenly(len(asked.asked), most)])


def _fitted(
    gate_input: GateInput,
    compared: Compared,
    own: OwnGallery,
    pool: CollectionPool,
    roles: Roles,
    select: EvaluationData,
    *,
    scratch: Path,
) -> CandidateAdapters:
    """Fit the candidate's adapters, or say why there is none."""
    folder = scratch / "adapters"
    train_pool, train = pool, np.flatnonzero(roles.taught & (roles.splits == "train"))
    if gate_input.fit:
        if not compared.forms:
            raise ParamsError("--fit: no image is embedded, for all vectors are given; leave it out")
        train_pool = _lessons_of(gate_input.fit, compared, scratch / "fit")
        measured = pool.keys[pool.rows("gate", "select")]
        train = np.flatnonzero(~np.isin(train_pool.keys, measured))
        if not len(train):
            raise DataError(f"{gate_input.fit}: every image is among those that judge; give others to fit adapters on")
    train = train[evenly(len(train), gate_input.settings.adapter.max_images)]
    if not len(train):
        with atomic_folder(folder) as partial:
            AdapterFits(fits=(), why_not="there is no image to fit an adapter on").save(partial / RECORD)
        return CandidateAdapters.load(folder)
    held_out = np.flatnonzero(roles.taught & (roles.splits == "select"))
    fit_adapters(
        folder,
        gallery=own.gallery,
        lineage=FormedLineage(
            models=own.lineage.models, adapters=own.lineage.adapters, at_hand={compared.old.digest: compared.old}
        ),
        candidate=compared.new,
        digest=compared.new.digest,
        lessons=Lessons(
            train=lambda embed: train_pool.embed(train, embed),
            held_out=lambda embed: pool.embed(held_out, embed),
            select=select,
        ),
        settings=gate_input.settings.adapter,
        seed=gate_input.settings.seed,
    )
    return CandidateAdapters.load(folder)


def _lessons_of(folder: Path, compared: Compared, scratch: Path) -> CollectionPool:
    collection = read_collection(folder, ids_in=compared.items.form, forms=compared.forms, scratch=scratch)
    count = len(collection.items.ids)
    return collection.pool(splits=np.full(count, "train"), tasks=np.full(count, NEW), cache=compared.cache)
