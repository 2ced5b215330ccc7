"""The whole story of a line of tasks, as the page, the plots and metrics.json tell it."""

from collections.abc import Mapping
from dataclasses import dataclass

from csd_core.params.production import Review
from csd_core.records.adapters import AdapterFits
from csd_core.records.check import Alternative, CheckReport, most_found
from csd_core.records.stages import Champion, ShardRecord
from csd_core.records.verdict import LedgerEntry, Promoted, Rejected, Verdict, Way
from csd_core.report.advice.next_steps import closest
from csd_core.report.advice.task import Advice
from csd_core.report.charts.thumbnails import Thumbnails
from csd_core.report.examples import Mistake, UpgradeExamples
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
        advice: Warnings, and what to do about a rejection.
        mistakes: The most frequent confusions of its candidate on gate queries.
        examples: Gate queries of a candidate that was rejected; None for others, and for a check of before.
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
    advice: Advice
    mistakes: tuple[Mistake, ...]
    examples: UpgradeExamples | None

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
    def looked_at(self) -> Alternative | None:
        """How its candidate came to be served, or else the least bad way; None where none was measured."""
        return self.chosen or most_found(self.check.alternatives)

    @property
    def failed(self) -> Way | None:
        """The way to serve that fails the fewest conditions; None after a promotion, and where none was judged."""
        return closest(self.verdict) if isinstance(self.verdict, Rejected) else None

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
        thumbnails: The images that examples and confusions show.
        files: What each of them is in its source.
        parameters: params.yaml as YAML, without what has no influence on artefacts.
    """

    tasks: tuple[TaskStory, ...]
    generations: tuple[Champion, ...]
    figures: Figures
    stores_test: bool
    upgrades: tuple[UpgradeExamples, ...]
    thumbnails: Thumbnails
    files: Mapping[int, str]
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
