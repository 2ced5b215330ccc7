import math

import pytest
import torch

from csd_core.learning.schedules import rate_factor
from csd_core.params.training import Cosine, MultiStep, OneCycle


def factors(schedule, *, steps_per_epoch, epochs):
    return [
        rate_factor(schedule, step=step, steps_per_epoch=steps_per_epoch, epochs=epochs)
        for step in range(steps_per_epoch * epochs)
    ]


def test_the_papers_milestones_fall_on_epochs_200_400_and_600_of_800():
    schedule = MultiStep(name="multistep", milestones=[0.25, 0.5, 0.75], factor=0.1)
    by_epoch = factors(schedule, steps_per_epoch=1, epochs=800)
    assert by_epoch[:200] == [1.0] * 200
    assert by_epoch[200:400] == pytest.approx([0.1] * 200)
    assert by_epoch[400:600] == pytest.approx([0.01] * 200)
    assert by_epoch[600:] == pytest.approx([0.001] * 200)


def test_milestones_change_between_epochs_only():
    schedule = MultiStep(name="multistep", milestones=[0.7], factor=0.5)
    assert factors(schedule, steps_per_epoch=3, epochs=10) == [1.0] * 21 + [0.5] * 9


def test_cosine_warms_up_to_the_full_rate_and_falls_towards_zero():
    found = factors(Cosine(name="cosine", warmup=0.2), steps_per_epoch=5, epochs=4)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4:] == pytest.approx([(1 + math.cos(math.pi * step / 16)) / 2 for step in range(16)])
    assert found[-1] < 0.01


def test_cosine_without_warm_up_starts_at_the_full_rate():
    assert factors(Cosine(name="cosine", warmup=0.0), steps_per_epoch=1, epochs=3)[0] == 1


def test_cosine_of_nothing_but_warm_up_ends_at_the_full_rate():
    assert factors(Cosine(name="cosine", warmup=1.0), steps_per_epoch=2, epochs=2) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.25, 0.5, 1.0])
@pytest.mark.parametrize(("steps_per_epoch", "epochs"), [(1, 3), (7, 3), (20, 5)])
def test_one_cycle_equals_torchs(warmup, steps_per_epoch, epochs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps_per_epoch * epochs, pct_start=warmup, cycle_momentum=False
    )
    expected = []
    for _ in range(steps_per_epoch * epochs):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        if len(expected) < steps_per_epoch * epochs:
            theirs.step()
    schedule = OneCycle(name="one-cycle", warmup=warmup)
    assert factors(schedule, steps_per_epoch=steps_per_epoch, epochs=epochs) == pytest.approx(expected)
