import pytest
import torch

from csd_core.errors import TrainingError
from csd_core.learning.device import prepare_device
from csd_core.params import Runtime


@pytest.fixture(autouse=True)
def _restore_torch():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def runtime(device, threads=0):
    return Runtime(device=device, threads=threads, max_in_memory_mb=1)


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
