"""How a stage starts: its data, student and teacher, recipe and loss, as the chosen method asks for."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from csd_core.learning.batches import LabelledImages, class_weights
from csd_core.learning.distributed.batch_norm import share_statistics
from csd_core.learning.distributed.group import ProcessGroup
from csd_core.learning.methods.protocol import Classes, Method
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.blocks import freeze
from csd_core.learning.networks.network import EmbeddingNetwork, grow_classifier, new_network
from csd_core.learning.networks.weights import TrainedModel
from csd_core.learning.objective import Objective
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import FrozenTeacher
from csd_core.params.training import FirstStage, LaterStage, Network, Training
from csd_core.records.stages import ImageForm
from csd_core.system.errors import CompatibilityError, TrainingError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageData:
    """What a stage learns from.

    Attributes:
        task: Whose stage it is.
        trained_on: Tasks of the training images.
        form: Of every image.
        classes: Column names after the stage: the champion's, in its order, then new ones.
        train: Training images; targets are columns.
        select: Images of all tasks seen so far that choose the epoch.
    """

    task: str
    trained_on: tuple[str, ...]
    form: ImageForm
    classes: tuple[str, ...]
    train: LabelledImages
    select: LabelledImages


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Start:
    """A stage before its first batch.

    Attributes:
        student: On its device; from the champion's weights or fresh ones.
        network: What it is.
        recipe: Of a first or a later stage.
        objective: Its loss.
        teacher: The champion; None where no term compares with it.
        fixed_statistics: The student's batch norm stays as the champion's.
        frozen: Parts of the student that stay as they are; they compute in evaluation mode.
        is_fresh: The student does not start from the champion's weights.
    """

    student: EmbeddingNetwork
    network: Network | None
    recipe: FirstStage
    objective: Objective
    teacher: FrozenTeacher | None
    fixed_statistics: bool
    frozen: tuple[nn.Module, ...]
    is_fresh: bool


def start_of(
    data: StageData,
    training: Training,
    *,
    champion: TrainedModel | None,
    device: torch.device,
    start_weights: Path | None,
    ranks: ProcessGroup,
) -> Start:
    """Set a stage up; without a champion it is a first one, which has no method.

    Args:
        data: Images, classes and names.
        training: Seed, network and recipes.
        champion: The active model; left as it is.
        device: Where to compute.
        start_weights: File of a fresh network's start weights, if `training.network.weights` names one.
        ranks: The processes that train together.

    Raises:
        TrainingError: if nothing can be learned.
        CompatibilityError: if the champion takes images of another form.
    """
    if champion is None:
        student = _fresh(data, training, start_weights=start_weights)
        share_statistics(student.to(device), ranks)
        return Start(
            student=student,
            network=student.network,
            recipe=training.first,
            objective=Objective(
                training.first, method=None, old_classes=0, class_weights=_class_weights(data, training.first, device)
            ),
            teacher=None,
            fixed_statistics=False,
            frozen=tuple(freeze(student.backbone, training.first.frozen)),
            is_fresh=True,
        )
    _require_same_form(champion, data.form)
    classes = Classes(old=len(champion.record.classes), new=len(data.classes) - len(champion.record.classes))
    method = METHODS[training.later.method](training.later.methods, classes)
    afresh = method.starts_from == "fresh"
    recipe = training.first if afresh else _at_rate(training.later, method.rate)
    student = _fresh(data, training, start_weights=start_weights) if afresh else _grown(champion, data, training)
    share_statistics(student.to(device), ranks)
    frozen = freeze(student.backbone, recipe.frozen)
    if method.backbone == "frozen":
        frozen = [student.backbone]
        for part in (student.backbone, student.projection, student.head):
            part.requires_grad_(requires_grad=False)
        if not recipe.ce.weight:
            raise TrainingError("method frozen trains the classifier alone; raise training.later.ce.weight above 0")
    objective = Objective(
        recipe, method=method, old_classes=classes.old, class_weights=_class_weights(data, recipe, device)
    )
    return Start(
        student=student,
        network=student.network if afresh else champion.record.network,
        recipe=recipe,
        objective=objective,
        teacher=_teacher(champion, data, training, method, device, ranks) if objective.needs_teacher else None,
        fixed_statistics=method.backbone == "frozen"
        or (isinstance(recipe, LaterStage) and recipe.batch_norm == "eval"),
        frozen=tuple(frozen),
        is_fresh=afresh,
    )


def _at_rate(recipe: LaterStage, rate: float) -> LaterStage:
    optimizer = recipe.optimizer.model_copy(update={"lr": recipe.optimizer.lr * rate})
    return recipe.model_copy(update={"optimizer": optimizer})


def _fresh(data: StageData, training: Training, *, start_weights: Path | None) -> EmbeddingNetwork:
    return new_network(
        training.network,
        channels=data.form.channels,
        pixels=data.form.size,
        classes=len(data.classes),
        generator=_generator(data, training),
        weights=start_weights,
    )


def _grown(champion: TrainedModel, data: StageData, training: Training) -> EmbeddingNetwork:
    student = copy.deepcopy(champion.network)
    grow_classifier(student, len(data.classes), generator=_generator(data, training))
    return student


def _class_weights(data: StageData, recipe: FirstStage, device: torch.device) -> torch.Tensor | None:
    if recipe.ce.class_weights == "none":
        return None
    return class_weights(data.train, len(data.classes)).to(device)


def _generator(data: StageData, training: Training) -> torch.Generator:
    return keyed_generator(training.seed, data.task, "new weights")


def _teacher(
    champion: TrainedModel,
    data: StageData,
    training: Training,
    method: Method,
    device: torch.device,
    ranks: ProcessGroup,
) -> FrozenTeacher:
    """Return the champion, after the method's look at it."""
    teacher = FrozenTeacher(
        champion.network,
        mode=training.later.teacher_mode,
        device=device,
        precision=training.precision,
        ranks=ranks,
    )
    method.prepare(teacher, data.train)
    return teacher


def _require_same_form(champion: TrainedModel, form: ImageForm) -> None:
    if champion.record.images != form:
        raise CompatibilityError(
            f"images are {form}, the champion of task {champion.record.task} takes {champion.record.images}; keep the "
            "section `images` of params.yaml as it was, or start again from the first task"
        )
