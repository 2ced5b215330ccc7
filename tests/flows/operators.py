"""A project as an operator has it: in git, published, with the server and worker that `csd ui` starts."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
from patience import PATIENCE
from PIL import Image
from ports import free_port
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.sorting import LogSort
from prefect.states import Cancelling
from ruamel.yaml import YAML

from csd_core.project.setup import set_up
from csd_core.retraining.history import retrainings
from csd_core.workspace import Workspace

ROOT = Path(__file__).parents[2]
RETRAIN, APPROVE = "retrain/retrain", "approve/approve"
FAR_HOUR = (datetime.now(UTC).hour + 12) % 24
"""Of the day in which no test runs, for schedules that must not come due."""
LONG = {"training": {"later": {"epochs": 4000}}}
"""Overrides that make a stage long enough to be interrupted."""


def git(root, *arguments):
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost"]
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def csd(root, *arguments):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root), "COLUMNS": "160"}
    done = subprocess.run(
        [sys.executable, "-m", "csd_core.cli", *arguments],
        cwd=root,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def published_project(root, profile="tiny"):
    """Digits in one task, trained for a moment, committed and published; its server has made its database."""
    trained_project(root, profile)
    csd(root, "publish", "--why", "the first model")
    operations = Operations(root)
    operations.start()
    operations.stop()
    return root


def trained_project(root, profile="tiny", **elsewhere):
    """Digits in one task, trained for a moment and committed; `elsewhere` is what blocks of params.yaml say instead."""
    set_up(root, profile)
    yaml = YAML()
    values = yaml.load(root / "params.yaml")
    for task in ("t2", "t3"):
        del values["tasks"][task], values["decisions"][task]
    values["report"]["after"] = "t1"
    values["inbox"]["min_images"] = 40
    if profile == "tiny":
        values["training"]["first"]["epochs"] = 3
    for block, changes in elsewhere.items():
        values[block] |= changes
    yaml.dump(values, root / "params.yaml")
    plan = root / "prefect.yaml"
    plan.write_text(plan.read_text().replace('"0 3 * * *"', f'"0 {FAR_HOUR} * * *"'))
    git(root, "branch", "--move", "--force", "main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "a project")
    csd(root, "run")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "its first run")


def send_batch(root, name, classes, *, images=25, ready=True):
    """Put a batch of small, distinct images into the inbox."""
    for number, label in enumerate(classes):
        folder = root / "data" / "inbox" / name / label
        folder.mkdir(parents=True)
        rng = np.random.default_rng([*label.encode(), number])
        ground = rng.integers(0, 255, (8, 8))
        for index in range(images):
            pixels = np.clip(ground + rng.integers(-40, 40, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    if ready:
        (root / "data" / "inbox" / name / "_READY").touch()


@dataclass
class Operations:
    """A project with its server and worker."""

    root: Path
    port: int = field(default_factory=free_port)
    server: subprocess.Popen | None = None

    @property
    def files(self):
        return Workspace(self.root)

    @property
    def client(self):
        return SyncPrefectClient(f"http://127.0.0.1:{self.port}/api")

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PYTHONPATH": str(self.root), "PYTHONUNBUFFERED": "1"}
        log = self.root.with_name("ui.log").open("w")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "csd_core.cli", "ui", "--port", str(self.port)],
            cwd=self.root,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        told = self.root.with_name("ui.log")
        until(lambda: "Ctrl-C" in told.read_text() or self.server.poll() is not None, seconds=PATIENCE)
        assert self.server.poll() is None, told.read_text()

    def renew(self, published):
        """Make the project a copy of another again, while its server runs."""
        server = self.root / "operations" / "prefect"
        for each in (*self.root.iterdir(), *server.parent.glob("*")):
            if each in (server, server.parent):
                continue
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
        theirs = str(published / "operations")  # its server's files are not this server's
        shutil.copytree(
            published,
            self.root,
            symlinks=True,
            dirs_exist_ok=True,
            ignore=lambda folder, _: {"prefect"} if folder == theirs else set(),
        )

    def stop(self, how=signal.SIGINT):
        if self.server is None:
            return
        family = [psutil.Process(self.server.pid), *psutil.Process(self.server.pid).children(recursive=True)]
        self.server.send_signal(how)
        self.server.wait(PATIENCE)
        self.server = None
        until(lambda: not any(map(lives, family)), seconds=PATIENCE)

    def power_cut(self):
        """Kill everything at once."""
        family = [psutil.Process(self.server.pid), *psutil.Process(self.server.pid).children(recursive=True)]
        for each in family:
            each.suspend()  # so that none sees another die
        for each in family:
            each.kill()
        self.server.wait(PATIENCE)
        self.server = None
        until(lambda: not any(map(lives, family)), seconds=PATIENCE)

    def worker(self):
        return next(
            each
            for each in psutil.Process(self.server.pid).children(recursive=True)
            if "worker" in each.cmdline() and "start" in each.cmdline()
        )

    def run(self, deployment, **settings):
        with self.client as client:
            found = client.read_deployment_by_name(deployment)
            made = client.create_flow_run_from_deployment(found.id, parameters={"settings": settings})
        return made.id

    def directly(self, script):
        """Run Python in the project against the server, as a person would; gives its exit code and what it printed."""
        environment = {
            **os.environ,
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PYTHONPATH": str(self.root),
        }
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.root,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def state(self, run):
        with self.client as client:
            return client.read_flow_run(run).state

    def ended(self, run, *, seconds=PATIENCE):
        """The state in which a run ends."""
        until(lambda: self.state(run).is_final(), seconds=seconds)
        return self.state(run)

    def cancel(self, run):
        with self.client as client:
            client.set_flow_run_state(run, Cancelling())

    def lines(self, run):
        """What a run logged."""
        with self.client as client:
            found = client.read_logs(
                log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])), sort=LogSort.TIMESTAMP_ASC, limit=200
            )
        return [each.message for each in found]

    def artifacts(self, run):
        """Key -> data of what a run showed."""
        with self.client as client:
            found = client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
            )
        return {each.key: each.data for each in found}

    def stages(self, run):
        """Task run -> name of its state."""
        with self.client as client:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])), limit=200)
        return {each.name: each.state.name for each in found}

    def in_training(self, run, *, epochs=3):
        """Wait until a run is in the midst of training a new task."""
        work = self.files.handed_on

        def trains():
            assert not self.state(run).is_final(), self.state(run)
            return any(work.glob("train-t*/checkpoint.safetensors"))

        until(trains, seconds=PATIENCE)
        time.sleep(0.2 * epochs)

    def left_behind(self):
        """What an interrupted run may leave: nothing but checkpoints."""
        running = [
            each.info["cmdline"]
            for each in psutil.process_iter(["cmdline", "cwd"])
            if str(each.info["cwd"] or "").startswith(str(self.root / "operations" / "checkouts"))
        ]
        return {
            "processes": running,
            "checkouts": [path.name for path in (self.root / "operations" / "checkouts").glob("*")],
            "worktrees": git(self.root, "worktree", "list").splitlines()[1:],
            "branches": git(self.root, "branch", "--list", "retrain/*").split(),
            "changes": git(self.root, "status", "--porcelain").splitlines(),
            "lock holders": [path.name for path in (self.root / "operations").glob("*.holder")],
            "records": [each.name for each in retrainings(self.files)],
        }


NOTHING = {
    "processes": [],
    "checkouts": [],
    "worktrees": [],
    "branches": [],
    "changes": [],
    "lock holders": [],
    "records": [],
}


def lives(process):
    """Whether a process runs (a zombie does not)."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(holds, *, seconds):
    """Wait for something to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.25)
