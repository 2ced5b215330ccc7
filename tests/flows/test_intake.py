"""What waits in the inbox becomes a task of a checkout."""

import shutil
from types import SimpleNamespace

import pytest
from operators import send_batch
from pipelines import commit, git, shell_project
from prefect.logging import disable_run_logger

from csd_core.code_digest.digest import CodeTree
from csd_core.params.file import load_params, profile_text
from csd_core.retraining.history import Retraining
from csd_core.retraining.manifests import TaskManifest, taken_at
from csd_core.retraining.start import starting_point
from csd_core.stages.code import digests_of
from csd_core.system.errors import CompatibilityError
from csd_core.workspace import Workspace
from flows.forms import Overrides, Retrain
from flows.runs import intake as module
from flows.runs.intake import cut_task, look_into_inbox
from flows.runs.overrides import apply_overrides

TWO = Overrides(inbox={"min_images": 2})


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """The events of a test, which has no flow run to log to."""
    events = []
    monkeypatch.setattr(module, "emit_event", lambda event, **more: events.append((event, more)))
    with disable_run_logger():
        yield events


@pytest.fixture(scope="module")
def template(tmp_path_factory, request):
    root = shell_project(tmp_path_factory.mktemp("template") / "project")
    text = profile_text(request.config.rootpath / "csd_core/project/profiles", "tiny").replace(
        "max_rejected: 100", "max_rejected: 2"
    )
    (root / "params.yaml").write_text(text, encoding="utf-8")
    (root / ".gitignore").write_text("/operations/\n/data/\n")
    commit(root)
    return root


@pytest.fixture
def home(template, tmp_path):
    shutil.copytree(template, tmp_path / "home", symlinks=True)
    return Workspace(tmp_path / "home")


def look(home, **settings):
    return look_into_inbox(home, starting_point(home, None), Retrain(**settings))


def cut(home, **settings):
    """Cut in the project itself, as a checkout is one like it."""
    return cut_task(home, home, look(home, **settings), Retrain(**settings))


def test_an_empty_inbox_offers_nothing(home):
    intake = look(home)
    assert (intake.inbox_batches, intake.why) == ((), "no batch waits in the inbox")
    assert cut_task(home, home, intake, Retrain()) == ()
    assert list(load_params(home.root / "params.yaml").tasks) == ["t1", "t2", "t3"]


def test_too_little_waits_and_says_how_much_is_missing(home):
    send_batch(home.root, "monday", ["cat", "dog"], images=3)
    intake = look(home)
    assert intake.inbox_batches == ()
    assert intake.why.startswith("6 of 200 images wait, 2 new classes (cat, dog)")


def test_a_run_may_have_a_policy_of_its_own_or_cut_at_once(home):
    send_batch(home.root, "monday", ["cat", "dog"], images=3)
    assert [each.name for each in look(home, overrides=TWO).inbox_batches] == ["monday"]
    assert [each.name for each in look(home, cut_now=True).inbox_batches] == ["monday"]


def test_all_batches_that_wait_become_one_task_that_dvc_versions(home):
    send_batch(home.root, "monday", ["cat", "dog"], images=3)
    send_batch(home.root, "tuesday", ["cat"], images=4)
    send_batch(home.root, "half", ["owl"], ready=False)
    taken = cut(home, overrides=TWO)
    assert [(each.name, each.images) for each in taken] == [("monday", 6), ("tuesday", 4)]
    params = load_params(home.root / "params.yaml")
    assert params.tasks["t4"].previous == "t3"
    assert (params.tasks["t4"].source, params.tasks["t4"].classes) == ("t4", None)
    assert params.sources.folders["t4"].path == "batches/t4"
    assert sorted(path.name for path in (home.batch("t4") / "cat").iterdir()) == ["monday", "tuesday"]
    assert len(list(home.batch("t4").rglob("*.png"))) == 10
    assert TaskManifest.load(home.batch_record("t4")).batches == taken
    made = commit(home.root)
    assert {"batches/t4.dvc", "batches/t4.json"} <= set(git(home.root, "ls-files").split())
    assert not any(name.endswith(".png") for name in git(home.root, "ls-files").split())
    assert taken_at(home.root, made).keys() == {"monday", "tuesday"}
    assert look(home, cut_now=True).inbox_batches == ()


