import pytest
import torch

from csd_core.learning.losses import cross_entropy, csd_loss, knowledge_distillation, triplet_batch_hard
from csd_core.learning.methods.protocol import Classes
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.objective import Objective
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import Outputs
from csd_core.system.errors import TrainingError

GENERATOR = keyed_generator("outputs")
STUDENT = Outputs(*(torch.randn(12, size, generator=GENERATOR) for size in (8, 5, 8, 8)))
TEACHER = Outputs(*(torch.randn(12, size, generator=GENERATOR) for size in (8, 3, 8, 8)))
TARGETS = torch.randint(3, 5, (12,), generator=GENERATOR)


def changed(recipe, term, **knobs):
    """The recipe with other knobs of a term of the base loss or of CSD."""
    if term in ("ce", "triplet"):
        return recipe.model_copy(update={term: getattr(recipe, term).model_copy(update=knobs)})
    csd = recipe.methods.csd
    csd = csd.model_copy(update={term: getattr(csd, term).model_copy(update=knobs)})
    return recipe.model_copy(update={"methods": recipe.methods.model_copy(update={"csd": csd})})


def weighted(recipe, **weights):
    """The recipe with other weights."""
    for term, weight in weights.items():
        recipe = changed(recipe, term, weight=weight)
    return recipe


def of(recipe):
    """The objective of a later stage under CSD."""
    method = METHODS["csd"](recipe.methods, Classes(old=3, new=2))
    return Objective(recipe, method=method, old_classes=3)


def test_the_total_is_the_weighted_sum_of_the_four_terms(training):
    objective = of(weighted(training.later, ce=2.0, triplet=0.5, kd=3.0, csd=0.25))
    terms = objective.terms(STUDENT, TARGETS, TEACHER)
    expected = (
        2.0 * cross_entropy(STUDENT.logits, TARGETS)
        + 0.5 * triplet_batch_hard(STUDENT.contrasted, TARGETS, margin=1.0)
        + 3.0 * knowledge_distillation(STUDENT.logits, TEACHER.logits, temperature=2.0)
        + 0.25 * csd_loss(STUDENT.contrasted, TEACHER.contrasted, TARGETS, temperature=0.07)
    )
    assert list(terms) == ["ce", "triplet", "kd", "csd"]
    torch.testing.assert_close(objective.total(terms), expected)


def test_a_first_stage_has_two_terms_and_no_teacher(training):
    objective = Objective(training.first, method=None, old_classes=0)
    assert list(objective.terms(STUDENT, TARGETS, None)) == ["ce", "triplet"]
    assert not objective.needs_teacher


def test_a_term_of_weight_zero_is_not_computed(training):
    objective = of(weighted(training.later, triplet=0.0, csd=0.0))
    assert list(objective.terms(STUDENT, TARGETS, TEACHER)) == ["ce", "kd"]
    assert objective.needs_teacher
    assert not of(weighted(training.later, kd=0.0, csd=0.0)).needs_teacher


def test_weights_that_are_all_zero_are_refused(training):
    with pytest.raises(TrainingError, match=r"every loss weight \(ce, triplet, kd, csd\) is 0"):
        of(weighted(training.later, ce=0.0, triplet=0.0, kd=0.0, csd=0.0))


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
    before = of(training.later).terms(STUDENT, TARGETS, TEACHER)
    after = of(changed(training.later, term, **{knob: value})).terms(STUDENT, TARGETS, TEACHER)
    assert [name for name in before if before[name] != after[name]] == [term]


def test_class_weights_change_the_cross_entropy_alone(training):
    weights = torch.tensor([1.0, 1.0, 1.0, 3.0, 0.5])
    weighing = Objective(training.first, method=None, old_classes=0, class_weights=weights)
    before = Objective(training.first, method=None, old_classes=0).terms(STUDENT, TARGETS, None)
    after = weighing.terms(STUDENT, TARGETS, None)
    assert after["ce"] == cross_entropy(STUDENT.logits, TARGETS, class_weights=weights) != before["ce"]
    assert after["triplet"] == before["triplet"]
