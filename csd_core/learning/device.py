"""Where torch computes, and that it does so reproducibly."""

import os

import torch

from csd_core.errors import TrainingError
from csd_core.learning.ranks import ALONE, Ranks
from csd_core.params import Runtime


def prepare_device(runtime: Runtime, ranks: Ranks = ALONE) -> torch.device:
    """Set this process's threads and torch's deterministic mode; choose the device.

    Processes of one machine have a GPU each, or share its cores.

    Raises:
        TrainingError: if `cuda` is asked for and there is none, or there are more processes than GPUs.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it starts; else it may vary
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time
    torch.backends.cudnn.benchmark = False
    if runtime.threads or ranks.local_count > 1:
        torch.set_num_threads(runtime.threads or max(1, torch.get_num_threads() // ranks.local_count))
    has_cuda = torch.cuda.is_available() if runtime.device != "cpu" else False
    if runtime.device == "cuda" and not has_cuda:
        raise TrainingError(
            "runtime.device: cuda: torch finds no GPU here; set it to auto or cpu, or install a CUDA build"
        )
    if not has_cuda or ranks.count == 1:
        return torch.device("cuda" if has_cuda else "cpu")
    if ranks.local_count > torch.cuda.device_count():
        raise TrainingError(
            f"{ranks.local_count} training processes on a machine with {torch.cuda.device_count()} GPU(s); set "
            "runtime.processes to 0, for one each"
        )
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)
