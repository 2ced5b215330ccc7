import pytest
import torch

from csd_core.learning.distributed.group import ProcessGroup
from csd_core.learning.networks.device import prepare_device
from csd_core.params.model import Compute
from csd_core.system.errors import TrainingError


@pytest.fixture(autouse=True)
def _restore_torch():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def compute(device="cpu", threads=2, processes=1):
    return Compute(device=device, embedding_device="cpu", threads=threads, processes=processes)


@pytest.mark.parametrize("available", [True, False])
def test_cpu_is_cpu_even_beside_a_gpu(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert prepare_device(compute()).type == "cpu"


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, available, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert prepare_device(compute("auto")).type == device


def test_a_missing_gpu_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="torch finds no GPU here; set it to auto or cpu"):
        prepare_device(compute("cuda"))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_those_of_the_parameters_whatever_they_were_and_torch_is_deterministic(threads):
    torch.set_num_threads(2)
    prepare_device(compute(threads=threads))
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled()
    prepare_device(compute(threads=threads, processes=2), pair(1))
    assert torch.get_num_threads() == threads


def pair(local_rank):
    return ProcessGroup(rank=local_rank, count=2, local_rank=local_rank, local_count=2)


def test_processes_of_a_machine_have_a_gpu_each(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert [prepare_device(compute("cuda", processes=2), pair(rank)) for rank in (0, 1)] == [
        torch.device("cuda", 0),
        torch.device("cuda", 1),
    ]
    assert chosen == [0, 1]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        TrainingError, match=r"2 training processes on a machine with 1 GPU\(s\); set compute.processes"
    ):
        prepare_device(compute("cuda", processes=2), pair(1))


def test_another_number_of_processes_than_the_parameters_say_is_refused():
    with pytest.raises(TrainingError, match=r"compute.processes: 1: torchrun started 2, with which the weights would"):
        prepare_device(compute(), pair(0))
