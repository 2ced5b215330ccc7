"""Backward-compatible training: the old classifier judges the new features (Shen et al., CVPR 2020)."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.batches import LabelledImages
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import FrozenTeacher, Outputs
from csd_core.params.methods import Methods
from csd_core.system.errors import TrainingError

EMBEDDED_AT_ONCE = 512


def influence(features: Tensor, targets: Tensor, *, old_rows: Tensor) -> Tensor:
    """Cross-entropy of a frozen classifier on new features, mean over the batch.

    Args:
        features: (N, D) of the student.
        targets: (N,) int64, columns.
        old_rows: (K, D) unit rows, without gradient.
    """
    return F.cross_entropy(features.float() @ old_rows.T, targets)


def class_means(teacher: FrozenTeacher, images: LabelledImages, *, classes: int) -> Tensor:
    """Return (classes, D) means of the features that the teacher's classifier reads, as unit vectors.

    A class without an image has 0.
    """
    sums = torch.zeros(classes, teacher.dimension, device=teacher.device)
    for positions in torch.split(torch.arange(len(images)), EMBEDDED_AT_ONCE):
        features = teacher(images.take(positions).to(teacher.device)).classified
        sums.index_add_(0, images.targets[positions].to(teacher.device), features.float())
    return F.normalize(sums, dim=1)


class Bct(Method):
    """Adds the influence loss; the rows of new classes are the teacher's class means on the stage's images."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:
        self.weights = {"influence": knobs.bct.weight}
        self._classes = classes.old + classes.new
        self._old_rows: Tensor | None = None

    def prepare(self, teacher: FrozenTeacher, images: LabelledImages) -> None:
        """Make the frozen classifier."""
        means = class_means(teacher, images, classes=self._classes)
        self._old_rows = torch.cat([teacher.classifier_rows, means[teacher.classes :]])

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the influence loss.

        Raises:
            TrainingError: if `prepare` was not called.
        """
        if self._old_rows is None:
            raise TrainingError("bct: the old classifier is made by `prepare`; call it before the first batch")
        return {"influence": influence(student.classified, batch.targets, old_rows=self._old_rows)}
