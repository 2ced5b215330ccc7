"""How a training went: its epochs as they were measured, and warnings with a remedy each.

The stage `train` prints these warnings, so this module imports no record of a check: a change in one would train again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from csd_core.params.model import Params
from csd_core.records.stages import ModelRecord
from csd_core.report.scalars import load_curves
from csd_core.workspace import Workspace

RISE = 0.005
"""Half a point of Recall@1 from one quarter of the epochs to the next is a curve that rises."""

FALL = 0.02
"""A loss that is lower by less than this share of its first value does not fall."""

FEWEST_EPOCHS = 10
"""To ask for, where there were very few."""

EPOCHS_TO_TELL = 4
"""With fewer epochs a curve has no direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a candidate was trained.

    Attributes:
        recipe: first, later or recipes.NAME, as `training` in params.yaml names it.
        rate: The optimiser's learning rate.
        best_epoch: Counted from 1, 0 for the start weights; None where no select query can hit.
        recalls: Recall@1 on `select` after each epoch; empty where no query counts.
        losses: Total loss of each epoch.
    """

    recipe: str
    rate: float
    best_epoch: int | None
    recalls: tuple[float, ...]
    losses: tuple[float, ...]

    @classmethod
    def of(cls, workspace: Workspace, params: Params, task: str) -> Self:
        """Read what the stage `train` of a task left behind.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        recipe = params.task(task).recipe
        training = params.training_of(task)
        settings = training.first if recipe == "first" else training.later
        curves = {curve.name: curve.values for curve in load_curves(workspace.curves(task))}
        recalls, losses = (
            tuple(float(value) for value in curves.get(name, np.empty(0)) if np.isfinite(value))
            for name in ("select/recall_at_1", "train/total")
        )
        return cls(
            recipe=recipe,
            rate=settings.optimizer.lr,
            best_epoch=ModelRecord.load(workspace.candidate_model(task) / "model.json").best_epoch,
            recalls=recalls,
            losses=losses,
        )

    @property
    def epochs(self) -> int:
        """How many there were."""
        return max(len(self.recalls), len(self.losses))

    @property
    def tail(self) -> int:
        """Epochs of the last quarter."""
        return max(1, len(self.recalls) // 4)

    @property
    def rise(self) -> tuple[float, float]:
        """Mean Recall@1 of the last quarter of the epochs but one, and of the last; equal where it cannot be told."""
        if len(self.recalls) < EPOCHS_TO_TELL:
            return 0.0, 0.0
        last = self.tail
        return float(np.mean(self.recalls[-2 * last : -last])), float(np.mean(self.recalls[-last:]))

    @property
    def rises(self) -> bool:
        """Whether Recall@1 still rises at the end: to what it was at no earlier epoch."""
        before, after = self.rise
        return after - before >= RISE and max(self.recalls[-self.tail :]) > max(self.recalls[: -self.tail])

    @property
    def wants_more(self) -> bool:
        """Whether more epochs are promising: Recall@1 rises at the end, or the last epoch is the best."""
        return self.rises or (bool(self.recalls) and self.best_epoch == len(self.recalls))

    @property
    def longer(self) -> str:
        """Why more epochs are promising, and how many to ask for, as a sentence."""
        before, after = self.rise
        more = max(2 * self.epochs, FEWEST_EPOCHS)
        setting = f"set `training.{self.recipe}.epochs: {more}` (now {self.epochs})"
        if self.rises:
            now = f"{100 * after:.1f} % in the last {self.tail} epochs"
            return f"Recall@1 on select still rises, {100 * before:.1f} % and then {now}: {setting}."
        last = f"The last of {self.epochs} epochs was the best" if self.epochs > 1 else "There was one epoch"
        return f"{last}, with Recall@1 {100 * self.recalls[-1]:.1f} % on select: {setting}."


def warnings_of(training: Training) -> Iterator[str]:
    """Yield what is wrong with a training, the likeliest cause first: a sentence each, with the remedy."""
    lower = f"`training.{training.recipe}.optimizer.lr` (now {training.rate:g})"
    if training.rises:
        yield training.longer
    elif training.best_epoch == 0 and training.recalls and training.losses:
        yield (
            f"No epoch of {training.epochs} found more of select than the start weights, which are the model now: the "
            f"best had Recall@1 {100 * max(training.recalls):.1f} %. Lower {lower}, or set `training.first.epochs: 0`."
        )
    elif training.best_epoch == 1 and training.epochs > 1:
        yield (
            f"Epoch 1 of {training.epochs} was the best on select, with Recall@1 {100 * training.recalls[0]:.1f} % and "
            f"{100 * training.recalls[-1]:.1f} % at the end, so training made the model worse: lower {lower}."
        )
    losses = training.losses
    if len(losses) >= EPOCHS_TO_TELL:
        first, last = losses[0], float(np.mean(losses[-max(1, len(losses) // 4) :]))
        if last > first - FALL * abs(first):
            yield (
                f"The loss did not fall in {len(losses)} epochs (from {first:.3g} to {last:.3g}): try another {lower}, "
                "ten times lower or higher."
            )
