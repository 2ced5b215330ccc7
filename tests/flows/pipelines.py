"""Small DVC projects in git whose stages are shell commands: seconds, not minutes."""

import subprocess
from pathlib import Path

import psutil

from csd_core.system.processes import environment

DVC_YAML = """\
stages:
  init:
    cmd: echo begun > init.txt
    deps: [start.txt]
    outs: [init.txt]
  train:
    foreach: [t1, t2]
    do:
      cmd: sh train.sh ${item}
      deps: [init.txt, train.sh]
      outs: ["model-${item}.txt"]
  report:
    cmd: cat model-t1.txt model-t2.txt > report.txt
    deps: [model-t1.txt, model-t2.txt]
    outs: [report.txt]
"""


def git(root, *arguments):
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost"]
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def dvc(root, *arguments):
    subprocess.run(["dvc", *arguments], cwd=root, check=True, capture_output=True, env=environment())


def commit(root, message="as it is"):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)
    return git(root, "rev-parse", "HEAD")


def shell_project(root: Path, *, train: str = 'echo "trained $1" > model-$1.txt'):
    """A project with stages init, train@t1, train@t2 and report, committed and not yet run."""
    root.mkdir(parents=True)
    git(root, "init", "--quiet")
    (root / ".dvc").mkdir()  # what `dvc init` and `dvc config core.analytics false` write, without their two processes
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "start.txt").write_text("start\n")
    (root / "train.sh").write_text(train + "\n")
    (root / ".gitignore").write_text("/operations/\n/.csd/\n/*.txt\n!/start.txt\n")
    (root / ".dvcignore").write_text("/operations\n.csd\n")
    (root / "params.yaml").write_text("{}\n")
    commit(root)
    return root


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
