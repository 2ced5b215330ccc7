"""Several processes against one: the same losses, gradients, statistics and weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import team
import torch

from csd_core.learning.checkpoint import Checkpoint, TrainingState, load_by_all
from csd_core.learning.distributed import group as ranks_module
from csd_core.learning.distributed.batch_norm import RankedBatchNorm, share_statistics
from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.learning.distributed.launch import STARTER, joined
from csd_core.learning.networks.network import new_network
from csd_core.learning.seeding import keyed_generator
from csd_core.system.errors import TrainingError


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """(case, count) -> what each of so many gloo processes found."""
    folder = tmp_path_factory.mktemp("team")
    started = [
        subprocess.Popen(
            [sys.executable, team.__file__, str(rank), str(folder)],
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(max(team.TEAMS))
    ]

    def found(case, count):
        if any(process.returncode is None for process in started):
            errors = [process.communicate(timeout=120)[1] for process in started]
            assert [process.returncode for process in started] == [0] * len(started), "\n".join(errors)
        return [safetensors.torch.load_file(folder / f"{case}-{rank}-of-{count}.safetensors") for rank in range(count)]

    yield found
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("case", "count"), [(case, count) for count, cases in team.TEAMS.items() for case in cases])
def test_processes_learn_together_what_one_learns_alone(together, case, count):
    alone = team.trained(case)
    first, *others = together(case, count)
    tolerance = {"float32": 2e-3, "bfloat16": 0.1}.get(case, 1e-5)
    assert first.keys() == alone.keys()
    assert any(key.startswith(f"{team.LAST}/gradient/") for key in alone)
    for key, expected in alone.items():
        close = 1e-5 if case == "float32" and key.startswith("0/") else tolerance
        torch.testing.assert_close(first[key], expected, atol=close, rtol=close, msg=lambda text, k=key: f"{k}: {text}")
    for other in others:
        assert all(torch.equal(other[key], value) for key, value in first.items())


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("total", [0, 2, 3, 7, 8, 64])
def test_shares_are_all_rows_in_order_and_differ_by_one_at_most(total, count):
    shares = [range(total)[ProcessGroup(rank=rank, count=count).share(total)] for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_alone_computes_as_if_there_were_no_others(network):
    model = new_network(network, channels=1, pixels=8, classes=2, generator=keyed_generator("alone"))
    share_statistics(model, ALONE)
    assert not any(isinstance(module, RankedBatchNorm) for module in model.modules())
    rows = torch.ones(3, 2)
    assert ALONE.gather(rows, total=3) is rows
    assert ALONE.from_first(None) is None
    assert ALONE.from_first(0.1) == 0.1


def test_statistics_are_shared_by_the_parameters_a_network_has_already(network):
    model = new_network(network, channels=1, pixels=8, classes=2, generator=keyed_generator("shared")).eval()
    before, images = model.state_dict(), torch.randint(256, (4, 8, 8, 1), dtype=torch.uint8)
    expected, parameters = model(images), list(model.parameters())
    share_statistics(model, ProcessGroup(rank=1, count=2))
    after = model.state_dict()
    assert sum(isinstance(module, RankedBatchNorm) for module in model.modules()) == 7
    assert list(before) == list(after)
    assert all(after[name].data_ptr() == value.data_ptr() for name, value in before.items())
    assert all(mine is theirs for mine, theirs in zip(parameters, model.parameters(), strict=True))
    assert torch.equal(model(images), expected)  # in evaluation it needs nobody


def test_a_batch_norm_of_timm_keeps_its_activation(network):
    changed = network.model_copy(update={"architecture": "timm/test_efficientnet"})
    model = new_network(changed, channels=1, pixels=32, classes=2, generator=keyed_generator("timm")).eval()
    names, images = list(model.state_dict()), torch.randint(256, (4, 32, 32, 1), dtype=torch.uint8)
    expected = model(images)
    share_statistics(model, ProcessGroup(rank=1, count=2))
    assert any(isinstance(module, RankedBatchNorm) for module in model.modules())
    assert list(model.state_dict()) == names
    assert torch.equal(model(images), expected)


def test_a_batch_norm_of_vectors_cannot_be_shared():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    share_statistics(model, ALONE)
    with pytest.raises(TrainingError, match="compute.processes: 2: 0 is a batch norm of vectors"):
        share_statistics(model, ProcessGroup(rank=0, count=2))


def test_a_process_that_loses_another_says_so_unless_it_is_ended_before(monkeypatch):
    def lost(*_arguments):
        raise RuntimeError("Connection closed\nby peer")

    waited = []
    monkeypatch.setattr(ranks_module.time, "sleep", waited.append)
    monkeypatch.setattr(ranks_module.distributed, "all_reduce", lost)
    with pytest.raises(TrainingError, match=r"cannot be reached any more \(Connection closed by peer\); see what"):
        ProcessGroup(rank=1, count=2).sum(torch.ones(1))
    assert waited == [ranks_module.PATIENCE]


class Second(ProcessGroup):
    """The second of two processes, where the first one finds three epochs."""

    __slots__ = ()

    def wait(self):
        pass

    def from_first(self, _number):
        return 3.0


@pytest.mark.parametrize("epochs", [0, 2, 3])
def test_processes_that_find_different_checkpoints_are_refused(tmp_path, epochs):
    if epochs:
        progress = TrainingState(history=tuple({"train/ce": 1.0} for _ in range(epochs)), best_epoch=1)
        Checkpoint(progress=progress, student={}, optimizer={}, best={"a": torch.ones(1)}).save(tmp_path)
    second = Second(rank=1, count=2)
    if epochs == 3:
        assert load_by_all(tmp_path, second).progress.best_epoch == 1
        return
    with pytest.raises(TrainingError, match=f"training process 1 finds {epochs} epochs there, the first one 3; give"):
        load_by_all(tmp_path, second)


def test_one_process_of_torchrun_is_alone_and_so_is_one_that_nobody_launched(monkeypatch):
    with joined() as ranks:
        assert ranks is ALONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined() as ranks:
        assert ranks is ALONE


def test_a_process_whose_starter_died_meanwhile_ends(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "two")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(STARTER, str(os.getpid()))  # nobody is its own parent
    with pytest.raises(SystemExit, match="1"), joined():
        pytest.fail("it continues without its starter")
