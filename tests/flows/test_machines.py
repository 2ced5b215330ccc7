"""Retraining on machines that share a git repository, an object store and a Prefect server on PostgreSQL: no folder."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import httpx
import pytest
from object_store import BUCKET, object_store
from operators import APPROVE, RETRAIN, Operations, csd, git, send_batch, trained_project, until
from patience import PATIENCE
from ports import free_port
from postgres import postgres
from ruamel.yaml import YAML

from csd_core.releases.store import Releases
from csd_core.retraining.history import retrainings
from csd_core.workspace import Workspace
from flows.ui.address import ServerAddress
from flows.ui.server import POOL

pytestmark = pytest.mark.slow
PREFECT = [sys.executable, "-m", "prefect"]


@contextmanager
def process(command, *, log, **options):
    """A program until the end of the block; it must not end by itself."""
    with log.open("a") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    try:
        yield running
        assert running.poll() is None, log.read_text()
    finally:
        running.terminate()
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:  # a worker that still reports what it ended
            running.kill()
            running.wait()


@contextmanager
def repositories(folder):
    """Git's own server of the repositories below a folder, to which everybody may push."""
    port = free_port()
    command = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"]
    with process([*command, "--export-all", "--enable=receive-pack"], log=folder / "daemon.log"):
        yield f"git://127.0.0.1:{port}"


def machine(folder, address):
    """The environment of a machine's programs: a home of its own, in which nothing is yet."""
    folder.mkdir()
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "CSD", "XDG"))}
    own = {"HOME": str(folder), "DVC_SITE_CACHE_DIR": str(folder / "dvc"), "PYTHONUNBUFFERED": "1"}
    return address.environment(known | own, home=folder / "prefect")


@dataclass
class Team:
    """What machines share.

    Attributes:
        operations: The folder of who began the project, and the server.
        address: Of the server.
        repository: Address of the git repository.
        database: Of the server.
        folder: Below it every machine has a folder.
    """

    operations: Operations
    address: ServerAddress
    repository: str
    database: object
    folder: Path

    @contextmanager
    def worker(self, name):
        """A worker of a machine that has seen nothing yet, and its clones of the project."""
        folder = self.folder / name
        environment = machine(folder, self.address) | {"CSD_REPOSITORY": self.repository}
        command = [*PREFECT, "worker", "start", "--pool", POOL, "--limit", "1"]
        with process(command, log=self.folder / f"{name}.log", cwd=folder, env=environment):
            yield lambda: [each for each in folder.glob(".csd/projects/*") if each.is_dir()]


def configure(root, repository):
    """What docs/operations.md says of several machines."""
    plan = root / "prefect.yaml"
    yaml = YAML()
    values = yaml.load(plan.read_text())
    values["pull"] = [
        {"flows.runs.clone.own_clone": {"repository": "{{ $CSD_REPOSITORY }}", "branch": "{{ $CSD_BRANCH }}"}}
    ]
    for each in values["deployments"]:
        each.pop("schedules", None)
    yaml.dump(values, plan)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "remote", "add", "--default", "store", f"s3://{BUCKET}/dvc"], cwd=root, check=True)
    subprocess.run([*dvc, "push", "--quiet"], cwd=root, check=True)
    git(root, "commit", "--quiet", "--all", "--message", "several machines")
    git(root, "remote", "add", "origin", repository)
    git(root, "config", "csd.remote", "origin")
    git(root, "push", "--quiet", "origin", "main")


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A published project; PostgreSQL, the server on it, an object store, and git's server."""
    folder = tmp_path_factory.mktemp("team")
    root = folder / "first" / "project"
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        store = stack.enter_context(object_store())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in store.environment.items():
            patch.setenv(name, value)
        patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "dvc"))  # it remembers what a store of this address once had
        (folder / "git").mkdir()
        git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", "git/search.git")
        served = stack.enter_context(repositories(folder / "git"))
        port = free_port()
        address = ServerAddress.checked("127.0.0.1", port, auth=None)
        on_postgres = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url}
        server = machine(folder / "server", address) | on_postgres
        log = folder / "server.log"
        stack.enter_context(process([*PREFECT, "server", "start"], log=log, env=server, cwd=folder / "server"))
        trained_project(
            root,
            live={"uri": f"s3://{BUCKET}/live", "releases": f"s3://{BUCKET}/releases"},
            inbox={"uri": f"s3://{BUCKET}/inbox"},
        )
        csd(root, "publish", "--why", "the first model")
        configure(root, f"{served}/search.git")

        def healthy():
            try:
                return httpx.get(f"{address.url}/api/health", trust_env=False, timeout=60).status_code == 200
            except httpx.TransportError:
                return False

        until(healthy, seconds=PATIENCE)
        deployer = machine(folder / "deployer", address)
        subprocess.run([sys.executable, "-m", "flows.ui.setup", POOL], env=deployer, check=True)
        subprocess.run([*PREFECT, "--no-prompt", "deploy", "--all"], cwd=root, env=deployer, check=True)
        yield Team(Operations(root, port=port), address, f"{served}/search.git", database, folder)


def send(team, name, classes):
    """Put a batch into the inbox in the store, by way of a folder."""
    outside = team.folder / f"batch-{name}"
    send_batch(outside, name, classes)
    store = fsspec.filesystem("s3")
    store.put(f"{outside}/data/inbox/{name}", f"{BUCKET}/inbox/{name}", recursive=True)


ASKS = "from prefect.client.orchestration import get_client\nget_client(sync_client=True).read_work_pools()"


def test_a_new_machine_retrains_while_the_database_is_gone_for_a_while_and_another_new_one_publishes(team):
    operations, root = team.operations, team.operations.root
    repository, away = team.folder / "git" / "search.git", root.with_name("away")
    send(team, "monday", ["cat", "dog"])
    root.rename(away)  # what another machine has is of no use to these
    with team.worker("second") as clones:
        run = operations.run(RETRAIN, promotion="review")

        def trains():
            assert not operations.state(run).is_final(), operations.lines(run)
            return any("epoch 1/" in line for line in operations.lines(run))

        until(trains, seconds=PATIENCE)
        team.database.stop()
        environment = machine(team.folder / "asking", team.address)
        with subprocess.Popen([sys.executable, "-c", ASKS], env=environment) as asking:  # as a run that ends now
            time.sleep(5)
            team.database.start()
            assert asking.wait(PATIENCE) == 0
        state = operations.ended(run)
        assert state.name == "AwaitingReview", operations.lines(run)
        stages = operations.stages(run)
        assert (stages["train@t1"], stages["train@t2"]) == ("Cached", "Completed")
        (clone,) = clones()
        (waiting,) = retrainings(Workspace(clone))
        assert git(repository, "rev-parse", waiting.branch) == waiting.commit
    with team.worker("third") as clones:
        decided = operations.run(APPROVE, choice="backfill", by="Ada", reason="all anew", retraining=waiting.name)
        assert operations.ended(decided).name == "Completed", operations.lines(decided)
        (clone,) = clones()
        (record,) = retrainings(Workspace(clone))
        assert git(repository, "rev-parse", record.branch) == record.commit != waiting.commit
    away.rename(root)
    assert "published" in csd(root, "retrainings")
    assert (root / "operations" / "retrainings" / f"{record.name}.html").stat().st_size > 10_000
    release = Releases.of(Workspace(root), Workspace(root).params().live.releases).active().record
    assert (release.number, release.task, release.strategy, release.by) == (2, "t2", "backfill", "Ada")
    assert release.commit == record.commit
    csd(root, "verify")
