"""How fast stages train and embed here, measured on a few batches of noise."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch

from csd_core.data.pool import ItemPool
from csd_core.learning.augmentation.augment import augment
from csd_core.learning.batches import LabelledImages
from csd_core.learning.methods.protocol import Classes
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.blocks import checkpointed, freeze
from csd_core.learning.networks.device import prepare_device
from csd_core.learning.networks.network import EmbeddingNetwork, new_network, unit
from csd_core.learning.objective import Objective
from csd_core.learning.schedules import new_optimizer
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import FrozenTeacher, outputs_of
from csd_core.params.model import Params
from csd_core.params.training import FirstStage

SECONDS = 1.5
"""How long each is measured."""
FEWEST = 3
"""Batches that are measured at least, after one that is not."""


class Speed(NamedTuple):
    """What was measured, in seconds, and what the method of later tasks shows.

    Attributes:
        first: One training step of a first stage.
        later: The same of a later one, with its teacher; None where none was asked for.
        embedding: One image.
        shows_all: A later stage trains on the images of all tasks seen so far.
        starts_fresh: It takes the recipe of a first stage.
        measured: How long the measurement took.
    """

    first: float
    later: float | None
    embedding: float
    shows_all: bool
    starts_fresh: bool
    measured: float


def measure(params: Params, *, classes: int, old: int | None = None) -> Speed:
    """Train and embed batches of noise as stages would, from random weights.

    Args:
        params: Network, recipes, method, form and hardware.
        classes: How many the classifier has.
        old: How many of them the champion of a later stage knows; None measures no such stage.
    """
    device = prepare_device(params.compute.model_copy(update={"processes": 1}))
    method = METHODS[params.training.later.method]
    started = time.perf_counter()
    network = _network(params, classes).to(device)
    later = None if old is None else _later(params, device, old=old, new=max(1, classes - old))
    recipe = params.training.first
    first = _step_seconds(network, recipe, Objective(recipe, method=None, old_classes=0), params)
    images = _noise(params, recipe.batch_size)
    network.eval()

    @torch.inference_mode()
    def embed() -> None:
        unit(network(images.to(device))).cpu()

    return Speed(
        first=first,
        later=later,
        embedding=_seconds(embed) / recipe.batch_size,
        shows_all=method.learns_from == "all",
        starts_fresh=method.starts_from == "fresh",
        measured=time.perf_counter() - started,
    )


def _later(params: Params, device: torch.device, *, old: int, new: int) -> float:
    """Return the seconds of a later stage's step."""
    training = params.training
    method = METHODS[training.later.method](training.later.methods, Classes(old=old, new=new))
    recipe = training.first if method.starts_from == "fresh" else training.later
    objective = Objective(recipe, method=method, old_classes=old)
    network = _network(params, old + new).to(device)
    if method.backbone == "frozen":
        network.backbone.requires_grad_(requires_grad=False)
    teacher = None
    if objective.needs_teacher:
        teacher = FrozenTeacher(
            _network(params, old), mode=training.later.teacher_mode, device=device, precision=training.precision
        )
        images = _noise(params, recipe.batch_size)
        targets = torch.arange(len(images)) % (old + new)
        none = ItemPool(shards=())
        method.prepare(
            teacher, LabelledImages(pool=none, rows=np.arange(len(images)), targets=targets, in_memory=images)
        )
    return _step_seconds(network, recipe, objective, params, teacher)


def _network(params: Params, classes: int) -> EmbeddingNetwork:
    return new_network(
        params.training.network.model_copy(update={"weights": None}),
        channels=params.images.channels,
        pixels=params.images.pixels,
        classes=classes,
        generator=keyed_generator(params.training.seed, "speed"),
    )


def _noise(params: Params, count: int) -> torch.Tensor:
    """Return (count, H, W, C) uint8."""
    form = params.images
    shape = (count, form.pixels, form.pixels, form.channels)
    return torch.randint(256, shape, generator=keyed_generator(params.training.seed, "noise"), dtype=torch.uint8)


def _step_seconds(
    network: EmbeddingNetwork,
    recipe: FirstStage,
    objective: Objective,
    params: Params,
    teacher: FrozenTeacher | None = None,
) -> float:
    """Return the seconds of one training step."""
    device, precision = network.scale.device, params.training.precision
    generator = keyed_generator(params.training.seed, "step")
    freeze(network.backbone, recipe.frozen)
    optimizer = new_optimizer(network, recipe)
    images = _noise(params, recipe.batch_size)
    targets = torch.randint(network.classes, (recipe.batch_size,), generator=generator).to(device)
    network.train()

    def step() -> None:
        ready = augment(images.to(device), recipe.augmentation, generator=generator)
        taught = teacher(ready) if teacher else None
        with checkpointed(network.backbone) if recipe.gradient_checkpointing else nullcontext():
            terms = objective.terms(outputs_of(network, ready, precision), targets, taught)
        total = objective.total(terms)
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        optimizer.step()
        total.item()

    return _seconds(step)


def _seconds(work: Callable[[], None]) -> float:
    """Return the least time that a call takes."""
    work()
    taken: list[float] = []
    while len(taken) < FEWEST or sum(taken) < SECONDS:
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)