LATER = Overrides(training={"later": {"epochs": 3, "optimizer": {"lr": 0.01}}}, inbox={"min_images": 2})


def test_what_a_run_changes_of_later_training_holds_for_its_new_task_alone(home):
    send_batch(home.root, "monday", ["cat"], images=3)
    apply_overrides(home, Retrain(overrides=LATER), active("t3"), new_task=True)
    cut(home, overrides=LATER)
    params = load_params(home.root / "params.yaml")
    assert (params.inbox.min_images, params.training.later.epochs) == (2, 2)
    assert params.training_of("t3").later == params.training.later
    fourth = params.training_of("t4").later
    assert (fourth.epochs, fourth.optimizer.lr, fourth.batch_size) == (3, 0.01, params.training.later.batch_size)
    digests = [digests_of(CodeTree.of(home.root), each)["train"] for each in (params, slower(params))]
    changed = {task for task in digests[0] if digests[0][task] != digests[1][task]}
    assert changed == {"t4"}  # DVC sees `training.later` itself in the other tasks


def slower(params):
    later = params.training.later.model_copy(update={"batch_size": 64})
    recipe = params.training.recipes["t4"].model_copy(update={"batch_size": 64})
    training = params.training.model_copy(update={"later": later, "recipes": {"t4": recipe}})
    return params.model_copy(update={"training": training})


def active(after):
    """A release, as far as its name and task matter."""
    return SimpleNamespace(name="0003-abc", record=SimpleNamespace(after=after))


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"training": {"seed": 7}}, "training.seed: would train t1, t2"),
        ({"compute": {"threads": 7}}, "compute.threads: would train t1, t2"),
        ({"training": {"later": {"epochs": 7}}}, "training.later.epochs: would train t2 again"),
    ],
)
def test_what_would_train_released_models_again_is_refused_unless_nothing_is_published(home, changes, again):
    settings = Retrain(overrides=Overrides.model_validate(changes))
    before = (home.root / "params.yaml").read_bytes()
    with pytest.raises(CompatibilityError, match=rf"{again}.* release 0003-abc, so nothing could be published"):
        apply_overrides(home, settings, active("t2"), new_task=False)
    (home.root / "params.yaml").write_bytes(before)
    apply_overrides(home, settings.model_copy(update={"publish": False}), active("t2"), new_task=False)
    (home.root / "params.yaml").write_bytes(before)
    apply_overrides(home, settings, None, new_task=False)


def test_what_trains_no_released_model_again_is_not_refused(home):
    harmless = {"gate": {"min_gain": 0.01}, "runtime": {"threads": 3}, "training": {"later": {"epochs": 7}}}
    apply_overrides(home, Retrain(overrides=Overrides.model_validate(harmless)), active("t1"), new_task=False)
    assert load_params(home.root / "params.yaml").training.later.epochs == 7


def test_a_batch_of_broken_files_is_left_out_and_told_and_the_others_are_taken(home, told):
    send_batch(home.root, "good", ["cat"], images=3)
    send_batch(home.root, "bad", ["dog"], images=5)
    for path in list((home.root / "data" / "inbox" / "bad" / "dog").iterdir())[:3]:
        path.write_bytes(b"no image")
    taken = cut(home, overrides=TWO)
    assert [each.name for each in taken] == ["good"]
    assert not (home.batch("t4") / "dog").exists()
    ((event, more),) = told
    assert event == "csd.inbox.unusable"
    assert more["resource"] == {"prefect.resource.id": "csd.inbox.bad"}
    assert "3 of its 5 files are no usable images" in more["payload"]["message"]


def test_a_few_broken_files_are_left_to_ingest(home, told):
    send_batch(home.root, "monday", ["cat"], images=5)
    next((home.root / "data" / "inbox" / "monday" / "cat").iterdir()).write_bytes(b"no image")
    assert [each.name for each in cut(home, overrides=TWO)] == ["monday"]
    assert told == []


def test_nothing_usable_makes_no_task(home):
    send_batch(home.root, "bad", ["dog"], images=3)
    for path in (home.root / "data" / "inbox" / "bad" / "dog").iterdir():
        path.write_bytes(b"")
    before = (home.root / "params.yaml").read_bytes()
    assert cut(home, overrides=TWO) == ()
    assert (home.root / "params.yaml").read_bytes() == before
    assert not home.batch("t4").exists()


