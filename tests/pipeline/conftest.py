import pytest
from checkout import Project, new_project


@pytest.fixture(scope="session")
def finished_run(once):
    """A project whose pipeline has run, and what that printed; copy it before changing anything."""

    def make(folder):
        printed = new_project(folder / "project").csd("run").stdout
        (folder / "printed").write_text(printed, encoding="utf-8")

    folder = once("finished", make)
    return Project(folder / "project"), (folder / "printed").read_text(encoding="utf-8")
