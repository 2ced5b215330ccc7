"""Each method's terms against a plain loop."""

import math

import pytest
import torch

from csd_core.data.pool import ItemPool
from csd_core.learning.batches import LabelledImages
from csd_core.learning.methods.bct import class_means, influence
from csd_core.learning.methods.co2l import asymmetric_contrast, relation_distillation
from csd_core.learning.methods.fd import feature_distillation
from csd_core.learning.methods.hoc import higher_order
from csd_core.learning.methods.mmd import squared_mmd
from csd_core.learning.methods.protocol import Batch, Classes
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.network import new_network
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import FrozenTeacher
from csd_core.system.errors import TrainingError


def batch(seed=0, *, images=16, dimension=6, classes=4):
    """Student and teacher features of any length, and labels."""
    generator = keyed_generator("methods", seed)
    student = 3 * torch.randn(images, dimension, generator=generator)
    teacher = student + torch.randn(images, dimension, generator=generator)
    return student.requires_grad_(), teacher, torch.randint(classes, (images,), generator=generator)


def cosine(a, b):
    return float(a.detach().double() @ b.detach().double() / (a.detach().double().norm() * b.detach().double().norm()))


@pytest.mark.parametrize("seed", range(3))
def test_feature_distillation_is_the_mean_distance(seed):
    student, teacher, _ = batch(seed)
    pairs = list(zip(student, teacher, strict=True))
    by_cosine = sum(1 - cosine(f, old) for f, old in pairs) / len(pairs)
    assert feature_distillation(student, teacher, distance="cosine").item() == pytest.approx(by_cosine, abs=1e-5)
    by_square = sum(float((f - old).detach().double().square().mean()) for f, old in pairs) / len(pairs)
    assert feature_distillation(student, teacher, distance="mse").item() == pytest.approx(by_square, rel=1e-5)
    assert feature_distillation(teacher, teacher, distance="cosine").item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_mmd_compares_two_sets_under_gaussian_kernels(seed):
    student, teacher, _ = batch(seed)
    widths = (0.5, 2.0)
    both = [*student, *teacher]
    scale = sum(2 - 2 * cosine(a, b) for a in both for b in both) / len(both) ** 2

    def mean(first, second):
        kernels = [
            sum(math.exp(-(2 - 2 * cosine(a, b)) / (width * scale)) for width in widths) for a in first for b in second
        ]
        return sum(kernels) / len(kernels)

    expected = mean(student, student) + mean(teacher, teacher) - 2 * mean(student, teacher)
    assert squared_mmd(student, teacher, widths=widths).item() == pytest.approx(expected, abs=1e-5)
    assert squared_mmd(teacher, teacher.flip(0), widths=widths).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_asymmetric_contrast_has_anchors_of_new_classes_alone(seed):
    features, _, labels = batch(seed)
    tau, terms = 0.2, []
    for i in range(len(features)):
        others = [j for j in range(len(features)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if labels[i] < 2 or not positives:
            continue
        total = sum(math.exp(cosine(features[i], features[j]) / tau) for j in others)
        logs = [math.log(math.exp(cosine(features[i], features[j]) / tau) / total) for j in positives]
        terms.append(-sum(logs) / len(logs))
    found = asymmetric_contrast(features, labels, old_classes=2, temperature=tau)
    assert found.item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)


def test_asymmetric_contrast_of_old_classes_alone_is_nothing():
    features, _, labels = batch()
    found = asymmetric_contrast(features, labels, old_classes=4, temperature=0.1)
    found.backward()
    assert found.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize("seed", range(3))
def test_relation_distillation_is_a_cross_entropy_of_similarities_to_others(seed):
    student, teacher, _ = batch(seed)

    def shares(features, i, temperature):
        others = [cosine(features[i], features[j]) / temperature for j in range(len(features)) if j != i]
        total = sum(map(math.exp, others))
        return [math.exp(each) / total for each in others]

    expected = sum(
        -sum(q * math.log(p) for q, p in zip(shares(teacher, i, 0.1), shares(student, i, 0.2), strict=True))
        for i in range(len(student))
    ) / len(student)
    found = relation_distillation(student, teacher, student_temperature=0.2, teacher_temperature=0.1)
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_higher_order_pulls_to_the_own_view_and_away_from_other_labels(seed):
    student, teacher, labels = batch(seed)
    mu, terms = 10.0, []
    for i in range(len(student)):
        others = [math.exp(mu * cosine(student[j], teacher[i])) for j in range(len(student)) if labels[j] != labels[i]]
        terms.append(-mu * cosine(student[i], teacher[i]) + math.log(sum(others)))
    found = higher_order(student, teacher, labels, mu=mu)
    assert found.item() == pytest.approx(sum(terms) / len(terms), abs=1e-4)


def test_higher_order_of_one_label_only_pulls():
    student, teacher, _ = batch()
    found = higher_order(student, teacher, torch.zeros(len(student), dtype=torch.int64), mu=10)
    found.backward()
    pairs = list(zip(student, teacher, strict=True))
    assert found.item() == pytest.approx(-10 * sum(cosine(f, old) for f, old in pairs) / len(pairs), abs=1e-4)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(3))
