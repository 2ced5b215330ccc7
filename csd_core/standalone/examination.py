"""The gate on two models, a folder of images and a gallery: fit adapters, measure every strategy, judge."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from csd_core.params.section import Split
from csd_core.params.upgrade import Policy, Upgrade
from csd_core.records.adapters import AdapterFits
from csd_core.records.check import CheckReport
from csd_core.records.stages import ImageForm
from csd_core.records.verdict import Promoted, Rejected
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.lineage import Lineage
from csd_core.standalone.collection import Collection, CollectionPool, FormedLineage, read_collection
from csd_core.standalone.own_gallery import ItemsRecord, OwnGallery
from csd_core.standalone.roles import NEW, Roles, assign_roles, refuse_too_few
from csd_core.system.atomic import atomic_folder
from csd_core.system.console import echo
from csd_core.system.errors import CompatibilityError, DataError
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
        old: ONNX file of the active model, in csd's form.
        new: The candidate's.
        images: Folder of images, a folder for each class.
        gallery: Folder of the gallery; None makes one of the old classes by the old model.
        new_classes: What the gallery lacks; empty finds them by the gallery.
        fit: Folder of images to fit adapters on; None takes images of the new classes.
        policy: What an upgrade must satisfy.
        settings: Ways to serve it.
        max_queries: At most so many queries judge and choose; None for all.
        seed: Of the images' roles.
    """

    old: Path
    new: Path
    images: Path
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
    old, new = Embedder.load(gate_input.old), Embedder.load(gate_input.new)
    own = OwnGallery.load(gate_input.gallery, model=old, file=gate_input.old) if gate_input.gallery else None
    items = own.items if own else ItemsRecord(form=old.metadata.form, best_own_gallery={})
    forms = {old.metadata.form, new.metadata.form, *(_forms(own.lineage) if own else ())}
    collection = read_collection(gate_input.images, ids_in=items.form, forms=forms, scratch=scratch / "images")
    roles = assign_roles(
        collection.items,
        gallery=own.gallery if own else None,
        new_classes=gate_input.new_classes,
        seed=gate_input.seed,
    )
    refuse_too_few(collection.items, roles)
    pool = collection.pool(splits=roles.splits, tasks=roles.tasks)
    if own is None:
        known = Lineage(models={}, adapters={}).extended(models=[gate_input.old])
        own = OwnGallery(gallery=embedded(pool, np.flatnonzero(roles.old), old), items=items, lineage=known)
    elif lost := len(own.gallery) - int(roles.old.sum()):
        echo(
            f"{gate_input.images}: has no image of {lost:,} of the gallery's {len(own.gallery):,} rows; they are "
            "not measured, and a backfill cannot re-embed them: its figures hold for the other rows"
        )

    evaluation = evaluation_data_of(
        pool, own.gallery, list(get_args(Split)), candidate=new, active=_query_models(own, old)
    )
    gate, select = (_asked_by(evaluation, split, most=gate_input.max_queries) for split in ("gate", "select"))
    adapters = _fitted(gate_input, own, pool, roles, new, select, forms=forms, scratch=scratch)
    situation = Situation.of(own.gallery, new, adapters, gate_input.settings)
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
        dimension=new.metadata.dimension,
        adapters=adapters,
        collection=collection,
        roles=roles,
    )


def _forms(lineage: Lineage) -> Iterable[ImageForm]:
    """Return the images that retained models take."""
    return (Embedder.load(path).metadata.form for path in lineage.models.values())


def _query_models(own: OwnGallery, old: Embedder) -> dict[str, Embedder]:
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
    own: OwnGallery,
    pool: CollectionPool,
    roles: Roles,
    new: Embedder,
    select: EvaluationData,
    *,
    forms: set[ImageForm],
    scratch: Path,
) -> CandidateAdapters:
    """Fit the candidate's adapters, or say why there is none."""
    folder = scratch / "adapters"
    train_pool, train = pool, np.flatnonzero(roles.taught & (roles.splits == "train"))
    if gate_input.fit:
        train_pool = _lessons_of(gate_input.fit, own.items.form, forms, scratch / "fit")
        measured = pool.ids[pool.rows("gate", "select")]
        train = np.flatnonzero(~np.isin(train_pool.ids, measured))
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
        lineage=FormedLineage(models=own.lineage.models, adapters=own.lineage.adapters),
        candidate=new,
        digest=new.digest,
        lessons=Lessons(
            train=lambda embed: train_pool.embed(train, embed),
            held_out=lambda embed: pool.embed(held_out, embed),
            select=select,
        ),
        settings=gate_input.settings.adapter,
        seed=gate_input.settings.seed,
    )
    return CandidateAdapters.load(folder)


def _lessons_of(folder: Path, ids_in: ImageForm, forms: set[ImageForm], scratch: Path) -> CollectionPool:
    collection = read_collection(folder, ids_in=ids_in, forms=forms, scratch=scratch)
    count = len(collection.items.ids)
    return collection.pool(splits=np.full(count, "train"), tasks=np.full(count, NEW))
