"""Learning rates over a stage, as pure functions of the step: there is no state to resume."""

import math

from csd_core.params.training import Cosine, MultiStep, OneCycle, Schedule

START_DIVISOR, END_DIVISOR = 25.0, 1e4
"""one-cycle starts at 1/25 of the full rate and ends at 1/10,000 of that, as torch's does."""


def rate_factor(schedule: Schedule, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return what to multiply the learning rate by at `step`, counted from 0 over all epochs.

    Milestones fall on whole epochs; cosine and one-cycle change with every step.
    """
    steps = steps_per_epoch * epochs
    match schedule:
        case MultiStep():
            epoch = step // steps_per_epoch
            passed = sum(epoch >= round(milestone * epochs) for milestone in schedule.milestones)
            return schedule.factor**passed
        case Cosine():
            warmup = round(schedule.warmup * steps)
            if step < warmup:
                return (step + 1) / warmup
            return _cosine(1.0, 0.0, (step - warmup) / max(1, steps - warmup))
        case OneCycle():
            top = schedule.warmup * steps - 1  # torch.optim.lr_scheduler.OneCycleLR's two phases
            if step <= top:
                return _cosine(1 / START_DIVISOR, 1.0, step / top if top > 0 else 1.0)
            return _cosine(1.0, 1 / (START_DIVISOR * END_DIVISOR), (step - top) / (steps - 1 - top))


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
