"""A machine dies, or stops for a while, in the middle of changing releases that it shares with another one."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from object_store import BUCKET, object_store
from patience import PATIENCE
from projects import Project

from csd_core.audit.checksums import CHECKSUMS, Checksums
from csd_core.audit.log import ENDS
from csd_core.objects import lease as leases
from csd_core.objects.store import Objects
from csd_core.releases.activate import STEPS
from csd_core.releases.contents.release import LASTING
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.retrieval.embedder import digest_of

SECONDS = 4.0
"""Of a lease; long enough for a busy machine to renew it."""
ADDRESS = f"s3://{BUCKET}/releases"
PROGRAM = """
import os, sys
from pathlib import Path
from csd_core.audit.checksums import CHECKSUMS, Checksums
from csd_core.audit.log import ENDS
from csd_core.objects import lease
from csd_core.releases.candidate import Production
from csd_core.releases.rollback import rollback
from csd_core.system.errors import CsdError
from csd_core.workspace import Workspace

lease.LEASE_SECONDS = float(sys.argv[2])
def on_step(step):
    if step == sys.argv[3]:
        os.kill(os.getpid(), int(sys.argv[4]))
try:
    rollback(Production.of(Workspace(Path(sys.argv[1]))), why="by the other machine", on_step=on_step)
except CsdError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Two machines, with two releases."""
    with object_store() as running, pytest.MonkeyPatch.context() as environment:
        for name, value in running.environment.items():
            environment.setenv(name, value)
        environment.setattr(leases, "LEASE_SECONDS", SECONDS)
        here = Project(
            tmp_path_factory.mktemp("here") / "project",
            settings={"uri": f"s3://{BUCKET}/gallery", "releases": ADDRESS, "keep_releases": 2},
        )
        for task in ("t1", "t2"):
            here.promote(task, "none" if task == "t1" else "adapt")
            publish(here.production, task=task)
        there = tmp_path_factory.mktemp("there") / "project"
        shutil.copytree(here.root, there, ignore=shutil.ignore_patterns(".csd"))
        yield here, Project(there, tasks=here.tasks)


def started(machine, step, number):
    """A rollback in a process of its own, which sends itself a signal after a step."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(machine.root), str(SECONDS), step, str(int(number))],
        stderr=subprocess.PIPE,
        text=True,
    )


def switched(step):
    """Whether `current` names the new release after a step."""
    return STEPS.index(step) >= STEPS.index("switched")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["written", "switched"])
def test_what_a_killed_machine_left_is_cleared_up_or_completed_by_the_next(machines, step):
    here, there = machines
    before = here.active()
    process = started(there, step, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    dead = there.active()
    assert (dead.number == before.number + 1) == switched(step)
    assert dead.name == here.active().name
    made = rollback(here.production, why="after the other one died")
    trail = here.production.releases.audit.read()
    completed = "rolled back" if switched(step) else "abandoned"
    assert [each.event for each in trail.entries if each.release == name_of_dead(trail)][-1] in {completed, "retired"}
    assert there.active().name == made.name
    assert there.findings() == ()
    assert unneeded(here) == set()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["logged"])
def test_a_machine_that_was_overtaken_while_it_stood_still_changes_nothing_more(machines, step):
    here, there = machines
    process = started(there, step, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    made = rollback(here.production, why="while the other one stood still")
    process.send_signal(signal.SIGCONT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "LeaseLostError: " in told
    assert "was taken over by" in told
    assert here.active().name == there.active().name == made.name
    assert here.findings() == ()
    assert unneeded(here) == set()


@pytest.mark.slow
def test_publishers_on_several_machines_at_once_wait_for_each_other(machines):
    here, there = machines
    before = here.active().number
    others = [started(machine, "never", signal.SIGKILL) for machine in machines]
    rollback(here.production, why="by the third")
    for process in others:
        assert process.communicate(timeout=PATIENCE) == (None, "")
        assert process.returncode == 0
    trail = there.production.releases.audit.read()
    assert there.active().number == before + 3
    assert [each.event for each in trail.entries if each.event in ("begun", *ENDS)][-6:] == ["begun", "rolled back"] * 3
    assert there.findings() == ()


def name_of_dead(trail):
    """The release that the killed machine had begun."""
    return [each.release for each in trail.entries if each.event == "begun"][-2]


def unneeded(machine):
    """Objects of releases to which nothing leads, after the next change has begun."""
    with machine.production.releases.changing():
        pass
    releases = machine.production.releases
    needed = set()
    for release in releases.all():
        sums = Checksums.load(release.folder / CHECKSUMS).files
        names = LASTING & sums.keys() if releases.is_retired(release) else sums.keys()
        needed |= {f"{release.name}/{sums[name].sha256[:16]}/{name}" for name in names}
        needed.add(f"{release.name}/{digest_of(release.folder / CHECKSUMS)[:16]}/{CHECKSUMS}")
    there = {key for key in Objects(ADDRESS).listed() if key[0].isdigit()}
    assert needed <= there
    return there - needed
