"""Losses of a CSD stage (Barletti et al., ICIAP 2021, arXiv 2205.05476).

N batch, D dimensions, K classes, of which the teacher knows the first K_old. Features are as the network gives them:
what needs unit vectors normalises them here. Everything is computed in float32, whatever the type of the inputs, and
sums of exponentials are stable log-sum-exps.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.system.errors import TrainingError


def cross_entropy(
    logits: Tensor, targets: Tensor, *, old_classes: int = 0, columns: str = "all", class_weights: Tensor | None = None
) -> Tensor:
    """Softmax cross-entropy, mean over the batch; with weights, their weighted mean.

    Args:
        logits: (N, K).
        targets: (N,) int64, columns of the right classes.
        old_classes: K_old.
        columns: `all`, or `new`: a softmax over the classes the teacher does not know. A batch that holds an old class
            needs the old columns, so there all are used.
        class_weights: (K,) float32, of an image of each class; None weighs all alike.
    """
    if columns == "new" and not bool((targets < old_classes).any()):
        logits, targets = logits[:, old_classes:], targets - old_classes
        class_weights = None if class_weights is None else class_weights[old_classes:]
    return F.cross_entropy(logits.float(), targets, class_weights)


def triplet_batch_hard(features: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Batch-hard triplet loss on cosines (Hermans et al., 2017): max(0, cos(a, n) - cos(a, p) + margin).

    Each anchor takes its least similar positive and its most similar negative of the batch. The mean is over the
    non-zero terms; it is 0 where no anchor has both.

    Args:
        features: (N, D).
        labels: (N,) int64.
        margin: By how much a positive should be more similar than a negative.
    """
    embeddings = F.normalize(features.float(), dim=1)
    cosines = embeddings @ embeddings.T  # (N, N)
    same = labels[:, None] == labels
    positives = same.clone().fill_diagonal_(False)
    hardest_positive = cosines.masked_fill(~positives, torch.inf).amin(dim=1)
    hardest_negative = cosines.masked_fill(same, -torch.inf).amax(dim=1)
    terms = (hardest_negative - hardest_positive + margin).relu()  # an anchor without either: relu(-inf) = 0
    return terms.sum() / (terms > 0).sum().clamp(min=1)


def knowledge_distillation(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """L_KD: (1/N) sum KL(softmax(z'/T) || softmax(z[:, :K_old]/T)), without the factor T^2 of Hinton et al.

    Args:
        student_logits: (N, K), K >= K_old.
        teacher_logits: (N, K_old), without gradient; with K_old = 0 the loss is 0.
        temperature: T.

    Raises:
        TrainingError: if the teacher's logits carry gradients.
    """
    refuse_gradients(teacher_logits)
    old_classes = teacher_logits.shape[1]
    if old_classes == 0:
        return student_logits.new_zeros((), dtype=torch.float32)
    student = F.log_softmax(student_logits[:, :old_classes].float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def csd_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    contrast: Literal["student+teacher", "teacher"] = "student+teacher",
) -> Tensor:
    """L_CSD: supervised contrast (Khosla et al., 2020) of the student's features against the teacher's.

    -(1/N) sum_i 1/|P(i)| sum_{p in P(i)} log( exp(f_i . c_p / tau) / sum_{a != i} exp(f_i . c_a / tau) ), where P(i)
    are the entries of the contrast set with i's label. The teacher's view of image i is one of them, so that P(i) is
    never empty; the student's own f_i is left out.

    Args:
        student: (N, D).
        teacher: (N, D), without gradient, of the same images.
        labels: (N,) int64.
        temperature: tau.
        contrast: `student+teacher` contrasts with both (the authors' code), `teacher` with the teacher's alone (the
            paper).

    Raises:
        TrainingError: if the teacher's features carry gradients.
    """
    refuse_gradients(teacher)
    anchors = F.normalize(student.float(), dim=1)
    similarities = anchors @ F.normalize(teacher.float(), dim=1).T / temperature  # (N, N)
    positives = labels[:, None] == labels
    if contrast == "student+teacher":
        own = (anchors @ anchors.T / temperature).fill_diagonal_(-torch.inf)
        similarities = torch.cat([own, similarities], dim=1)  # (N, 2N)
        positives = torch.cat([positives.clone().fill_diagonal_(False), positives], dim=1)
    log_probabilities = similarities.log_softmax(dim=1).masked_fill(~positives, 0)
    return -(log_probabilities.sum(dim=1) / positives.sum(dim=1)).mean()


def refuse_gradients(teacher: Tensor) -> None:
    """See that what a teacher gave is a constant.

    Raises:
        TrainingError: if it carries gradients.
    """
    if teacher.requires_grad:
        raise TrainingError("the teacher's output carries gradients, it should not; compute it with FrozenTeacher")
