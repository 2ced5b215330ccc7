"""A plan on disk: what the gate found, and all that carrying it out needs but the images and the gallery.

plan.json       PlanRecord: what it is a plan for; missing where the gate rejected the candidate
check.json      CheckReport
verdict.json    VerdictFile
adapters/       the candidate's adapters (csd_core.upgrade.mapping.adapters)
lineage/        the models and adapters of the rows before and after, the candidate among them
items.parquet   id, label, split, task, path of the folder's images, and the hash of their pixels
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from csd_core.data.tables import write_table
from csd_core.params.upgrade import Order, Rest, Strategy, Upgrade
from csd_core.records.check import CheckReport
from csd_core.records.stages import Digest, Record
from csd_core.records.verdict import Promoted, VerdictFile
from csd_core.retrieval.embedder import digest_of
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.standalone.examination import GateResult
from csd_core.standalone.own_gallery import ItemsRecord
from csd_core.system.atomic import atomic_folder, copy_tree
from csd_core.system.errors import ArtifactError, CompatibilityError
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import strategy_named

RECORD, CHECK, VERDICT = "plan.json", "check.json", "verdict.json"
ADAPTERS, LINEAGE, ITEMS = "adapters", "lineage", "items.parquet"


class PlanRecord(Record):
    """plan.json."""

    gallery: Digest
    """Over the rows it is a plan for."""
    rows: int
    old: Digest
    """The active model."""
    new: Digest
    """The candidate."""
    dimension: int
    """Of its vectors."""
    strategy: Strategy
    share: float | None
    """Of the old rows that a partial backfill re-embeds."""
    order: Order | None
    """Of a partial backfill's rows."""
    rest: Rest | None
    """What becomes of its other rows."""
    settings: Upgrade
    rows_embedded: int
    rows_mapped: int
    rows_kept: int
    items: ItemsRecord
    """What ids mean, and what is served at best, after the upgrade."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanFolder:
    """A plan as it is read.

    Attributes:
        folder: Where it lies.
        record: What it is a plan for.
        lineage: Of the rows before and after.
    """

    folder: Path
    record: PlanRecord
    lineage: Lineage

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `write_plan` wrote.

        Raises:
            ArtifactError: if a file is missing or is not what it was, or the gate rejected the candidate.
        """
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: there is no such plan; make it with `csd upgrade plan`")
        if (folder / VERDICT).is_file() and not (folder / RECORD).is_file():
            raise ArtifactError(f"{folder}: the gate rejected this candidate, so there is nothing to apply")
        lineage = Lineage.load(folder / LINEAGE)
        for digest, path in {**lineage.models, **lineage.adapters}.items():
            if digest_of(path) != digest:
                raise ArtifactError(f"{path}: is not the file that was planned with (its digest differs); plan again")
        return cls(folder=folder, record=PlanRecord.load(folder / RECORD), lineage=lineage)

    @property
    def items(self) -> Path:
        """Table of the folder's images."""
        return self.folder / ITEMS

    @property
    def model(self) -> Path:
        """The candidate's ONNX file.

        Raises:
            ArtifactError: if it is missing.
        """
        path = self.lineage.model(self.record.new)
        if path is None:
            raise ArtifactError(f"{self.folder}: lacks the candidate {self.record.new[:12]}; plan again")
        return path

    def upgrade(self, gallery: Gallery) -> UpgradePlan:
        """Return what becomes of each row.

        Raises:
            CompatibilityError: if it is not the gallery that was planned for.
            ArtifactError: if adapters are missing or not those that were planned with.
        """
        record = self.record
        if gallery.digest != record.gallery:
            raise CompatibilityError(
                f"the gallery ({len(gallery):,} rows, digest {gallery.digest[:12]}) is not the one planned for "
                f"({record.rows:,} rows, {record.gallery[:12]}); plan again"
            )
        adapters = CandidateAdapters.load(self.folder / ADAPTERS)
        strategy = strategy_named(record.strategy, share=record.share, order=record.order, rest=record.rest)
        situation = Situation(
            gallery=gallery,
            candidate=record.new,
            dimension=record.dimension,
            adapters=adapters,
            settings=record.settings,
        )
        plan = strategy.plan(situation)
        found = (int(plan.embed.sum()), int(plan.mapped(gallery).sum()))
        if found != (record.rows_embedded, record.rows_mapped) or any(
            self.lineage.adapter(adapter.digest) is None for adapter in plan.adapters.values()
        ):
            raise ArtifactError(f"{self.folder}: the adapters are not those that were planned with; plan again")
        alternatives = CheckReport.load(self.folder / CHECK).alternatives
        measured = next(
            (each for each in alternatives if (each.strategy, each.share) == (record.strategy, record.share)), None
        )
        if measured is None:
            raise ArtifactError(f"{self.folder / CHECK}: has no {record.strategy}, which was planned; plan again")
        return plan.scored(measured.scoring)


def write_plan(gate_result: GateResult, settings: Upgrade, new: Path, folder: Path) -> None:
    """Write a plan, whole or not at all.

    Args:
        gate_result: What the gate found.
        settings: Ways to serve the candidate.
        new: Its ONNX file, in csd's form.
        folder: To write; there is none yet.
    """
    with atomic_folder(folder) as partial:
        gate_result.report.save(partial / CHECK)
        VerdictFile(verdict=gate_result.verdict).save(partial / VERDICT)
        if isinstance(gate_result.verdict, Promoted):
            _write_what_to_do(gate_result, gate_result.verdict, settings, new, partial)


def _write_what_to_do(gate_result: GateResult, verdict: Promoted, settings: Upgrade, new: Path, folder: Path) -> None:
    report, gallery, items = gate_result.report, gate_result.own.gallery, gate_result.collection.items
    chosen = next(
        each for each in report.alternatives if (each.strategy, each.share) == (verdict.strategy, verdict.share)
    )
    if gate_result.adapters.folder is not None:
        copy_tree(gate_result.adapters.folder, folder / ADAPTERS)
    after = gate_result.own.lineage.extended(models=[new], adapters=gate_result.adapters.paths())
    after.save(folder / LINEAGE)
    write_table(
        folder / ITEMS,
        {
            "id": items.ids,
            "label": items.labels,
            "split": gate_result.roles.splits,
            "task": gate_result.roles.tasks,
            "path": items.paths,
            "pixels": gate_result.collection.keys,
        },
    )
    served = [each.own_gallery for each in (report.status_quo, chosen.measured) if each]
    tasks = sorted({task for known in (report.best_own_gallery, *served) for task in known})
    best = {task: max(known[task] for known in (report.best_own_gallery, *served) if task in known) for task in tasks}
    partial = report.partial if verdict.strategy == "partial" else None
    PlanRecord(
        gallery=gallery.digest,
        rows=len(gallery),
        old=str(report.champion),
        new=report.candidate,
        dimension=gate_result.dimension,
        strategy=verdict.strategy,
        share=verdict.share,
        order=partial.order if partial else None,
        rest=partial.rest if partial else None,
        settings=settings,
        rows_embedded=chosen.rows_embedded,
        rows_mapped=chosen.rows_mapped,
        rows_kept=len(gallery) - chosen.rows_embedded - chosen.rows_mapped,
        items=ItemsRecord(form=gate_result.own.items.form, best_own_gallery=best),
    ).save(folder / RECORD)