def test_the_inbox_is_never_changed(home):
    send_batch(home.root, "monday", ["cat"], images=3)
    files = {path: path.stat() for path in (home.root / "data" / "inbox").rglob("*")}
    cut(home, overrides=TWO)
    assert {path: path.stat().st_mtime_ns for path in (home.root / "data" / "inbox").rglob("*")} == {
        path: each.st_mtime_ns for path, each in files.items()
    }


def test_single_broken_files_are_left_out_so_that_many_batches_do_not_add_up(home, told):
    for batch in ("monday", "tuesday"):
        send_batch(home.root, batch, [f"{batch}-class"], images=5)
        for path in list((home.root / "data" / "inbox" / batch).rglob("*.png"))[:2]:
            path.write_bytes(b"no image")
    assert [each.name for each in cut(home, overrides=TWO)] == ["monday", "tuesday"]
    assert len(list(home.batch("t4").rglob("*.png"))) == 6
    assert told == []


def test_broken_files_do_not_count_for_the_policy(home):
    send_batch(home.root, "broken", ["dog"], images=200)
    for path in (home.root / "data" / "inbox" / "broken").rglob("*.png"):
        path.write_bytes(b"no image")
    send_batch(home.root, "good", ["cat"], images=20)
    assert cut(home) == ()
    assert list(load_params(home.root / "params.yaml").tasks) == ["t1", "t2", "t3"]
    assert not home.batch("t4").exists()
    assert not home.batch(".t4").exists()


def test_a_batch_that_was_found_broken_is_not_looked_at_again_until_it_changes(home, told):
    send_batch(home.root, "bad", ["dog"], images=200)
    for path in (home.root / "data" / "inbox" / "bad" / "dog").iterdir():
        path.write_bytes(b"no image")
    cut(home)
    assert look(home).why == "no batch waits in the inbox"
    cut(home)
    assert len(told) == 1
    next((home.root / "data" / "inbox" / "bad" / "dog").iterdir()).write_bytes(b"another size")
    assert [each.name for each in look(home).inbox_batches] == ["bad"]


def tried(home, inbox_batches, outcome):
    """A retraining that took these batches from here."""
    start = starting_point(home, None)
    Retraining(
        name="2026-11-24-otter",
        branch="retrain/2026-11-24-otter",
        commit="c" * 40,
        base=start.commit,
        release=None,
        tasks=("t4",),
        batches=tuple({"name": each.name, "digest": each.digest, "images": each.images} for each in inbox_batches),
        settings=Retrain().digest,
        outcome=outcome,
        why="t4 rejected",
        flow_run=None,
        publishes=True,
        on_reject="stop",
        began="2026-11-24T03:00:00+00:00",
        ended="2026-11-24T04:00:00+00:00",
        deadline=None,
    ).save_to(home)


def test_what_gave_nothing_is_not_tried_again_until_something_changes(home):
    send_batch(home.root, "monday", ["cat"], images=200)
    tried(home, look(home).inbox_batches, "rejected")
    assert "2026-11-24-otter was rejected (t4 rejected)" in look(home).settled
    assert look(home, overrides=TWO).settled is None  # other parameters are something else
    assert look(home, promotion="review").settled is None
    assert look(home, cut_now=True).settled is None
    send_batch(home.root, "tuesday", ["owl"], images=3)
    assert look(home).settled is None


def test_what_left_nothing_behind_is_tried_again(home):
    send_batch(home.root, "monday", ["cat"], images=200)
    tried(home, look(home).inbox_batches, "unfinished")
    assert look(home).settled is None


def test_a_retraining_without_images_is_not_repeated_either(home):
    assert look(home).settled is None
    tried(home, (), "in review")
    assert look(home).settled == "the same waits for a review: 2026-11-24-otter (t4 rejected)"


def test_batches_in_a_review_do_not_count(home):
    send_batch(home.root, "monday", ["cat"], images=200)
    tried(home, look(home).inbox_batches, "in review")
    assert look(home).why == "no batch waits in the inbox"
