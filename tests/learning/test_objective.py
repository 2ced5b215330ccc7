import pytest
import torch

from csd_core.errors import TrainingError
from csd_core.learning.losses import cross_entropy, csd_loss, knowledge_distillation, triplet_batch_hard
from csd_core.learning.objective import Objective
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import Outputs

GENERATOR = keyed_generator("outputs")
STUDENT = Outputs(torch.randn(12, 8, generator=GENERATOR), torch.randn(12, 5, generator=GENERATOR))
TEACHER = Outputs(torch.randn(12, 8, generator=GENERATOR), torch.randn(12, 3, generator=GENERATOR))
TARGETS = torch.randint(3, 5, (12,), generator=GENERATOR)


def weighted(recipe, **weights):
    """The recipe with other weights."""
    changes = {name: getattr(recipe, name).model_copy(update={"weight": weight}) for name, weight in weights.items()}
    return recipe.model_copy(update=changes)


def test_the_total_is_the_weighted_sum_of_the_four_terms(training):
    objective = Objective(weighted(training.later, ce=2.0, triplet=0.5, kd=3.0, csd=0.25), old_classes=3)
    terms = objective.terms(STUDENT, TARGETS, TEACHER)
    expected = (
        2.0 * cross_entropy(STUDENT.logits, TARGETS)
        + 0.5 * triplet_batch_hard(STUDENT.features, TARGETS, margin=1.0)
        + 3.0 * knowledge_distillation(STUDENT.logits, TEACHER.logits, temperature=2.0)
        + 0.25 * csd_loss(STUDENT.features, TEACHER.features, TARGETS, temperature=0.07)
    )
    assert list(terms) == ["ce", "triplet", "kd", "csd"]
    torch.testing.assert_close(objective.total(terms), expected)


def test_a_first_stage_has_two_terms_and_no_teacher(training):
    objective = Objective(training.first, old_classes=0)
    assert list(objective.terms(STUDENT, TARGETS, None)) == ["ce", "triplet"]
    assert not objective.needs_teacher


def test_a_term_of_weight_zero_is_not_computed(training):
    objective = Objective(weighted(training.later, triplet=0.0, csd=0.0), old_classes=3)
    assert list(objective.terms(STUDENT, TARGETS, TEACHER)) == ["ce", "kd"]
    assert objective.needs_teacher
    assert not Objective(weighted(training.later, kd=0.0, csd=0.0), old_classes=3).needs_teacher


def test_weights_that_are_all_zero_are_refused(training):
    with pytest.raises(TrainingError, match=r"every loss weight \(ce, triplet, kd, csd\) is 0"):
        Objective(weighted(training.later, ce=0.0, triplet=0.0, kd=0.0, csd=0.0), old_classes=3)


@pytest.mark.parametrize(
    ("term", "knob", "value"),
    [
        ("ce", "columns", "new"),
        ("triplet", "margin", 0.2),
        ("kd", "temperature", 4.0),
        ("csd", "temperature", 0.5),
        ("csd", "contrast", "teacher"),
    ],
)
def test_every_knob_changes_its_own_term_alone(training, term, knob, value):
    before = Objective(training.later, old_classes=3).terms(STUDENT, TARGETS, TEACHER)
    changed = training.later.model_copy(update={term: getattr(training.later, term).model_copy(update={knob: value})})
    after = Objective(changed, old_classes=3).terms(STUDENT, TARGETS, TEACHER)
    assert [name for name in before if before[name] != after[name]] == [term]
