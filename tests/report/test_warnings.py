import pytest
from check_reports import first_model_report

from csd_core.records.by_class import ByClass, ClassQueries, ClassRecall, QueriesByClass
from csd_core.records.check import Measurement, Recalls
from csd_core.report.advice import checked
from csd_core.report.advice.training import Training, warnings_of


def trained(recalls, losses=(), best=None):
    best = recalls.index(max(recalls)) + 1 if best is None and recalls else best
    return Training(recipe="later", rate=0.0003, best_epoch=best, recalls=tuple(recalls), losses=tuple(losses))


GOOD = [0.5, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
FALLING = [2.0, 1.0, 0.7, 0.5, 0.4, 0.3, 0.3, 0.3]


def test_a_training_that_went_well_has_no_warning():
    assert list(warnings_of(trained(GOOD, FALLING))) == []


def test_a_curve_that_only_comes_back_to_what_it_was_does_not_rise():
    assert list(warnings_of(trained([0.5, 0.8, 0.9, 1.0, 0.97, 0.97, 0.99, 1.0], FALLING))) == []


@pytest.mark.parametrize(
    ("recalls", "losses", "words"),
    [
        (
            [0.9, *[0.8] * 9],
            FALLING,
            "Epoch 1 of 10 was the best on select, with Recall@1 90.0 % and 80.0 % at the end",
        ),
        (GOOD, [2.0] * 8, "The loss did not fall in 8 epochs (from 2 to 2): try another `training.later.optimizer.lr`"),
        ([0.1 * n for n in range(8)], FALLING, "still rises, 45.0 % and then 65.0 % in the last 2 epochs"),
    ],
)
def test_a_training_that_went_wrong_says_how_and_what_to_set(recalls, losses, words):
    (warning,) = warnings_of(trained(recalls, losses))
    assert words in warning
    assert "`training.later." in warning
    assert warning.endswith(".")


@pytest.mark.parametrize("recalls", [[], [0.5]])
def test_a_training_too_short_to_tell_has_no_warning(recalls):
    assert list(warnings_of(trained(recalls, [1.0] * len(recalls)))) == []


def check(*, after=(), never=0, fewest=(), few=0):
    recalls = Recalls(queries=20, excluded=0, at={1: 0.5, 5: 1, 10: 1}, map_at_r=0.5)
    worst = tuple(ClassRecall(name=name, images=9, queries=7, before=None, after=hits) for name, hits in after)
    return first_model_report(
        Measurement(overall=recalls, old=None, new=None, per_task={}, own_gallery={}),
        by_class=ByClass(never_found=never, worst=worst),
        queries_by_class=QueriesByClass(
            classes=12,
            few=few,
            fewest=tuple(ClassQueries(name=name, images=9, queries=queries) for name, queries in fewest),
        ),
    )


def test_classes_without_a_hit_or_with_few_queries_are_named_with_a_remedy():
    assert list(checked.warnings_of(check(after=[("hat", 3)], fewest=[("hat", 7)]))) == []
    (lost,) = checked.warnings_of(check(after=[("hat", 0), ("shoe", 3)], never=1))
    assert lost.startswith("No gate query (of 7 gate queries) of class “hat” finds its own class first")
    assert "look for wrong labels among its images, and add more." in lost
    (few,) = checked.warnings_of(check(fewest=[("Hat", 0), ("shoe", 4), ("boot", 5)], few=2))
    assert few.startswith("Two classes (“Hat” and “shoe”) of 12 have fewer than five gate queries")
    (many,) = checked.warnings_of(check(after=[("hat", 0)], never=30))
    assert "30 classes (“hat”, 29 not listed)" in many
