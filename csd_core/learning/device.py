"""Where torch computes, and that it does so reproducibly."""

import os

import torch

from csd_core.errors import TrainingError
from csd_core.params import Runtime


def prepare_device(runtime: Runtime) -> torch.device:
    """Set this process's threads and torch's deterministic mode; choose the device.

    Raises:
        TrainingError: if `cuda` is asked for and there is none.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it starts; else it may vary
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time
    torch.backends.cudnn.benchmark = False
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    has_cuda = torch.cuda.is_available() if runtime.device != "cpu" else False
    if runtime.device == "cuda" and not has_cuda:
        raise TrainingError(
            "runtime.device: cuda: torch finds no GPU here; set it to auto or cpu, or install a CUDA build"
        )
    return torch.device("cuda" if has_cuda else "cpu")
