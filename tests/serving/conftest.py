"""A service over two releases, shared by the tests that only read."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from services import published, serving


@pytest.fixture(scope="session")
def reading(tmp_path_factory):
    """A running service of release 2 (task t2, backfill), whose tests write nothing."""
    project = published(tmp_path_factory.mktemp("reading") / "project", "none", "backfill")
    with serving(project) as running:
        yield running


@pytest.fixture(scope="session")
def service(reading):
    """Its address."""
    return reading.url
