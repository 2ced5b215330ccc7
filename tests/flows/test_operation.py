"""Scheduled retraining on the real thing: the server, pool, worker and deployments that `csd ui` starts. Minutes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from operators import (
    APPROVE,
    FAR_HOUR,
    LONG,
    NOTHING,
    RETRAIN,
    ROOT,
    Operations,
    csd,
    git,
    published_project,
    send_batch,
    until,
)
from patience import PATIENCE
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.events import Event, Resource
from prefect.events.clients import PrefectEventsClient
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.asyncutils import run_coro_as_sync
from ruamel.yaml import YAML

from csd_core.records.stages import Champion
from csd_core.releases.store import Releases
from csd_core.retraining.history import retrainings
from flows.ui.server import SHORT_LIFE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(once):
    return once("published", published_project)


@pytest.fixture(scope="module")
def served(published, tmp_path_factory):
    """The project whose server the tests of this module share."""
    root = tmp_path_factory.mktemp("served") / "project"
    shutil.copytree(published, root, symlinks=True)
    operations = Operations(root)
    operations.start()
    yield operations
    operations.stop()


@pytest.fixture(scope="module")
def in_review(once, published, served):
    """A project whose retraining of t2 waits for a review; to be copied."""

    def make(root):
        shutil.copytree(published, root, symlinks=True)
        send_batch(root, "monday", ["cat", "dog"])
        assert retrained(Operations(root, port=served.port), promotion="review") == (0, "AwaitingReview")

    return once("in review", make)


@pytest.fixture(scope="module")
def prepared(once, published, in_review):
    """The published project, in whose cache DVC finds the stages of a retraining on those images: it takes seconds."""

    def make(root):
        shutil.copytree(published, root, symlinks=True)
        shutil.rmtree(root / ".dvc" / "cache")
        shutil.copytree(in_review / ".dvc" / "cache", root / ".dvc" / "cache")

    return once("prepared", make)


@pytest.fixture
def alone(prepared, tmp_path):
    """A project with a server of its own, which may be killed; nothing runs at its end."""
    shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    operations = Operations(tmp_path / "project")
    operations.start()
    yield operations
    operations.stop()


@pytest.fixture
def operations(served, prepared):
    """The shared server over the prepared project; one that a failed test left busy is started again."""
    if served.server and served.left_behind()["processes"]:
        served.stop()
    served.renew(prepared)
    if served.server is None:
        served.start()
    return served


def active(operations):
    return Releases.of(operations.files, "releases").active().record


def only(operations):
    (record,) = retrainings(operations.files)
    return record


# --- deployments ------------------------------------------------------------------------------------------------------


def test_the_cron_of_a_deployment_yields_scheduled_runs(operations):
    def scheduled():
        with operations.client as client:
            found = client.read_deployment_by_name(RETRAIN)
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[found.id])), limit=50
            )
        return [run for run in runs if run.auto_scheduled]

    until(lambda: len(scheduled()) >= 2, seconds=PATIENCE)
    now = datetime.now(UTC)
    times = sorted(run.expected_start_time for run in scheduled())
    assert times[0] - now < timedelta(days=1)
    assert all(each.hour == FAR_HOUR for each in times)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"promotion": "perhaps"}, "'perhaps' is not one of"),
        ({"overrides": {"gate": {"confidence": 3}}}, "settings.overrides.gate.confidence"),
        ({"overrides": {"gate": {"confidense": 0.9}}}, "confidense"),
        ({"overrides": {"training": {"later": {"epochs": 0}}}}, "settings.overrides.training.later.epochs"),
        ({"promote": "auto"}, "promote"),
    ],
)
def test_the_form_refuses_a_bad_parameter(operations, settings, complaint):
    with pytest.raises(PrefectHTTPStatusError) as refused:
        operations.run(RETRAIN, **settings)
    assert refused.value.response.status_code == 409
    assert complaint in refused.value.response.text


def test_a_decision_needs_a_name_and_a_reason(operations):
    for settings in ({"by": "Ada"}, {"reason": "fine"}, {"by": "", "reason": "fine"}):
        with pytest.raises(PrefectHTTPStatusError):
            operations.run(APPROVE, **settings)


def test_nothing_new_ends_in_seconds(operations):
    state = operations.ended(operations.run(RETRAIN))
    assert (state.name, state.message) == ("NothingToDo", "no batch waits in the inbox")
    assert operations.left_behind() == NOTHING


def test_a_decision_on_nothing_is_one_line(operations):
    state = operations.ended(operations.run(APPROVE, by="Ada", reason="why not"))
    assert (state.name, state.message) == ("Failed", "no retraining waits for a review")


def test_an_event_starts_a_retraining(operations):
    def runs():
        with operations.client as client:
            found = client.read_deployment_by_name(RETRAIN)
            return {
                run.id
                for run in client.read_flow_runs(
                    deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[found.id])), limit=50
                )
                if not run.auto_scheduled
            }

    before = runs()
    resource = Resource.model_validate({"prefect.resource.id": "csd.inbox.b1"})

    async def emit():
        async with PrefectEventsClient(f"http://127.0.0.1:{operations.port}/api") as client:
            await client.emit(Event(event="csd.data.task-added", resource=resource))

    run_coro_as_sync(emit())
    until(lambda: runs() - before, seconds=PATIENCE)
    (run,) = runs() - before
    assert operations.ended(run).name == "NothingToDo"


class Chat(BaseHTTPRequestHandler):
    """Takes what is posted to it."""

    posted: ClassVar = []

    def do_POST(self):
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def test_operators_are_told_of_a_failure_as_the_documentation_says(operations):
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), flags=re.DOTALL)
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as chat:
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        mine = snippet.replace("https://chat.example/hook", f"http://127.0.0.1:{chat.server_port}/hook")
        assert mine != snippet
        environment = {**os.environ, "PREFECT_API_URL": f"http://127.0.0.1:{operations.port}/api"}
        subprocess.run([sys.executable, "-c", mine], check=True, env=environment, capture_output=True)
        time.sleep(5)  # the server reads its automations again
        operations.ended(operations.run(APPROVE, by="Ada", reason="why not"))
        until(lambda: Chat.posted, seconds=PATIENCE)
        chat.shutdown()
    assert Chat.posted[0] == {"text": "csd.approve.failed: no retraining waits for a review"}


# --- a retraining -----------------------------------------------------------------------------------------------------


def test_new_images_become_a_release(operations, published):
    operations.renew(published)  # nothing of it is in the cache
    send_batch(operations.root, "monday", ["cat", "dog"])
    send_batch(operations.root, "half", ["owl"], ready=False)
    run = operations.run(RETRAIN)
    state = operations.ended(run)
    assert state.name == "Completed", operations.lines(run)
    record = only(operations)
    assert (record.outcome, record.tasks) == ("published", ("t2",))
    assert [batch.name for batch in record.batches] == ["monday"]
    release = active(operations)
    assert (release.number, release.task, release.commit, release.uncommitted) == (2, "t2", record.commit, False)
    assert "monday" in git(operations.root, "show", "--format=%B", "--no-patch", record.branch)
    changed = git(operations.root, "show", "--name-only", "--format=", record.branch).split()
    assert set(changed) == {
        "params.yaml",
        "dvc.lock",
        "metrics.json",
        "batches/.gitignore",
        "batches/t2.dvc",
        "batches/t2.json",
    }
    assert git(operations.root, "rev-parse", f"{record.branch}^") == git(operations.root, "rev-parse", "main")
    stages = operations.stages(run)
    assert stages["train@t2"] == "Completed"
    assert stages["train@t1"] == "Cached"
    assert any("epoch 1/2" in line for line in operations.lines(run))
    assert not any("didn't change" in line for line in operations.lines(run))  # DVC is not asked stage by stage
    assert operations.files.retraining(record.name).with_suffix(".html").stat().st_size > 10_000
    assert operations.left_behind() == NOTHING | {"branches": [record.branch], "records": [record.name]}
    assert "taken: task t2" in csd(operations.root, "inbox", "status")
    csd(operations.root, "verify")
    assert operations.ended(operations.run(RETRAIN)).name == "NothingToDo"


def test_a_users_own_run_goes_on_beside_a_retraining(operations):
    send_batch(operations.root, "monday", ["cat", "dog"])
    params = operations.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 3", "epochs: 60", 1))
    own = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"], cwd=operations.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    run = operations.run(RETRAIN)
    state = operations.ended(run)
    told = own.communicate(timeout=PATIENCE)[0].decode()
    assert own.returncode == 0, told
    assert "Running stage 'train@t1'" in told
    assert state.name == "Completed", operations.lines(run)
    assert operations.stages(run)["train@t1"] == "Cached"
    assert "epochs: 60" in params.read_text()
    assert git(operations.root, "rev-parse", "--abbrev-ref", "HEAD") == "main"
    mine = Champion.load(operations.files.champion_embedder("t1") / "champion.json").digest
    assert active(operations).parent_model != mine
    assert "Nothing to do" in csd(operations.root, "status")


def test_two_at_once_are_one_and_the_other_is_cancelled(operations):
    send_batch(operations.root, "monday", ["cat", "dog"])
    first = operations.run(RETRAIN, overrides=LONG)
    operations.in_training(first)
    second = operations.run(RETRAIN)
    state = operations.ended(second)
    assert state.name == "Cancelled"
    assert "concurrency limit" in state.message
    assert operations.state(first).name == "Running"
    operations.cancel(first)
    assert operations.ended(first).name == "Cancelled"


# --- interruptions ----------------------------------------------------------------------------------------------------


def resumed(operations, run):
    """The first epoch that a run trained."""
    epochs = [line for line in operations.lines(run) if line.startswith("epoch ")]
    return int(epochs[0].split()[1].split("/")[0])


def test_a_cancelled_run_leaves_its_checkpoint_alone_and_the_next_goes_on_from_it(operations):
    send_batch(operations.root, "monday", ["cat", "dog"])
    run = operations.run(RETRAIN, overrides=LONG, publish=False)
    operations.in_training(run, epochs=20)
    operations.cancel(run)
    assert operations.ended(run).name == "Cancelled"
    assert operations.left_behind() == NOTHING
    assert len(list(operations.files.handed_on.glob("train-t2-*"))) == 1
    again = operations.run(RETRAIN, overrides=LONG, publish=False)
    until(lambda: any(line.startswith("epoch ") for line in operations.lines(again)), seconds=PATIENCE)
    assert resumed(operations, again) > 1
    operations.cancel(again)
    operations.ended(again)


def test_a_run_ends_with_its_worker_and_the_next_worker_goes_on(operations):
    send_batch(operations.root, "monday", ["cat", "dog"])
    run = operations.run(RETRAIN, overrides=LONG, publish=False)
    operations.in_training(run, epochs=20)
    worker = operations.worker()
    # sooner, `csd ui` gives it up
    until(lambda: time.time() - worker.create_time() > SHORT_LIFE + 5, seconds=PATIENCE)
    worker.send_signal(signal.SIGKILL)
    assert operations.ended(run).name == "Crashed"
    until(lambda: operations.left_behind() == NOTHING, seconds=PATIENCE)
    again = operations.run(RETRAIN, overrides=LONG, publish=False)
    until(lambda: any(line.startswith("epoch ") for line in operations.lines(again)), seconds=PATIENCE)
    assert resumed(operations, again) > 1
    operations.cancel(again)
    operations.ended(again)


def test_a_machine_that_went_down_in_mid_training_comes_back_to_work(alone):
    send_batch(alone.root, "monday", ["cat", "dog"])
    run = alone.run(RETRAIN, overrides=LONG, publish=False)
    alone.in_training(run, epochs=20)
    alone.power_cut()
    assert alone.left_behind()["processes"] == []
    assert alone.left_behind()["checkouts"] != []
    alone.start()
    assert not alone.state(run).is_completed()
    assert retrained(alone) == (0, "Completed")  # the lost run may hold the deployment's slot yet
    record = only(alone)
    assert record.outcome == "published"
    assert alone.left_behind() == NOTHING | {"branches": [record.branch], "records": [record.name]}


def test_killing_make_ui_ends_the_run_too_and_it_cleans_up(alone):
    send_batch(alone.root, "monday", ["cat", "dog"])
    run = alone.run(RETRAIN, overrides=LONG, publish=False)
    alone.in_training(run)
    alone.stop(signal.SIGKILL)
    assert alone.left_behind() == NOTHING


def test_ctrl_c_in_mid_training_leaves_nothing_running_and_the_server_knows(alone):
    send_batch(alone.root, "monday", ["cat", "dog"])
    run = alone.run(RETRAIN, overrides=LONG, publish=False)
    alone.in_training(run)
    alone.stop()
    assert alone.left_behind() == NOTHING
    alone.start()
    assert alone.state(run).name == "Crashed"


@pytest.fixture
def beside(prepared, tmp_path, operations):
    """A project of its own, run by hand against a server that others use too."""
    shutil.copytree(prepared, tmp_path / "project", symlinks=True)
    return Operations(tmp_path / "project", port=operations.port)


@pytest.fixture
def reviewed(in_review, tmp_path, operations):
    """A copy of that project."""
    shutil.copytree(in_review, tmp_path / "project", symlinks=True)
    return Operations(tmp_path / "project", port=operations.port)


@pytest.fixture
def overtaken(once, in_review, tmp_path, operations):
    """The same after another retraining was published in the meantime."""

    def make(root):
        shutil.copytree(in_review, root, symlinks=True)
        send_batch(root, "tuesday", ["owl", "fox"])
        assert retrained(Operations(root, port=operations.port)) == (0, "Completed")

    shutil.copytree(once("overtaken", make), tmp_path / "project", symlinks=True)
    return Operations(tmp_path / "project", port=operations.port)


RUN = """
import os
import flows.runs.outcome
import flows.{flow} as flow
die = lambda *_, **__: os._exit(9)
{where}
state = flow.{flow}(flow.{form}, return_state=True)
print(state.message, state.name, sep="\\n")
"""


def retrained(project, where="", **settings):
    code, told = project.directly(RUN.format(flow="retrain", form=f"Retrain(**{settings})", where=where))
    return (code, told.splitlines()[-1] if told else "")


def approved(project, where="", **settings):
    code, told = project.directly(RUN.format(flow="approve", form=f"Approve(**{settings})", where=where))
    return (code, told.splitlines()[-1] if told else "")


@pytest.mark.parametrize(
    ("where", "was_out"),
    [("flow.record = die", False), ("flow.conclude = die", False), ("flows.runs.outcome.end = die", True)],
)
def test_a_run_that_died_at_its_end_is_made_whole_by_the_next(beside, where, was_out):
    send_batch(beside.root, "monday", ["cat", "dog"])
    assert retrained(beside, where)[0] == 9
    assert retrained(beside) == (0, "NothingToDo" if was_out else "Completed")
    record = only(beside)
    assert (record.outcome, record.tasks, active(beside).number) == ("published", ("t2",), 2)
    assert beside.left_behind() == NOTHING | {"branches": [record.branch], "records": [record.name]}


@pytest.mark.parametrize(
    ("where", "was_out"),
    [("flow.note = die", False), ("flow.conclude = die", False), ("flows.runs.outcome.end = die", True)],
)
def test_an_approval_that_died_can_be_made_again(reviewed, where, was_out):
    assert approved(reviewed, where, choice="keep", by="Ada", reason="fine")[0] == 9
    again = approved(reviewed, choice="backfill", by="Grace", reason="on second thoughts")
    assert again == (0, "NothingToDo" if was_out else "Completed")
    record, release = only(reviewed), active(reviewed)
    assert (record.outcome, release.number) == ("published", 2)
    assert (release.strategy, release.by) == (("keep", "Ada") if was_out else ("backfill", "Grace"))
    assert reviewed.left_behind() == NOTHING | {"branches": [record.branch], "records": [record.name]}


def test_a_recipe_of_a_run_trains_its_new_task_alone_and_what_could_not_be_published_is_refused_at_once(beside):
    send_batch(beside.root, "monday", ["cat", "dog"])
    code, told = beside.directly(
        RUN.format(flow="retrain", form='Retrain(overrides={"training": {"seed": 7}})', where="")
    )
    assert (code, told.splitlines()[-1]) == (0, "Failed")
    assert "training.seed: would train t1 again" in told
    assert "train@t" not in told
    assert retrained(beside, overrides={"training": {"later": {"epochs": 1}}}) == (0, "Completed")
    params = git(beside.root, "show", f"{only(beside).branch}:params.yaml")
    assert "t2: {extends: later, epochs: 1}" in params
    assert "recipe: recipes.t2, source: t2" in params
    lock = [git(beside.root, "show", f"{name}:dvc.lock") for name in ("main", only(beside).branch)]
    models = [YAML(typ="safe").load(each)["stages"]["train@t1"] for each in lock]
    assert models[0] == models[1]
    assert active(beside).task == "t2"


def test_a_project_without_a_release_gets_its_first_and_is_then_at_rest(beside):
    for name in ("releases", "live"):
        shutil.rmtree(beside.root / name)
    assert retrained(beside) == (0, "Completed")
    assert (active(beside).number, active(beside).task) == (1, "t1")
    assert retrained(beside) == (0, "NothingToDo")


def test_a_first_model_waits_for_its_review_once(beside):
    for name in ("releases", "live"):
        shutil.rmtree(beside.root / name)
    assert retrained(beside, promotion="review") == (0, "AwaitingReview")
    assert retrained(beside, promotion="review") == (0, "NothingToDo")
    assert approved(beside, by="Ada", reason="a good start") == (0, "Completed")
    assert (active(beside).number, active(beside).by) == (1, "Ada")


# --- reviews ----------------------------------------------------------------------------------------------------------


def test_a_review_waits_without_a_process_and_an_approval_publishes_it(operations):
    send_batch(operations.root, "monday", ["cat", "dog"])
    run = operations.run(RETRAIN, promotion="review")
    state = operations.ended(run)
    assert state.name == "AwaitingReview", operations.lines(run)
    record = only(operations)
    assert (record.outcome, active(operations).number) == ("in review", 1)
    assert operations.left_behind() == NOTHING | {"branches": [record.branch], "records": [record.name]}
    page = operations.artifacts(run)["review-t2"]
    assert "t2: promoted" in page
    assert f"/{record.name}.html" in page
    assert "/run?parameters=" in page
    assert operations.ended(operations.run(RETRAIN)).name == "NothingToDo"  # the slot is free, its batch is not
    operations.stop()
    operations.start()  # a review outlives the server
    decided = operations.run(APPROVE, choice="backfill", by="Ada Lovelace", reason="all anew", retraining=record.name)
    assert operations.ended(decided).name == "Completed", operations.lines(decided)
    record, release = only(operations), active(operations)
    assert (record.outcome, release.strategy, release.by) == ("published", "backfill", "Ada Lovelace")
    assert (release.commit, release.uncommitted) == (record.commit, False)
    assert git(operations.root, "rev-parse", record.branch) == record.commit
    params = git(operations.root, "show", f"{record.branch}:params.yaml")
    assert "t2: backfill" in params
    assert "Ada Lovelace" in params
    assert "all anew" in git(operations.root, "show", "--format=%B", "--no-patch", record.branch)
    assert "all anew" in (operations.root / "releases" / "audit.jsonl").read_text()
    twice = operations.run(APPROVE, choice="reject", by="Bob", reason="too late", retraining=record.name)
    state = operations.ended(twice)
    assert state.name == "Failed"
    assert "nothing to decide: it was published" in state.message


def test_a_rejected_model_leaves_the_champion_and_lets_its_images_go_live_as_the_page_said(reviewed):
    before = active(reviewed)
    assert approved(reviewed, choice="reject-model", by="Ada", reason="the flips") == (0, "ImagesOnly")
    record, release = only(reviewed), active(reviewed)
    assert (release.kind, release.model, release.rows) == ("refresh", before.model, before.rows + 50)
    assert record.outcome == "images only"
    assert "50 new images are searchable under the champion" in record.why
    assert "t2: reject" in git(reviewed.root, "show", f"{record.branch}:params.yaml")
    assert "taken: task t2" in csd(reviewed.root, "inbox", "status")


@pytest.mark.parametrize("classes", [(), ("dog",)])
def test_rejected_images_do_not_go_live_and_wait_no_more_until_they_are_returned(reviewed, classes):
    choice = "reject-classes" if classes else "reject-data"
    settings = {"choice": choice, "classes": classes, "by": "Ada", "reason": "letters look wrong"}
    assert approved(reviewed, **settings | {"classes": ("fox",)})[1] == "Failed"
    assert approved(reviewed, **settings) == (0, "Rejected")
    record = only(reviewed)
    assert (record.outcome, active(reviewed).number) == ("rejected", 1)
    assert f"nothing went live; set aside: {'dog of ' if classes else ''}monday" in record.why
    assert "letters look wrong" in (reviewed.root / "releases" / "audit.jsonl").read_text()
    told = csd(reviewed.root, "inbox", "status")
    assert ("25 of 40 images wait" if classes else "nothing waits") in told
    csd(reviewed.root, "inbox", "return", "monday")
    assert "50 of 40 images wait" in csd(reviewed.root, "inbox", "status")


def test_a_review_that_nobody_decides_is_rejected_and_others_go_on_meanwhile(operations):
    send_batch(operations.root, "monday", ["cat", "dog"])
    settings = {"promotion": "review", "review_days": 30 / 86_400, "on_reject": "stop"}
    run = operations.run(RETRAIN, **settings)
    assert operations.ended(run).name == "AwaitingReview", operations.lines(run)
    until(lambda: only(operations).outcome == "rejected", seconds=PATIENCE)
    record = only(operations)
    assert active(operations).number == 1
    assert "by: time-out" in git(operations.root, "show", f"{record.branch}:params.yaml")
    state = operations.ended(operations.run(RETRAIN, **settings))
    assert state.name == "NothingToDo"
    assert f"{record.name} was rejected" in state.message


@pytest.mark.parametrize("asked", [True, False])
def test_a_review_is_outdated_when_another_release_came_first(overtaken, asked):
    (waiting,) = (each for each in retrainings(overtaken.files) if each.outcome == "in review")
    if asked:
        settings = f"Approve(by='Ada', reason='fine', retraining={waiting.name!r})"
        code, told = overtaken.directly(RUN.format(flow="approve", form=settings, where=""))
        assert (code, told.splitlines()[-1]) == (0, "Failed")
        assert "Its batches wait in the inbox again" in told
        assert "a task is due" in csd(overtaken.root, "inbox", "status")
    else:
        assert retrained(overtaken) == (0, "Completed")
        assert active(overtaken).task == "t3"
    assert next(each for each in retrainings(overtaken.files) if each.name == waiting.name).outcome == "outdated"
