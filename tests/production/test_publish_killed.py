"""Commands that are ended in mid-work, or that want the same thing at once, most in a process of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kills import REAPER
from patience import PATIENCE
from projects import Project, content_ids, pixels_of

from csd_core.releases.activate import STEPS
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.system.errors import CsdError

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}

PREAMBLE = """
import json, os, signal, sys, time
from pathlib import Path
from projects import Project, pixels_of
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback

root, command, point = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
project = Project(root, tasks=("t1", "t2"))

def run(on_step):
    if command == "publish":
        return publish(project.production, on_step=on_step)
    return rollback(project.production, 1, why="worse", on_step=on_step)
"""
AT_STEP = """
def die(step):
    if step == point:
        os.kill(os.getpid(), signal.SIGKILL)
run(die)
"""
AT_EVENT = """
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
count = 0
def watch(event, arguments):
    global count
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if (writes or event in CHANGES) and "/releases/" in str(arguments[0]) and ".lock" not in str(arguments[0]):
        count += 1
        if count == int(point):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
run(lambda step: None)
print("not killed")
"""
PAUSED = """
def pause(step):
    if step == point:
        print("paused", flush=True)
        sys.stdin.readline()
release = run(pause)
print(release.number if release else "nothing to do")
"""
WRITER = """
ids = project.put(pixels_of(int(point), 1, seed=1), "by another process")
print(json.dumps(ids))
"""


def process(script, project, command="publish", point=""):
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, str(project.root), command, point],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def killed(project, command, point, *, script=AT_STEP):
    """Whether the process was killed, as it should be at a step."""
    child = process(script, project, command, point)
    told, _ = child.communicate(timeout=PATIENCE)
    if child.returncode == -signal.SIGKILL:
        return True
    assert (child.returncode, told.splitlines()[-1]) == (0, "not killed")
    return False


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """command -> a project where the command has something to do."""
    root = tmp_path_factory.mktemp("templates")
    first = Project(root / "publish", tasks=("t1", "t2"))
    first.promote("t1", "none").promote("t2", "adapt")
    publish(first.production, task="t1")
    first.put(pixels_of(40, 3, seed=1), "live")
    first.delete(sorted(first.rows())[:2])
    second = first.copied_to(root / "rollback")
    publish(second.production)
    second.put(pixels_of(41, 2, seed=1), "later")
    return {"publish": first, "rollback": second}


def fit(project, before, after):
    """Exactly the old or the new release is active, and all is well; then the same command succeeds."""
    assert project.findings() == ()
    release = project.active()
    assert release.number in (before, after)
    hits = project.search(pixels_of(40, 1, seed=1), k=1)
    assert hits.labels.tolist() == [["live"]]
    return release.number


def finish(project, command):
    """The next run, whatever the last one left."""
    rows = project.rows()
    people = {identity for identity, row in rows.items() if row["origin"] == "live"}
    if command == "publish":
        publish(project.production)
        assert project.active().record.task == "t2"
    elif project.active().record.kind != "rollback":
        rollback(project.production, 1, why="worse")
        assert project.active().record.task == "t1"
    else:
        publish(project.production, task="t1")  # nothing to do, but the log is completed
    assert project.findings() == ()
    assert people <= project.rows().keys()
    production = project.production
    trail = production.releases.audit.read()
    assert (trail.open, trail.torn) == (None, False)
    assert trail.active == project.active().name
    assert set(production.live.tables()) == {release.table for release in production.releases.all()}
    for release in production.releases.all():
        assert set(production.live.tags(release.table)) == {release.tag}
    assert not list((project.root / "releases").glob(".0*"))  # folders of releases that came to nothing


@pytest.mark.parametrize("step", ["built", "logged", "switched"])
def test_a_publish_that_is_killed_leaves_the_old_or_the_new_release(templates, tmp_path, step):
    project = templates["publish"].copied_to(tmp_path / "project")
    assert killed(project, "publish", step)
    switched = STEPS.index(step) >= STEPS.index("switched")
    assert fit(project, before=1, after=2) == (2 if switched else 1)
    finish(project, "publish")


COMMANDS = {
    "publish": publish,
    "rollback": lambda production, **options: rollback(production, 1, why="worse", **options),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("step", STEPS)
def test_ending_at_any_step_leaves_the_old_or_the_new_release(templates, tmp_path, command, step):
    project = templates[command].copied_to(tmp_path / "project")
    before = project.active().number
    with REAPER.ends() as ended:
        COMMANDS[command](project.production, on_step=lambda each: REAPER.now() if each == step else None)
    assert ended
    switched = STEPS.index(step) >= STEPS.index("switched")
    assert fit(project, before, before + 1) == before + switched
    finish(project, command)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_ending_before_a_change_to_a_file_leaves_the_old_or_the_new_release(templates, tmp_path, command):
    event, ended = -1, True
    while ended:
        event += 3  # each takes a second, and there are more than a hundred
        project = templates[command].copied_to(tmp_path / f"project-{event}")
        before = project.active().number
        if event % 12 == 2:
            ended = killed(project, command, str(event), script=AT_EVENT)
        else:
            with REAPER.ends(after=event - 1) as ended:
                COMMANDS[command](project.production)
        if ended:
            fit(project, before, before + 1)
            finish(project, command)
    assert event > 30  # every file that is written, renamed or removed is one


@pytest.mark.slow
def test_a_recovery_that_is_killed_is_done_again(templates, tmp_path):
    project = templates["publish"].copied_to(tmp_path / "project")
    assert killed(project, "publish", "logged")
    for event in ("2", "4", "6"):
        killed(project, "publish", event, script=AT_EVENT)
        fit(project, before=1, after=2)
    finish(project, "publish")


def test_a_run_killed_after_the_switch_is_published_in_the_log_by_the_next(templates, tmp_path):
    project = templates["publish"].copied_to(tmp_path / "project")
    assert killed(project, "publish", "switched")
    assert publish(project.production) is None
    entry = project.production.releases.audit.read().entries[-1]
    assert (entry.event, entry.recovered, entry.release) == ("published", True, project.active().name)


def test_a_run_killed_before_the_switch_is_abandoned_in_the_log_by_the_next(templates, tmp_path):
    project = templates["publish"].copied_to(tmp_path / "project")
    assert killed(project, "publish", "verified")
    publish(project.production)
    events = [entry.event for entry in project.production.releases.audit.read().entries[3:]]
    assert events == ["begun", "built", "abandoned", "begun", "built", "published"]
    assert project.active().number == 3  # a number is never given twice


def test_of_two_publishers_at_once_one_publishes_and_the_other_finds_nothing_to_do(templates, tmp_path):
    project = templates["publish"].copied_to(tmp_path / "project")
    both = [process(PAUSED, project) for _ in range(2)]
    told = sorted(child.communicate(timeout=PATIENCE)[0].splitlines()[-1] for child in both)
    assert [child.returncode for child in both] == [0, 0]
    assert told == ["2", "nothing to do"]
    assert project.findings() == ()


def test_a_publisher_that_does_not_want_to_wait_is_told_who_publishes(templates, tmp_path):
    project = templates["publish"].copied_to(tmp_path / "project")
    first = process(PAUSED, project, point="built")
    assert first.stdout.readline() == "paused\n"
    with pytest.raises(CsdError, match=rf"the releases in .* in use by process {first.pid} \(.*since"):
        publish(project.production, wait=0.1)
    told, _ = first.communicate("go on\n", timeout=PATIENCE)
    assert told.splitlines()[-1] == "2"


@pytest.mark.slow
def test_rows_that_another_process_writes_meanwhile_or_during_the_switch_are_served(templates, tmp_path):
    project = templates["publish"].copied_to(tmp_path / "project")
    waiting = []

    def meanwhile(step):
        if step == "built":
            json.loads(process(WRITER, project, point="60").communicate(timeout=PATIENCE)[0])
        if step == "locked":  # it waits for the lock, then writes into what is active then
            waiting.append(process(WRITER, project, point="61"))

    release = publish(project.production, on_step=meanwhile)
    (identity,) = json.loads(waiting[0].communicate(timeout=PATIENCE)[0])
    rows = project.rows()
    assert rows[identity]["embedded_by"] == release.record.model
    assert rows[content_ids(pixels_of(60, 1, seed=1))[0]]["space"] == release.record.model
    assert project.findings() == ()
