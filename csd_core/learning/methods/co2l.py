"""Co2L: asymmetric supervised contrast and instance-relation distillation (Cha et al., ICCV 2021)."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.losses import refuse_gradients
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Methods


def asymmetric_contrast(features: Tensor, labels: Tensor, *, old_classes: int, temperature: float) -> Tensor:
    """Supervised contrast (Khosla et al., 2020) whose anchors are of new classes alone, among all images of the batch.

    -(1/|A|) sum_{i in A} 1/|P(i)| sum_{p in P(i)} log( exp(f_i . f_p / tau) / sum_{a != i} exp(f_i . f_a / tau) ), A
    the images of new classes that have another of their class in the batch; 0 where there is none.

    Args:
        features: (N, D).
        labels: (N,) int64, columns.
        old_classes: K_old.
        temperature: tau.
    """
    embeddings = F.normalize(features.float(), dim=1)
    similarities = (embeddings @ embeddings.T / temperature).fill_diagonal_(-torch.inf)  # (N, N)
    positives = (labels[:, None] == labels).fill_diagonal_(False)
    log_probabilities = similarities.log_softmax(dim=1).masked_fill(~positives, 0)
    counts = positives.sum(dim=1)
    anchors = (labels >= old_classes) & (counts > 0)
    each = -log_probabilities.sum(dim=1) / counts.clamp(min=1)
    return each.masked_fill(~anchors, 0).sum() / anchors.sum().clamp(min=1)


def relation_distillation(
    student: Tensor, teacher: Tensor, *, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy between each image's softmaxed similarities to the others, the teacher's and the student's.

    Args:
        student: (N, D), N >= 2.
        teacher: (N, D), without gradient, of the same images.
        student_temperature: Of the student's similarities.
        teacher_temperature: Of the teacher's.

    Raises:
        TrainingError: if the teacher's features carry gradients.
    """
    refuse_gradients(teacher)
    targets = _similarities_to_others(teacher, teacher_temperature).softmax(dim=1)  # (N, N - 1)
    return F.cross_entropy(_similarities_to_others(student, student_temperature), targets)


def _similarities_to_others(features: Tensor, temperature: float) -> Tensor:
    """Return (N, N - 1) cosines over a temperature, each row without its own."""
    embeddings = F.normalize(features.float(), dim=1)
    count = len(embeddings)
    others = ~torch.eye(count, dtype=torch.bool, device=embeddings.device)
    return (embeddings @ embeddings.T / temperature)[others].view(count, count - 1)


class Co2l(Method):
    """Adds both terms."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self.weights = {"contrast": knobs.co2l.contrast_weight, "relation": knobs.co2l.relation_weight}
        self._knobs = knobs.co2l

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        """Both terms."""
        terms: dict[str, Tensor] = {}
        if self.weights["contrast"]:
            terms["contrast"] = asymmetric_contrast(
                student.contrasted,
                batch.targets,
                old_classes=batch.old_classes,
                temperature=self._knobs.contrast_temperature,
            )
        if self.weights["relation"]:
            terms["relation"] = relation_distillation(
                student.contrasted,
                teacher.contrasted,
                student_temperature=self._knobs.student_temperature,
                teacher_temperature=self._knobs.teacher_temperature,
            )
        return terms
