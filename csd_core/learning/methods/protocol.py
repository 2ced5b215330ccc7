"""What a method is: named loss terms, and what else it asks of a stage."""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from csd_core.learning.batches import LabelledImages
from csd_core.learning.teacher import FrozenTeacher, Outputs
from csd_core.params.methods import Methods


class Batch(NamedTuple):
    """What the losses of a batch of N images need beside the networks' outputs."""

    targets: Tensor
    """(N,) int64, columns of the right classes."""
    old_classes: int
    """K_old, the columns that the teacher knows."""


class Classes(NamedTuple):
    """How many classes a stage knows and learns."""

    old: int
    """K_old."""
    new: int
    """Those without a column yet."""


class Method:
    """A method; as it stands it adds nothing.

    Attributes:
        learns_from: The images of the new tasks, or those of all tasks seen so far.
        starts_from: The champion's weights, or fresh ones under the recipe of a first stage.
        backbone: Whether it learns, or stays the champion's.
        rate: Times the learning rate of `training.later`.
        weights: Term of `losses` -> weight, in the order in which they are added up; if all are 0, it is not called.
    """

    learns_from: ClassVar[Literal["new", "all"]] = "new"
    starts_from: ClassVar[Literal["champion", "fresh"]] = "champion"
    backbone: ClassVar[Literal["learns", "frozen"]] = "learns"
    rate: float = 1.0
    weights: Mapping[str, float] = {}

    def __init__(self, knobs: Methods, classes: Classes) -> None:
        """Take the knobs of this method out of all."""

    def prepare(self, teacher: FrozenTeacher, images: LabelledImages) -> None:
        """Look at the teacher and the stage's training images once, before the first batch."""

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the terms, without their weights; what is of weight 0 is left out.

        Args:
            batch: Targets of N images.
            student: Features (N, D) and logits (N, K).
            teacher: Features (N, D) and logits (N, K_old) of the same images, without gradient.
        """
        return {}
