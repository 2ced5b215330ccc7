import math

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import Tensor

from csd_core.learning.losses import cross_entropy, csd_loss, knowledge_distillation, triplet_batch_hard
from csd_core.system.errors import TrainingError

CONTRASTS = ("student+teacher", "teacher")


def batch(seed: int = 0, *, images: int = 24, dimension: int = 16, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher features of any length, and labels."""
    generator = torch.Generator().manual_seed(seed)
    student = 3 * torch.randn(images, dimension, generator=generator)
    teacher = student + torch.randn(images, dimension, generator=generator)
    return student.requires_grad_(), teacher, torch.randint(classes, (images,), generator=generator)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def csd_by_loop(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, contrast: str) -> float:
    total = 0.0
    for i in range(len(student)):
        entries = [(cosine(student[i], teacher[j]), labels[j] == labels[i]) for j in range(len(student))]
        if contrast == "student+teacher":
            entries += [(cosine(student[i], student[j]), labels[j] == labels[i]) for j in range(len(student)) if j != i]
        denominator = sum(math.exp(similarity / temperature) for similarity, _ in entries)
        positives = [similarity for similarity, same in entries if same]
        total += sum(math.log(math.exp(s / temperature) / denominator) for s in positives) / len(positives)
    return -total / len(student)


def triplet_by_loop(features: Tensor, labels: Tensor, *, margin: float) -> float:
    terms = []
    for a in range(len(features)):
        positives = [
            cosine(features[a], features[p]) for p in range(len(features)) if labels[p] == labels[a] and p != a
        ]
        negatives = [cosine(features[a], features[n]) for n in range(len(features)) if labels[n] != labels[a]]
        if positives and negatives:
            terms.append(max(0.0, max(negatives) - min(positives) + margin))
    violated = [term for term in terms if term > 0]
    return sum(violated) / len(violated) if violated else 0.0


def kd_by_loop(student: Tensor, teacher: Tensor, *, temperature: float) -> float:
    total = 0.0
    for z, old in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        q = [math.exp(value / temperature) for value in z[: len(old)]]
        p = [math.exp(value / temperature) for value in old]
        total += sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    return total / len(student)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_csd_equals_a_plain_loop(contrast, temperature):
    student, teacher, labels = batch()
    expected = csd_by_loop(student.detach(), teacher, labels, temperature=temperature, contrast=contrast)
    found = csd_loss(student, teacher, labels, temperature=temperature, contrast=contrast)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0])
def test_triplet_equals_a_plain_loop(margin):
    features, _, labels = batch()
    expected = triplet_by_loop(features.detach(), labels, margin=margin)
    assert triplet_batch_hard(features, labels, margin=margin).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distillation_equals_a_plain_loop_over_the_old_columns(temperature):
    student, teacher, _ = batch()
    old = teacher[:, :9]
    expected = kd_by_loop(student.detach(), old, temperature=temperature)
    assert knowledge_distillation(student, old, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_of_all_columns_equals_a_plain_loop():
    logits, _, labels = batch()
    expected = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        expected -= math.log(math.exp(row[label]) / sum(map(math.exp, row))) / len(labels)
    assert cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_of_new_columns_ignores_what_the_teacher_knows():
    logits, _, labels = batch()
    found = cross_entropy(logits, labels + 6, old_classes=6, columns="new")
    assert found.item() == pytest.approx(cross_entropy(logits[:, 6:], labels).item())
    assert found.item() != pytest.approx(cross_entropy(logits, labels + 6).item())


def test_a_batch_with_an_old_class_uses_all_columns():
    logits, _, labels = batch()
    targets = labels + 6
    targets[3] = 0
    assert cross_entropy(logits, targets, old_classes=6, columns="new") == cross_entropy(logits, targets)


@pytest.mark.parametrize("columns", ["all", "new"])
def test_weighted_cross_entropy_is_the_weighted_mean(columns):
    logits, _, labels = batch()
    targets, weights = labels + 6, torch.linspace(0.5, 2.0, logits.shape[1])
    found = cross_entropy(logits, targets, old_classes=6, columns=columns, class_weights=weights)
    each = torch.stack(
        [
            cross_entropy(logits[row : row + 1], targets[row : row + 1], old_classes=6, columns=columns)
            for row in range(len(targets))
        ]
    )
    torch.testing.assert_close(found, (each * weights[targets]).sum() / weights[targets].sum())


def test_triplet_equals_pytorch_metric_learning_with_gradients():
    features, _, labels = batch(3, images=64)
    theirs = TripletMarginLoss(margin=1.0, distance=CosineSimilarity())
    expected = theirs(features, labels, BatchHardMiner(distance=CosineSimilarity())(features, labels))
    found = triplet_batch_hard(features, labels, margin=1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(loss, features)[0] for loss in (found, expected)))


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_csd_equals_pytorch_metric_learning_with_gradients(contrast):
    student, teacher, labels = batch(4, images=64)
    theirs = SupConLoss(temperature=0.07)
    if contrast == "teacher":
        expected = theirs(student, labels, ref_emb=teacher, ref_labels=labels.clone())  # else it leaves i's view out
    else:
        both, both_labels = torch.cat([student, teacher]), torch.cat([labels, labels])
        same = labels[:, None] == both_labels
        others = ~torch.eye(64, 128, dtype=torch.bool)  # an anchor is not its own contrast
        pairs = (*torch.where(same & others), *torch.where(~same))
        expected = theirs(student, labels, pairs, ref_emb=both, ref_labels=both_labels)
    found = csd_loss(student, teacher, labels, temperature=0.07, contrast=contrast)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    ours, reference = (torch.autograd.grad(loss, student)[0] for loss in (found, expected))
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_csd_without_any_other_image_of_a_class_has_the_teachers_view_as_positive(contrast):
    student, teacher, _ = batch(images=5)
    found = csd_loss(student, teacher, torch.arange(5), temperature=0.07, contrast=contrast)
    expected = csd_by_loop(student.detach(), teacher, torch.arange(5), temperature=0.07, contrast=contrast)
    assert found.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_csd_of_one_class_is_finite_and_differentiable(contrast):
    student, teacher, _ = batch()
    loss = csd_loss(student, teacher, torch.zeros(24, dtype=torch.int64), temperature=0.07, contrast=contrast)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    "labels", [torch.zeros(6, dtype=torch.int64), torch.arange(6)], ids=["one class", "no positives"]
)
def test_triplet_without_triplets_is_zero_with_a_zero_gradient(labels):
    features, _, _ = batch(images=6)
    loss = triplet_batch_hard(features, labels, margin=1.0)
    (gradient,) = torch.autograd.grad(loss, features)
    assert loss.item() == 0
    assert not gradient.any()


def test_distillation_from_a_teacher_of_no_classes_is_zero():
    logits, _, _ = batch()
    assert knowledge_distillation(logits, logits.detach()[:, :0], temperature=2.0).item() == 0


def test_distillation_of_equal_logits_is_zero():
    _, teacher, _ = batch()
    assert knowledge_distillation(teacher, teacher, temperature=2.0).item() == pytest.approx(0, abs=1e-7)


def test_zero_features_give_finite_losses_and_gradients():
    _, teacher, labels = batch()
    student = torch.zeros_like(teacher).requires_grad_()
    loss = csd_loss(student, teacher, labels, temperature=0.07) + triplet_batch_hard(student, labels, margin=1.0)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_losses_are_float32_and_finite_whatever_the_type_of_their_inputs(dtype):
    student, teacher, labels = batch()
    low, old = (
        (300 * student).to(dtype),
        (300 * teacher).to(dtype),
    )  # squares and exponentials of these overflow float16
    losses = [
        cross_entropy(low, labels),
        triplet_batch_hard(low, labels, margin=1.0),
        knowledge_distillation(low, old[:, :9], temperature=2.0),
        csd_loss(low, old, labels, temperature=0.001),
    ]
    assert {loss.dtype for loss in losses} == {torch.float32}
    assert torch.stack(losses).isfinite().all()


def test_a_teacher_whose_output_carries_gradients_is_refused():
    student, teacher, labels = batch()
    with pytest.raises(TrainingError, match="compute it with FrozenTeacher"):
        csd_loss(student, teacher.requires_grad_(), labels, temperature=0.07)
    with pytest.raises(TrainingError, match="compute it with FrozenTeacher"):
        knowledge_distillation(student, teacher, temperature=2.0)
