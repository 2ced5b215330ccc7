"""Real pipelines: the project's files in a folder of their own, run by real DVC."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from csd_core.params.file import profile_text
from csd_core.workspace import Workspace

ROOT = Path(__file__).parents[2]
SHIPPED = (".dvc/config", ".dvcignore", ".gitignore", "Makefile", "constraints.txt", "dvc.yaml", "pyproject.toml")
INSTALLED = "--old-file=.venv/.installed"
"""The environment of the tests is installed; make must not install a checkout into it."""


@dataclass(frozen=True)
class Project:
    """A checkout of the project.

    Attributes:
        root: Its folder.
    """

    root: Path

    @property
    def files(self):
        return Workspace(self.root)

    def run(self, *command, check=True):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(self.root), "COLUMNS": "160"}
        done = subprocess.run(
            command, cwd=self.root, env=environment, check=False, capture_output=True, text=True, encoding="utf-8"
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def csd(self, *arguments, check=True):
        return self.run(sys.executable, "-m", "csd_core.cli", *arguments, check=check)

    def edit(self, change):
        """Apply `change` to the values of params.yaml."""
        path = self.root / "params.yaml"
        values = YAML(typ="safe").load(path)
        change(values)
        with path.open("w", encoding="utf-8") as file:
            YAML().dump(values, file)

    def lock(self):
        """Stage -> what dvc.lock says of it."""
        return YAML(typ="safe").load(self.root / "dvc.lock")["stages"]

    def copy(self, target):
        shutil.copytree(self.root, target, symlinks=True)
        return Project(target)


def new_project(root, profile="tiny"):
    """The shipped files, as an unpacked archive has them, with a profile chosen."""
    for name in SHIPPED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / "csd_core", root / "csd_core", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "params.yaml").write_text(profile_text(ROOT / "csd_core/project/profiles", profile), encoding="utf-8")
    project = Project(root)
    project.run("dvc", "config", "--local", "core.no_scm", "true")
    return project


def make_photos(folder, classes, *, brightness=40):
    """Twenty small PNG files of each class."""
    for number, label in enumerate(classes):
        (folder / label).mkdir(parents=True)
        for index in range(20):
            rng = np.random.default_rng(1000 * brightness + 100 * number + index)
            noise = rng.integers(0, 40, (12, 12), dtype=np.uint8)
            Image.fromarray(np.uint8(brightness + 120 * number) + noise).save(folder / label / f"{index}.png")
