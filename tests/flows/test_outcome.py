"""How a retraining ends, verdict by verdict."""

from types import SimpleNamespace
from uuid import uuid4

import pytest
from pipelines import git
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.states import Crashed, Running

from csd_core.params.file import profile_text
from csd_core.params.production import Review
from csd_core.records.stages import Champion, SeenShards
from csd_core.records.verdict import Promoted, Rejected
from csd_core.retraining.history import Retraining, find
from csd_core.system.errors import ArtifactError, BusyError, CompatibilityError, CsdError
from csd_core.workspace import Workspace
from flows.runs import outcome as module
from flows.runs.outcome import conclude, in_words, recover, with_reasons

NAME = "2026-11-25-otter"
COMMON = {"candidate": "c" * 64, "champion": "a" * 64, "decision": "auto", "ways": ()}


def promoted(task):
    return Promoted(task=task, strategy="partial", share=0.25, reasons=("fine",), **COMMON)


def rejected(task):
    return Rejected(task=task, inconclusive=False, reasons=("flips: 9 %",), **COMMON)


def retraining(home, **changes):
    record = {
        "name": NAME,
        "branch": f"retrain/{NAME}",
        "commit": git(home.root, "rev-parse", f"retrain/{NAME}"),
        "base": "b" * 40,
        "release": None,
        "tasks": ("t4",),
        "batches": (),
        "settings": "e" * 64,
        "outcome": "unfinished",
        "why": "as recorded",
        "flow_run": None,
        "publishes": True,
        "on_reject": "carry_on",
        "began": "2026-11-25T03:00:00+00:00",
        "ended": "2026-11-25T03:00:00+00:00",
        "deadline": None,
    } | changes
    made = Retraining.model_validate(record)
    made.save_to(home)
    return made


@pytest.fixture
def home(tmp_path):
    files = Workspace(tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "a retraining")
    git(tmp_path, "branch", f"retrain/{NAME}")
    (tmp_path / "params.yaml").write_text(profile_text(tmp_path, "tiny"))
    shards = [
        {"task": task, "source": task, "classes": ("a",), "skipped": 0, "digest": "d" * 64}
        | {"counts": {"train": 30, "select": 5, "gate": 10, "test": 4}}
        for task in ("t4", "t5")
    ]
    for number, task in enumerate(("t4", "t5"), start=1):
        SeenShards.model_validate({"shards": shards[:number]}).save(files.seen(task))
        champion = Champion(task="t1", digest="a" * 64, parent=None, dimension=4, classes=("a",))
        champion.save(files.champion_embedder(task) / "champion.json")
    return files


@pytest.fixture
def published(monkeypatch):
    """What was asked to become active."""
    asked = []

    def bring(_home, _files, tasks, *, by, why):
        asked.append((tuple(tasks), by, why))
        return ("0002-cccccccccccc",)

    monkeypatch.setattr(module, "publish_tasks", bring)
    return asked


def outcome(home):
    return find(home, NAME).outcome


def test_what_was_promoted_is_published(home, published):
    state = conclude(home, home, retraining(home), {"t4": promoted("t4")})
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    assert state.message == "t4 promoted under partial 25 %; active: 0002-cccccccccccc"
    assert published == [(("t4",), "retrain", f"{NAME}: t4 promoted under partial 25 %")]
    assert outcome(home) == "published"


def test_without_publishing_it_stays_on_its_branch(home, published):
    state = conclude(home, home, retraining(home, publishes=False), {"t4": promoted("t4")})
    assert state.message == f"t4 promoted under partial 25 %; recorded on retrain/{NAME}"
    assert (published, outcome(home)) == ([], "kept")


def test_a_rejection_that_carries_on_makes_the_images_searchable(home, published):
    state = conclude(home, home, retraining(home), {"t4": rejected("t4")})
    assert (state.type.value, state.name) == ("COMPLETED", "ImagesOnly")
    live = "t4 rejected; 49 new images are searchable under the champion; active: 0002-cccccccccccc"
    assert (state.message, find(home, NAME).why) == (live, live)
    assert published[0][0] == ("t4",)
    assert outcome(home) == "images only"


def test_a_rejection_that_stops_fails_and_publishes_nothing(home, published):
    state = conclude(home, home, retraining(home, on_reject="stop"), {"t4": rejected("t4")})
    assert (state.type.value, state.name) == ("FAILED", "Rejected")
    assert state.message == "t4 rejected: flips: 9 %. Nothing went live. This run's page lists what can be done."
    assert (published, outcome(home)) == ([], "rejected")


