"""Where torch computes, and that it does so reproducibly."""

import torch

from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.params.model import Compute
from csd_core.system.errors import TrainingError


def prepare_torch(threads: int) -> None:
    """Set this process's threads and torch's deterministic mode, whatever the environment says of them."""
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # costs time
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)


def prepare_device(compute: Compute, ranks: ProcessGroup = ALONE) -> torch.device:
    """Prepare torch, and choose the device; processes of one machine have a GPU each.

    Raises:
        TrainingError: if `cuda` is asked for and there is none, there are more processes than GPUs, or torchrun started
            another number of processes than the parameters say.
    """
    if ranks.count != compute.processes:
        raise TrainingError(
            f"compute.processes: {compute.processes}: torchrun started {ranks.count}, with which the weights would be "
            "others; start as many as the parameter says"
        )
    prepare_torch(compute.threads)
    has_cuda = torch.cuda.is_available() if compute.device != "cpu" else False
    if compute.device == "cuda" and not has_cuda:
        raise TrainingError(
            "compute.device: cuda: torch finds no GPU here; set it to auto or cpu, or install a CUDA build"
        )
    if not has_cuda:
        return torch.device("cpu")
    if ranks.count == 1:
        return torch.device("cuda")
    if ranks.local_count > torch.cuda.device_count():
        raise TrainingError(
            f"{ranks.local_count} training processes on a machine with {torch.cuda.device_count()} GPU(s); set "
            "compute.processes to as many as there are"
        )
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)
