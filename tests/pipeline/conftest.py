import sys

import pytest
from checkout import INSTALLED, Project, new_project


@pytest.fixture(scope="session")
def finished_run(once):
    """A project after `make run`, and what that printed; copy it before changing anything."""

    def make(folder):
        project = new_project(folder / "project")
        (project.root / ".venv").symlink_to(sys.prefix)
        (folder / "printed").write_text(project.run("make", INSTALLED, "run").stdout, encoding="utf-8")

    folder = once("finished", make)
    return Project(folder / "project"), (folder / "printed").read_text(encoding="utf-8")
