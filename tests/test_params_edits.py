import shutil
from pathlib import Path

import pytest

from csd_core.params.edits import add_task, decide, override
from csd_core.params.file import load_params
from csd_core.params.production import Review
from csd_core.system.errors import ParamsError

PROFILES = Path(__file__).parents[1] / "csd_core/project/profiles"


@pytest.fixture
def params_file(tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(PROFILES / "digits.yaml", path)
    return path


def test_a_task_is_appended_with_its_decision_and_the_report_follows(params_file):
    before = params_file.read_text().splitlines()
    params_file.write_text("\n".join(before).replace(', "8", "9"]', ', "8"]') + "\n")
    add_task(params_file, "t4", source="digits", classes=["9"])
    params = load_params(params_file)
    assert params.tasks["t4"].previous == "t3"
    assert params.decisions["t4"] == "auto"
    assert params.report.after == "t4"
    text = params_file.read_text()
    assert '  t4: {previous: t3, recipe: later, source: digits, classes: ["9"]}\n\ntraining:' in text
    assert "after: t4 # the last task" in text
    assert sum("#" in line for line in text.splitlines()) == sum("#" in line for line in before)


def test_a_whole_source_can_be_a_task(params_file):
    add_task(params_file, "all", source="digits", classes=None)
    assert load_params(params_file).tasks["all"].classes is None


def test_a_task_that_exists_or_is_invalid_changes_nothing(params_file):
    before = params_file.read_bytes()
    with pytest.raises(ParamsError, match="tasks.t2: exists already"):
        add_task(params_file, "t2", source="digits", classes=None)
    with pytest.raises(ParamsError, match='params.yaml: tasks.t4.classes: "9": is already learned by task t3'):
        add_task(params_file, "t4", source="digits", classes=["9"])
    assert params_file.read_bytes() == before


NINE = (', "8", "9"]', ', "8"]')


@pytest.mark.parametrize("listed", [True, False])
def test_a_task_may_have_a_recipe_of_its_own_that_others_can_extend(params_file, listed):
    text = params_file.read_text().replace(*NINE)
    given = text if listed else "\n".join(line for line in text.split("\n") if "recipes: {}" not in line)
    params_file.write_text(given)
    changes = {"epochs": 40, "per_class": 2, "optimizer": {"lr": 0.1}, "schedule": {"name": "cosine", "warmup": 0.0}}
    add_task(params_file, "t4", source="digits", classes=["9"], changes=changes)
    add_task(params_file, "t5", source="digits", classes=["10"], recipe="t4", changes={"epochs": 7, "per_class": None})
    params = load_params(params_file)
    assert [params.task(name).recipe for name in ("t3", "t4", "t5")] == ["later", "recipes.t4", "recipes.t5"]
    third, fourth, fifth = (params.training_of(name).later for name in ("t3", "t4", "t5"))
    assert third == params.training.later
    assert (fourth.epochs, fourth.per_class, fourth.optimizer.lr, fourth.schedule.warmup) == (40, 2, 0.1, 0.0)
    assert fourth.optimizer.weight_decay == third.optimizer.weight_decay
    assert fifth == fourth.model_copy(update={"epochs": 7, "per_class": None})
    after = params_file.read_text()
    assert "    t5: {extends: t4, epochs: 7, per_class: null}\n  first: # recipe while" in after
    assert sum("#" in line for line in after.splitlines()) == sum("#" in line for line in given.splitlines())
    with pytest.raises(ParamsError, match=r"training.recipes.t4: exists already|tasks.t4: exists already"):
        add_task(params_file, "t4", source="digits", classes=["11"], changes={"epochs": 2})


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("extends: later", "extends: t4", "training: recipes.t4 extends t4, which is no recipe before it"),
        ("epochs: 40", "epochs: 0", "training.recipes.t4.epochs: 0: input should be greater"),
        ("epochs: 40", "epoks: 40", "training.recipes.t4.epoks: unknown key; did you mean epochs"),
        ("epochs: 40", "method: lucir", "training.network.classifier: cosine: method lucir needs scaled-cosine"),
        ("recipe: recipes.t4", "recipe: recipes.t9", "tasks.t4.recipe: recipes.t9: training.recipes has no t9"),
        ("recipe: recipes.t4", "recipe: first", "tasks.t4.recipe: first: the first task has first, all others later"),
    ],
)
def test_a_recipe_that_cannot_be_is_named_with_its_key(params_file, line, instead, problem):
    params_file.write_text(params_file.read_text().replace(*NINE))
    add_task(params_file, "t4", source="digits", classes=["9"], changes={"epochs": 40})
    params_file.write_text(params_file.read_text().replace(line, instead))
    with pytest.raises(ParamsError) as refused:
        load_params(params_file)
    assert problem in str(refused.value)


def test_an_override_changes_its_keys_and_keeps_comments_and_all_else(params_file):
    before = params_file.read_text(encoding="utf-8")
    override(params_file, {"training": {"later": {"epochs": 3}}, "runtime": {"threads": 1}})
    after = params_file.read_text(encoding="utf-8")
    assert load_params(params_file).training.later.epochs == 3
    assert load_params(params_file).training.first.epochs == 24
    assert "with the champion as teacher" in after
    lines = zip(before.splitlines(), after.splitlines(), strict=True)
    assert [new.split(" #")[0] for old, new in lines if old != new] == ["  threads: 1", "    epochs: 3"]


def test_another_schedule_replaces_the_whole_block(params_file):
    override(
        params_file, {"training": {"later": {"schedule": {"name": "multistep", "milestones": [0.5], "factor": 0.1}}}}
    )
    assert load_params(params_file).training.later.schedule.model_dump() == {
        "name": "multistep",
        "milestones": [0.5],
        "factor": 0.1,
    }


def test_an_override_that_is_not_valid_leaves_the_file_as_it_was(params_file):
    before = params_file.read_bytes()
    with pytest.raises(ParamsError, match="gate.confidence: 2.0: input should be less than 1"):
        override(params_file, {"gate": {"confidence": 2.0}})
    assert params_file.read_bytes() == before


def test_a_decision_is_noted_with_who_and_why(params_file):
    decide(params_file, "t2", "reject", Review(choice="reject", by="Ada", reason="the flips: look-alikes, # and all"))
    decide(params_file, "t3", "auto", Review(choice="approve", by="Ada", reason="fine"))
    decide(params_file, "t2", "backfill", Review(choice="backfill", by="Grace", reason="second thoughts"))
    params = load_params(params_file)
    assert (params.decisions["t2"], params.decisions["t3"]) == ("backfill", "auto")
    assert params.reviews["t2"].by == "Grace"
    assert params.reviews["t3"].reason == "fine"
    assert "# where new images arrive" in params_file.read_text(encoding="utf-8")


def test_a_decision_on_an_unknown_task_or_against_the_policy_is_refused(params_file):
    review = Review(choice="keep", by="Ada", reason="why not")
    with pytest.raises(ParamsError, match="task t9: there is no such task"):
        decide(params_file, "t9", "keep", review)
    override(params_file, {"gate": {"allowed": ["backfill"]}})
    with pytest.raises(ParamsError, match="decisions.t2: keep: gate.allowed has only backfill"):
        decide(params_file, "t2", "keep", review)
