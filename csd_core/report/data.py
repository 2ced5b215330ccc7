"""The whole story of a line of tasks, as the page, the plots and metrics.json tell it."""

from dataclasses import dataclass

from csd_core.params.model import Review
from csd_core.records.check import Alternative, CheckReport
from csd_core.records.stages import AdapterFits, Champion, ShardRecord
from csd_core.records.verdict import LedgerEntry, Promoted, Verdict
from csd_core.report.charts.thumbnails import Thumbnails
from csd_core.report.examples import UpgradeExamples
from csd_core.report.figures import Figures
from csd_core.report.scalars import Curve
from csd_core.report.stored import RowGroup


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskStory:
    """One task: what arrived, what was decided, what serves since.

    Attributes:
        shard: Its data.
        adapters: What would map the old gallery's vectors into its candidate's space.
        check: What promoting its candidate would have done.
        verdict: What the gate decided.
        review: What a person decided, if one did.
        entry: The state after it.
        curves: The scalars of its training.
        generation: Number of the active generation after it; None while there is none.
        old_rows: Rows of the gallery before it.
        groups: Rows of the gallery after it, by provenance.
    """

    shard: ShardRecord
    adapters: AdapterFits
    check: CheckReport
    verdict: Verdict
    review: Review | None
    entry: LedgerEntry
    curves: tuple[Curve, ...]
    generation: int | None
    old_rows: int
    groups: tuple[RowGroup, ...]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.entry.task

    @property
    def promoted(self) -> bool:
        """Whether its candidate became the champion."""
        return self.verdict.outcome == "promoted"

    @property
    def chosen(self) -> Alternative | None:
        """How its candidate came to be served, as it was measured; None where it was rejected."""
        verdict = self.verdict
        if not isinstance(verdict, Promoted):
            return None
        return next(
            each for each in self.check.alternatives if (each.strategy, each.share) == (verdict.strategy, verdict.share)
        )

    @property
    def replaced(self) -> bool:
        """Whether its candidate took the place of a champion."""
        return self.promoted and self.verdict.champion is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportData:
    """Everything the report shows.

    Attributes:
        tasks: T, oldest first.
        generations: G distinct promoted models, oldest first.
        figures: Measured on the test items.
        stores_test: Whether test items are in the gallery, so that what users find can be shown.
        upgrades: Examples for each promotion that replaced a champion; none where test items are not stored.
        thumbnails: The test images that the examples show.
        parameters: params.yaml as YAML, without what has no influence on artefacts.
    """

    tasks: tuple[TaskStory, ...]
    generations: tuple[Champion, ...]
    figures: Figures
    stores_test: bool
    upgrades: tuple[UpgradeExamples, ...]
    thumbnails: Thumbnails
    parameters: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that arrived, in order of arrival."""
        return tuple(dict.fromkeys(name for task in self.tasks for name in task.shard.classes))

    @property
    def replacements(self) -> tuple[TaskStory, ...]:
        """The tasks whose candidate took the place of a champion."""
        return tuple(task for task in self.tasks if task.replaced)

    @property
    def champion(self) -> Champion | None:
        """The active model at the end."""
        number = self.tasks[-1].generation
        return None if number is None else self.generations[number]