def test_influence_is_the_old_classifiers_cross_entropy(seed):
    student, rows, labels = batch(seed)
    rows = torch.nn.functional.normalize(rows[:4], dim=1)
    terms = []
    for feature, label in zip(student.detach().double(), labels.tolist(), strict=True):
        logits = [float(feature @ row.double()) for row in rows]
        terms.append(math.log(sum(map(math.exp, logits))) - logits[label])
    assert influence(student, labels, old_rows=rows).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda student, teacher, _: feature_distillation(student, teacher, distance="cosine"),
        lambda student, teacher, _: squared_mmd(student, teacher, widths=[1.0]),
        lambda student, teacher, _: relation_distillation(
            student, teacher, student_temperature=1, teacher_temperature=1
        ),
        lambda student, teacher, labels: higher_order(student, teacher, labels, mu=1),
    ],
    ids=["fd", "mmd", "relation", "hoc"],
)
def test_a_teacher_that_carries_gradients_is_refused(loss):
    student, teacher, labels = batch()
    with pytest.raises(TrainingError, match="the teacher's output carries gradients"):
        loss(student, teacher.requires_grad_(), labels)


@pytest.fixture
def teacher(network):
    return FrozenTeacher(new_network(network, channels=1, pixels=8, classes=3, generator=keyed_generator("bct")))


@pytest.fixture
def labelled(digits_shard):
    shard = digits_shard("t1", [0, 1, 2, 3, 4], per_class=12)
    names = tuple("01234")
    return LabelledImages.of(ItemPool(shards=[shard]), "train", classes=names, max_in_memory_mb=10)


def test_bct_judges_by_the_old_rows_and_by_class_means_of_the_new(training, teacher, labelled):
    method = METHODS["bct"](training.later.methods, Classes(old=3, new=2))
    images = labelled.take(torch.arange(len(labelled)))
    taught = teacher(images)
    student = taught.each(lambda tensor: tensor + 0.1)
    with pytest.raises(TrainingError, match="call it before the first batch"):
        method.losses(Batch(labelled.targets, 3), student, taught)
    method.prepare(teacher, labelled)
    means = [taught.classified[labelled.targets == column].double().mean(dim=0) for column in (3, 4)]
    rows = torch.stack([*teacher.classifier_rows.double(), *(mean / mean.norm() for mean in means)])
    expected = torch.nn.functional.cross_entropy(student.classified.double() @ rows.T, labelled.targets)
    found = method.losses(Batch(labelled.targets, 3), student, taught)
    assert list(found) == ["influence"]
    assert found["influence"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_class_without_an_image_has_a_mean_of_zero(teacher, labelled):
    means = class_means(teacher, labelled, classes=6)
    assert torch.equal(means[5], torch.zeros(teacher.dimension))
    torch.testing.assert_close(means[:5].norm(dim=1), torch.ones(5))


def test_what_lucir_keeps_grows_with_the_old_classes(training):
    knobs = training.later.methods
    weights = METHODS["lucir"](knobs, Classes(old=8, new=2)).weights
    assert weights == {"less-forget": knobs.lucir.weight * 2}
    assert METHODS["lucir"](knobs, Classes(old=9, new=0)).weights == {"less-forget": knobs.lucir.weight * 3}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_a_term_for_each_of_its_weights(training, teacher, labelled, name):
    method = METHODS[name](training.later.methods, Classes(old=3, new=2))
    method.prepare(teacher, labelled)
    taught = teacher(labelled.take(torch.arange(len(labelled))))
    logits = torch.randn(len(labelled), 5, generator=keyed_generator("logits"))
    student = taught.each(lambda tensor: tensor + 0.1)._replace(logits=logits)
    terms = method.losses(Batch(labelled.targets, 3), student, taught)
    assert list(terms) == list(method.weights)
    assert all(term.shape == () and term.isfinite() for term in terms.values())
