import numpy as np
import pytest

from csd_core.retrieval import continual

A = np.array([[0.9, 0, 0], [0.7, 0.8, 0], [0.6, 0.85, 0.7]])


def test_a_frozen_backbone_is_never_strictly_compatible_and_forgets_nothing():
    frozen = np.tril(np.tile([0.9, 0.8, 0.7], (3, 1)))
    found = continual.compatibility(frozen)
    assert found.ac == 0.0
    assert found.bc == 0.0
    assert continual.mean_forgetting(frozen) == 0.0


def test_compatibility_of_three_generations_by_hand():
    c = np.array([[0.5, 0, 0], [0.6, 0.7, 0], [0.4, 0.8, 0.9]])
    found = continual.compatibility(c)
    assert found.ac == pytest.approx(2 / 3)
    assert found.am == pytest.approx(np.mean([0.5, 0.6, 0.7, 0.4, 0.8, 0.9]))
    assert found.bc == pytest.approx(((0.4 - 0.5) + (0.8 - 0.7)) / 2)
    assert found.fc == pytest.approx(((0.6 - 0.7) + (0.8 - 0.9)) / 2)


def test_one_generation_has_no_pairs():
    found = continual.compatibility([[0.5]])
    assert (found.ac, found.am, found.bc, found.fc) == (None, 0.5, None, None)


def test_continual_figures_by_hand():
    assert continual.average(A) == pytest.approx((0.6 + 0.85 + 0.7) / 3)
    assert continual.forgetting(A) == pytest.approx([0.3, -0.05])
    assert continual.mean_forgetting(A) == pytest.approx(0.125)
    assert continual.backward_transfer(A) == pytest.approx(((0.6 - 0.9) + (0.85 - 0.8)) / 2)
    assert continual.plasticity(A) == pytest.approx((0.9 + 0.8 + 0.7) / 3)


def test_one_task_forgets_nothing():
    assert continual.mean_forgetting([[0.9]]) is None
    assert continual.backward_transfer([[0.9]]) is None
