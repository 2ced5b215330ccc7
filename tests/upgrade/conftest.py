"""Worlds of small models and galleries."""

from collections.abc import Iterator
from copy import copy

import pytest
from threadpoolctl import threadpool_limits
from worlds import World

from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.strategies import Adapt, Keep, NoGallery


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Matrices are tiny here: a second thread only waits for the first."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def world(tmp_path, linear_embedder) -> World:
    """Nothing served yet."""
    return World(tmp_path, linear_embedder)


@pytest.fixture(scope="session")
def three_generations(tmp_path_factory, linear_embedder) -> World:
    """t1 mapped once, t2 kept, t3 embedded by the champion (model 3), all in one gallery."""
    world = World(tmp_path_factory.mktemp("mixed"), linear_embedder)
    world.step(1, NoGallery())
    world.step(2, Adapt(), adapters=world.adapters("t2", world.model(2)))
    world.step(3, Keep())
    return world


@pytest.fixture(scope="session")
def to_the_fourth(three_generations) -> CandidateAdapters:
    """The fourth model's adapters to that gallery."""
    return three_generations.adapters("t4", three_generations.model(4), folder="fourth")


@pytest.fixture
def mixed(three_generations) -> World:
    """Three generations, to continue from."""
    return copy(three_generations)
