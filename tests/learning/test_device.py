import pytest
import torch

from csd_core.errors import TrainingError
from csd_core.learning.device import prepare_device
from csd_core.learning.launch import processes
from csd_core.learning.ranks import Ranks
from csd_core.params import Runtime


@pytest.fixture(autouse=True)
def _restore_torch():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def runtime(device, threads=0, processes=1):
    return Runtime(device=device, threads=threads, processes=processes, max_in_memory_mb=1)


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert prepare_device(runtime("auto")).type == kind


def test_cpu_is_cpu_even_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert prepare_device(runtime("cpu")).type == "cpu"


def test_a_missing_gpu_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="torch finds no GPU here; set it to auto or cpu"):
        prepare_device(runtime("cuda"))


def test_threads_and_determinism_are_set():
    prepare_device(runtime("cpu", threads=1))
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


def test_zero_leaves_the_threads_as_they_are():
    before = torch.get_num_threads()
    prepare_device(runtime("cpu"))
    assert torch.get_num_threads() == before


def pair(local_rank):
    return Ranks(rank=local_rank, count=2, local_rank=local_rank, local_count=2)


def test_processes_of_a_machine_share_its_cores_unless_told_how_many_threads_each_has():
    torch.set_num_threads(4)
    prepare_device(runtime("cpu"), pair(1))
    assert torch.get_num_threads() == 2
    prepare_device(runtime("cpu", threads=3), pair(1))
    assert torch.get_num_threads() == 3


def test_processes_of_a_machine_have_a_gpu_each(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert [prepare_device(runtime("auto"), pair(rank)) for rank in (0, 1)] == [
        torch.device("cuda", 0),
        torch.device("cuda", 1),
    ]
    assert chosen == [0, 1]


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        TrainingError, match=r"2 training processes on a machine with 1 GPU\(s\); set runtime.processes"
    ):
        prepare_device(runtime("cuda"), pair(1))


@pytest.mark.parametrize(
    ("device", "asked", "gpus", "expected"),
    [("auto", 0, 0, 1), ("auto", 0, 4, 4), ("cuda", 0, 2, 2), ("cpu", 0, 4, 1), ("cpu", 3, 4, 3), ("auto", 2, 4, 2)],
)
def test_as_many_processes_train_as_asked_for_or_as_there_are_gpus(monkeypatch, device, asked, gpus, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert processes(runtime(device, processes=asked)) == expected
