import pytest

from csd_core.report import narrative
from csd_core.report.collect import collect
from csd_core.report.scores import summarise


def sentences(told):
    return narrative.sentences(told.report_data, told.metrics)


def test_promotions_are_told_with_their_strategy(promoted):
    learned, search, gate = sentences(promoted)
    assert learned.startswith("Three tasks brought ten classes in 640 images; the active model, from t3,")
    assert "the features forget less than the classifier" in search
    assert gate == "The gate took t1 as the first model and let t2 and t3 search the stored vectors as they are."
    assert narrative.headline(promoted.report_data) == "Three tasks, every model promoted"


def test_figures_in_the_story_are_those_of_the_metrics(promoted):
    learned, search, _ = sentences(promoted)
    assert f"{100 * promoted.metrics.all_seen.recall_at_1:.1f} %" in learned
    for pair in (promoted.metrics.retrieval, promoted.metrics.classification):
        assert f"{100 * pair.all_seen.forgetting:.1f}" in search


def test_one_task_has_nothing_to_forget(alone):
    _, search, gate = sentences(alone)
    assert search.startswith("There is nothing to forget yet")
    assert gate == "The gate took t1 as the first model."
    assert narrative.headline(alone.report_data) == "One task, its model promoted"


def test_without_a_champion_nothing_is_claimed(refused):
    learned, search, gate = sentences(refused)
    assert "no model has been promoted" in learned
    assert search.startswith("Search has not changed")
    assert gate.startswith("Both candidates were rejected, t2 at last: mAP@R ")
    assert narrative.headline(refused.report_data) == "Two tasks, no model promoted"


def test_what_cannot_be_measured_is_said(untested):
    learned, search, _ = sentences(untested)
    assert "cannot be measured" in learned
    assert "cannot be said" in search


def test_two_promotions_are_both(unmeasured):
    assert narrative.headline(unmeasured.report_data) == "Two tasks, both models promoted"


@pytest.mark.parametrize(
    ("own", "seen", "moral"),
    [
        ((0.01, 0.2), (0.02, 0.5), "the features forget less than the classifier"),
        ((0.2, 0.01), (0.02, 0.5), "the features forget less than the classifier over all classes only"),
        ((0.01, 0.2), (0.5, 0.5), "the features forget less than the classifier within a task only"),
        ((0.2, 0.2), (0.5, 0.02), "here the features forget no less than the classifier"),
    ],
)
def test_the_moral_follows_from_the_figures(promoted, own, seen, moral):
    def forgotten(pair, place):
        fall = {"own": own[place], "all_seen": seen[place]}
        return pair.model_copy(
            update={name: getattr(pair, name).model_copy(update={"forgetting": fall[name]}) for name in fall}
        )

    metrics = promoted.metrics.model_copy(
        update={
            "retrieval": forgotten(promoted.metrics.retrieval, 0),
            "classification": forgotten(promoted.metrics.classification, 1),
        }
    )
    search = narrative.sentences(promoted.report_data, metrics)[1]
    assert search.endswith(f": {moral}.")


def test_a_rejection_in_the_middle_and_a_backfill_are_told(carried):
    gate = sentences(carried)[2]
    assert "rejected t2" in gate
    assert "had every vector re-embedded for t3" in gate
    assert "(an operator decided t2 and t3)" in gate
    assert "waits" not in gate


def test_a_map_and_a_partial_backfill_are_told(mixed):
    gate = sentences(mixed)[2]
    assert "had the stored vectors mapped for t3" in gate
    assert "had part of the stored vectors re-embedded for t2 (three quarters, the rest mapped)" in gate


def test_data_of_a_rejected_last_task_waits(make_line, arrival):
    files = make_line(t1=arrival((0, 1)), t2=arrival((2, 3), decision="reject"))
    report_data = collect(files, files.params())
    learned, search, gate = narrative.sentences(report_data, summarise(report_data))
    assert "it never learned the classes “2” and “3”" in learned
    assert search.startswith("The same model has served since t1")
    assert "the data of t2 waits for the next stage" in gate


def test_a_late_first_model_is_told(late):
    gate = sentences(late)[2]
    assert gate.startswith("The gate took t2 as the first model")
    assert "rejected t1" in gate


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0123, "+1.2"), (-0.0123, f"{narrative.MINUS}1.2"), (0.0001, "0.0"), (-0.0001, "0.0"), (None, narrative.DASH)],
)
def test_points_are_signed_and_zero_is_not(share, expected):
    assert narrative.points(share) == expected


def test_a_missing_figure_is_a_dash():
    assert narrative.percent(float("nan")) == narrative.plain(None) == narrative.DASH


def test_long_lists_are_counted():
    assert narrative.listed(["a"]) == "a"
    assert narrative.listed(["a", "b", "c"]) == "a, b and c"
    assert narrative.listed(list("abcdef")) == "a, b, c and 3 others"


def test_small_numbers_are_words():
    assert narrative.count(1, "class", "classes") == "one class"
    assert narrative.count(2, "task") == "two tasks"
    assert narrative.count(1200, "task") == "1,200 tasks"
