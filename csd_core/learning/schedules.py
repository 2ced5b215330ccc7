"""Learning rates over a stage, as pure functions of the step: there is no state to resume; and the optimiser."""

import math

import torch
from torch import nn

from csd_core.learning.networks.blocks import rate_shares
from csd_core.learning.networks.network import EmbeddingNetwork
from csd_core.params.training import Cosine, FirstStage, MultiStep, OneCycle, Schedule

START_DIVISOR, END_DIVISOR = 25.0, 1e4
"""one-cycle starts at 1/25 of the full rate and ends at 1/10,000 of that, as torch's does."""


SHARE = "share_of_rate"
"""Key of an optimiser's groups: what the rate is multiplied by in each."""


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


def new_optimizer(network: EmbeddingNetwork, recipe: FirstStage) -> torch.optim.Optimizer:
    """Adam (weight decay added to the gradient, as in the paper) or SGD over all parameters, as one fused kernel.

    Each group has in `SHARE` what its rate is multiplied by. With a decay of layers the parameters after the backbone
    come first, and each block is a group.
    """
    shares = rate_shares(network.backbone, recipe.layer_decay) if recipe.layer_decay < 1 else {}
    grouped: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in network.parameters():
        grouped.setdefault(shares.get(parameter, 1.0), []).append(parameter)
    groups = [{"params": parameters, SHARE: share} for share, parameters in grouped.items()]
    optimizer = recipe.optimizer
    if optimizer.name == "adam":
        return torch.optim.Adam(groups, lr=optimizer.lr, weight_decay=optimizer.weight_decay, fused=True)
    return torch.optim.SGD(
        groups,
        lr=optimizer.lr,
        momentum=optimizer.momentum,
        weight_decay=optimizer.weight_decay,
        fused=True,
    )
