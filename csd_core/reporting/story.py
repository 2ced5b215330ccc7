"""The whole story of a line of tasks, as the page, the plots and metrics.json tell it."""

from dataclasses import dataclass

from csd_core.records import Champion, CheckReport, LedgerEntry, ShardRecord, Verdict
from csd_core.reporting.examples import UpgradeExamples
from csd_core.reporting.figures import Figures
from csd_core.reporting.scalars import Curve
from csd_core.reporting.thumbnails import Thumbnails


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskStory:
    """One task: what arrived, what was decided, what serves since.

    Attributes:
        shard: Its data.
        check: What promoting its candidate would have done.
        verdict: What the gate decided.
        entry: The state after it.
        curves: The scalars of its training.
        generation: Number of the generation in force after it; None while there is none.
    """

    shard: ShardRecord
    check: CheckReport
    verdict: Verdict
    entry: LedgerEntry
    curves: tuple[Curve, ...]
    generation: int | None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.entry.task

    @property
    def promoted(self) -> bool:
        """Whether its candidate became the champion."""
        return self.verdict.outcome == "promoted"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Story:
    """Everything the report shows.

    Attributes:
        tasks: T, oldest first.
        generations: G distinct promoted models, oldest first.
        figures: Measured on the test items.
        upgrades: Examples for each promotion that replaced a champion.
        thumbnails: The test images that the examples show.
        parameters: params.yaml as YAML, without what has no influence on artefacts.
    """

    tasks: tuple[TaskStory, ...]
    generations: tuple[Champion, ...]
    figures: Figures
    upgrades: tuple[UpgradeExamples, ...]
    thumbnails: Thumbnails
    parameters: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that arrived, in order of arrival."""
        return tuple(dict.fromkeys(name for task in self.tasks for name in task.shard.classes))

    @property
    def champion(self) -> Champion | None:
        """The model in force at the end."""
        number = self.tasks[-1].generation
        return None if number is None else self.generations[number]
