import pytest
from checkout import new_project


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A project whose pipeline has run, and what that printed; copy it before changing anything."""
    project = new_project(tmp_path_factory.mktemp("finished") / "project")
    return project, project.csd("run").stdout
