import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project
from ruamel.yaml import YAML

from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.retrieval.embedder import digest_of

ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "DVC_NO_ANALYTICS": "1",
}


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_git(project, repository=None):
    """A git repository with DVC, where the stage `promote` has the champion of the last task as an output."""
    repository = repository or project.root
    run(repository, "git", "init", "-q", "-b", "main")
    run(repository, "git", "config", "user.name", "Olga")
    run(repository, "git", "config", "user.email", "olga@example.org")
    sub = [] if repository == project.root else ["--subdir"]
    run(project.root, "dvc", "init", "-q", *sub)
    (project.root / ".gitignore").write_text("/data/\n/artifacts/\n/live/\n/releases/\n/.csd/\n")
    declare(project, project.tasks[0])
    return project


def declare(project, task):
    """Declare the champion after a task, and commit what DVC knows of it."""
    stages = {
        f"promote-{name}": {"cmd": "true", "outs": [f"artifacts/{name}/champion/embedder"]}
        for name in project.tasks
        if (project.files.champion_embedder(name)).is_dir()
    }
    after = "${report.after}" if task == project.tasks[-1] else task
    artefact = {"path": f"artifacts/{after}/champion/embedder/embedder.onnx", "type": "model"}
    with (project.root / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": stages, "artifacts": {"embedder": artefact}}, file)
    run(project.root, "dvc", "commit", "-q", "-f")
    run(project.root, "git", "add", "-A")
    run(project.root, "git", "commit", "-q", "-m", f"the champion after {task}")


def fetched(project, tmp_path, *options):
    """Digest of what `dvc artifacts get` brings."""
    target = tmp_path / "fetched.onnx"
    run(tmp_path, "dvc", "artifacts", "get", str(project.root), "embedder", "--force", "-o", str(target), *options)
    return digest_of(target)


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"), images=4)
    return project.promote("t1", "none").promote("t2", "keep")


def test_a_published_model_is_a_version_in_stage_production_that_dvc_fetches(project, tmp_path, capsys):
    in_git(project)
    first = publish(project.production, task="t1")
    assert "registered with GTO: embedder@v0.0.1 is in stage production" in capsys.readouterr().out
    assert first.record.commit == run(project.root, "git", "rev-parse", "HEAD").strip()
    assert not first.record.uncommitted
    assert fetched(project, tmp_path, "--stage", "production") == first.record.model
    declare(project, "t2")
    second = publish(project.production)
    assert fetched(project, tmp_path, "--stage", "production") == second.record.model
    assert fetched(project, tmp_path, "--rev", "v0.0.1") == first.record.model
    assert "release 0002" in run(project.root, "git", "tag", "-n", "-l", "embedder@v0.0.2")
    versions = [e.version for e in project.production.releases.audit.read().entries if e.event == "registered"]
    assert versions == ["v0.0.1", "v0.0.2"]
    assert project.findings() == ()


@pytest.mark.slow
def test_a_rollback_moves_the_stage_back(project, tmp_path):
    in_git(project)
    first = publish(project.production, task="t1")
    declare(project, "t2")
    publish(project.production)
    rollback(project.production, why="complaints")
    assert fetched(project, tmp_path, "--stage", "production") == first.record.model
    rollback(project.production, why="no, it was fine")
    assert fetched(project, tmp_path, "--stage", "production") == project.active().record.model


def test_a_version_that_a_person_registered_at_this_commit_is_taken(project, tmp_path):
    in_git(project)
    run(project.root, "gto", "register", "embedder", "--version", "v7.0.0")
    release = publish(project.production, task="t1")
    assert project.production.releases.audit.read().entries[-1].version == "v7.0.0"
    assert fetched(project, tmp_path, "--stage", "production") == release.record.model


def test_outside_git_the_release_is_published_and_told_why_it_is_not_registered(project, capsys):
    publish(project.production, task="t1")
    assert "not registered with GTO: this is no git repository" in capsys.readouterr().out
    assert project.active().record.commit is None


def test_a_model_that_is_not_the_committed_one_is_not_registered(project, capsys):
    in_git(project)
    publish(project.production, task="t1")
    capsys.readouterr()
    publish(project.production, task="t2")
    assert (
        "not registered with GTO: the release has the model after task t2, and dvc.yaml declares artifacts/t1"
        in capsys.readouterr().out
    )
    assert run(project.root, "git", "tag").split() == ["embedder#production#1", "embedder@v0.0.1"]


def test_uncommitted_work_is_recorded_and_an_uncommitted_lock_not_registered(project, capsys):
    in_git(project)
    run(project.root, "git", "rm", "-q", "--cached", "dvc.lock")
    run(project.root, "git", "commit", "-q", "-m", "without the lock")
    params = project.root / "params.yaml"
    params.write_text(params.read_text() + "# edited\n")
    release = publish(project.production, task="t1")
    assert release.record.uncommitted
    assert "not registered with GTO: dvc.lock is not committed" in capsys.readouterr().out


def test_what_could_not_be_registered_is_registered_by_publishing_again(project, tmp_path):
    in_git(project)
    run(project.root, "git", "rm", "-q", "--cached", "dvc.lock")
    run(project.root, "git", "commit", "-q", "-m", "without the lock")
    release = publish(project.production, task="t1")
    run(project.root, "git", "add", "dvc.lock")
    run(project.root, "git", "commit", "-q", "-m", "with the lock")
    assert publish(project.production, task="t1") is None
    assert fetched(project, tmp_path, "--stage", "production") == release.record.model


def test_without_a_git_identity_the_release_is_published_and_told_why_it_is_not_registered(project, tmp_path):
    in_git(project)
    run(project.root, "git", "config", "--unset", "user.name")
    run(project.root, "git", "config", "--unset", "user.email")
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": os.devnull}
    code = "from csd_core.commands.production.releases import publish; publish(task='t1')"
    done = subprocess.run(  # a process of its own: libgit2 remembers where it found its configuration
        [sys.executable, "-c", code],
        cwd=project.root,
        env={**ENVIRONMENT, **home, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "not registered with GTO: Git user name and email must be configured" in done.stdout
    assert project.active().number == 1


def test_without_a_declared_artefact_nothing_is_registered(project, capsys):
    in_git(project)
    (project.root / "dvc.yaml").write_text("stages: {}\n")
    publish(project.production, task="t1")
    assert "not registered with GTO: dvc.yaml declares no artefact `embedder`" in capsys.readouterr().out


def test_a_git_repository_without_a_commit_is_told(project, capsys):
    run(project.root, "git", "init", "-q")
    publish(project.production, task="t1")
    assert "not registered with GTO: " in capsys.readouterr().out
    assert project.active().record.commit is None


def test_a_project_below_the_repositorys_root_is_registered_under_its_folder(tmp_path):
    project = Project(tmp_path / "repository" / "search", tasks=("t1",), images=4).promote("t1", "none")
    in_git(project, tmp_path / "repository")
    release = publish(project.production)
    target = tmp_path / "fetched.onnx"
    command = ("dvc", "artifacts", "get", str(tmp_path / "repository"), "search:embedder", "--stage", "production")
    run(tmp_path, *command, "-o", str(target))
    assert digest_of(target) == release.record.model