@pytest.mark.parametrize("on_reject", ["carry_on", "stop"])
@pytest.mark.parametrize("choice", ["reject", "reject-data", "reject-classes"])
def test_a_persons_rejection_publishes_nothing_and_is_no_failure(home, published, choice, on_reject):
    review = Review(choice=choice, by="Ada", reason="letters look wrong")
    record = retraining(home, on_reject=on_reject)
    aside = {} if choice == "reject" else {"monday": None, "tuesday": ("b", "d")}
    state = conclude(home, home, record, {"t4": rejected("t4")}, review=review, aside=aside)
    assert (state.type.value, state.name) == ("COMPLETED", "Rejected")
    words = "Nothing went live; set aside: monday, b, d of tuesday." if aside else "Nothing went live."
    assert state.message == f"t4 rejected: flips: 9 %. {words}"
    assert (published, outcome(home)) == ([], "rejected")


@pytest.mark.parametrize("on_reject", ["carry_on", "stop"])
def test_who_rejects_the_model_alone_lets_its_images_go_live(home, published, on_reject):
    review = Review(choice="reject-model", by="Ada", reason="the flips")
    state = conclude(home, home, retraining(home, on_reject=on_reject), {"t4": rejected("t4")}, review=review)
    assert (state.name, outcome(home)) == ("ImagesOnly", "images only")
    assert published == [(("t4",), "Ada", f"{NAME}: t4 rejected; reject-model: the flips")]


def test_who_approves_a_rejection_that_stops_publishes_nothing(home, published):
    review = Review(choice="approve", by="Ada", reason="right")
    state = conclude(home, home, retraining(home, on_reject="stop"), {"t4": rejected("t4")}, review=review)
    assert (state.name, outcome(home), published) == ("Rejected", "rejected", [])


def test_a_persons_name_and_reason_reach_the_audit_log(home, published):
    review = Review(choice="backfill", by="Ada", reason="all anew")
    conclude(home, home, retraining(home), {"t4": promoted("t4")}, review=review)
    assert published == [(("t4",), "Ada", f"{NAME}: t4 promoted under partial 25 %; backfill: all anew")]


def test_a_first_model_that_is_rejected_leaves_nothing_to_publish(home, published):
    champion = Champion(task=None, digest=None, parent=None, dimension=None, classes=())
    champion.save(home.champion_embedder("t4") / "champion.json")
    state = conclude(home, home, retraining(home), {"t4": rejected("t4")})
    assert (state.type.value, state.name) == ("COMPLETED", "Rejected")
    assert (published, outcome(home)) == ([], "rejected")


def test_one_promoted_among_several_is_published(home, published):
    verdicts = {"t4": promoted("t4"), "t5": rejected("t5")}
    state = conclude(home, home, retraining(home, tasks=("t4", "t5")), verdicts)
    assert state.is_completed()
    assert published[0][0] == ("t4", "t5")
    assert in_words(verdicts) == "t4 promoted under partial 25 %, t5 rejected"


def test_a_rejection_that_stops_keeps_what_was_promoted_before_it_too(home, published):
    verdicts = {"t4": promoted("t4"), "t5": rejected("t5")}
    state = conclude(home, home, retraining(home, tasks=("t4", "t5"), on_reject="stop"), verdicts)
    assert (state.type.value, state.name) == ("FAILED", "Rejected")
    assert (published, outcome(home)) == ([], "rejected")


def test_who_rejects_several_tasks_publishes_none_of_them(home, published):
    review = Review(choice="reject", by="time-out", reason="nobody decided in time")
    verdicts = {"t4": promoted("t4"), "t5": rejected("t5")}
    state = conclude(home, home, retraining(home, tasks=("t4", "t5")), verdicts, review=review)
    assert (state.type.value, state.name) == ("COMPLETED", "Rejected")
    assert (published, outcome(home)) == ([], "rejected")


@pytest.mark.parametrize(
    ("error", "ended"), [(CompatibilityError("another line"), "outdated"), (ArtifactError("damaged"), "refused")]
)
def test_what_cannot_come_into_force_is_written_down(home, monkeypatch, error, ended):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(module, "publish_tasks", refuse)
    with pytest.raises(type(error)):
        conclude(home, home, retraining(home), {"t4": promoted("t4")})
    assert outcome(home) == ended
    assert find(home, NAME).why == str(error)


def test_what_found_production_busy_stays_open(home, monkeypatch):
    def busy(*_, **__):
        raise BusyError("the releases are in use by process 7")

    monkeypatch.setattr(module, "publish_tasks", busy)
    with pytest.raises(BusyError):
        conclude(home, home, retraining(home), {"t4": promoted("t4")})
    assert outcome(home) == "unfinished"


def test_a_retraining_from_another_release_is_not_published(home, published):
    with pytest.raises(CompatibilityError, match="Its batches wait in the inbox again"):
        conclude(home, home, retraining(home, release="0001-aaaaaaaaaaaa"), {"t4": promoted("t4")})
    assert published == []


@pytest.mark.parametrize("moved", [True, False])
def test_a_retraining_whose_branch_somebody_moved_or_removed_is_not_published(home, published, moved):
    record = retraining(home)
    git(home.root, "branch", "--delete", "--force", record.branch)
    if moved:
        git(home.root, "commit", "--quiet", "--allow-empty", "--message", "a person's")
        git(home.root, "branch", record.branch)
    with pytest.raises(CsdError, match=r"is at .*Move it back" if moved else "is gone"):
        conclude(home, home, record, {"t4": promoted("t4")})
    assert (published, outcome(home)) == ([], "refused")


# --- what killed runs left open ---------------------------------------------------------------------------------------


def active(monkeypatch, *, commit, name="0002-cccccccccccc", kind="publish"):
    """Pretend that a release of this commit is active."""
    release = SimpleNamespace(name=name, record=SimpleNamespace(commit=commit, kind=kind))
    fake = SimpleNamespace(active=lambda: release, all=lambda: (release,))
    monkeypatch.setattr(module.Releases, "of", lambda *_: fake)


@pytest.fixture
def branches(monkeypatch):
    removed = []
    monkeypatch.setattr(module, "remove_branch", lambda _root, branch, commit: removed.append((branch, commit)))
    return removed


def test_a_run_that_died_before_anything_came_of_it_leaves_nothing(home, branches):
    record = retraining(home)
    page = home.retraining(NAME).with_suffix(".html")
    page.write_text("report")
    recover(home)
    assert branches == [(record.branch, record.commit)]
    assert not home.retraining(NAME).exists()
    assert not page.exists()


@pytest.mark.parametrize(("kind", "ended"), [("publish", "published"), ("refresh", "images only")])
@pytest.mark.parametrize("left", ["unfinished", "in review"])
def test_a_run_that_died_after_publishing_is_written_down_as_what_it_was(
    home, branches, monkeypatch, left, kind, ended
):
    record = retraining(home, outcome=left)
    active(monkeypatch, commit=record.commit, kind=kind)
    recover(home)
    assert (outcome(home), branches) == (ended, [])


def test_a_review_that_another_release_outdated_ends_so_that_its_batches_wait_again(home, branches, monkeypatch):
    retraining(home, outcome="in review", release="0001-aaaaaaaaaaaa")
    active(monkeypatch, commit="d" * 40)
    recover(home)
    assert (outcome(home), branches) == ("outdated", [])


def test_a_run_at_work_on_another_machine_is_left_alone_until_the_server_says_that_it_ended(
    home, branches, prefect_harness
):
    git(home.root, "init", "--quiet", "--bare", "shared.git")
    git(home.root, "remote", "add", "origin", "shared.git")
    git(home.root, "config", "csd.remote", "origin")
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(Flow(fn=lambda: None, name="retrain"), state=Running())
        record = retraining(home, flow_run=str(run.id))
        recover(home)
        assert (outcome(home), branches) == ("unfinished", [])
        client.set_flow_run_state(run.id, Crashed(), force=True)
        recover(home)
    assert branches == [(record.branch, record.commit)]
    assert not home.retraining(NAME).exists()


def test_a_run_that_the_server_does_not_know_is_no_run_at_work(home, branches, prefect_harness):
    git(home.root, "init", "--quiet", "--bare", "shared.git")
    git(home.root, "remote", "add", "origin", "shared.git")
    git(home.root, "config", "csd.remote", "origin")
    retraining(home, flow_run=str(uuid4()))
    recover(home)
    assert not home.retraining(NAME).exists()


def test_a_review_that_still_fits_goes_on_waiting(home, branches):
    retraining(home, outcome="in review")
    recover(home)
    assert outcome(home) == "in review"


@pytest.mark.parametrize("ended", ["kept", "rejected", "published", "images only", "refused", "outdated"])
def test_what_has_ended_stays_as_it_ended(home, branches, ended):
    retraining(home, outcome=ended)
    recover(home)
    assert (outcome(home), branches) == (ended, [])


def test_a_first_model_is_called_so_and_a_rejection_gives_its_reasons():
    first = Promoted(task="t1", strategy="none", share=None, reasons=("fine",), **COMMON)
    assert with_reasons({"t1": first}) == "t1 promoted as first model."
    assert with_reasons({"t4": rejected("t4")}) == "t4 rejected: flips: 9 %."
