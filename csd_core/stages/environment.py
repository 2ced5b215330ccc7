"""The environment that stages compute in: the same for everyone, whatever a person's shell says.

Numerical libraries read variables when they are loaded, and Python reads its own when it starts. A stage therefore
starts its interpreter again, in place, where a variable that may change what it computes is not as it is here.
"""

import os
import sys
from collections.abc import Mapping

from csd_core.system.processes import WAITING, wait_briefly

CLEARED = (
    "ATEN_",
    "BLIS_",
    "CUBLAS",
    "CUDA_FORCE_",
    "CUDNN_",
    "DISABLE_ADDMM_",
    "DNNL_",
    "GLIBC_TUNABLES",
    "GOMP_",
    "GOTO_",
    "KMP_",
    "LANGUAGE",
    "LC_",
    "MKL_",
    "NPY_",
    "NUMEXPR_",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "ORT_",
    "PYTHONINSPECT",
    "PYTHONIOENCODING",
    "PYTHONOPTIMIZE",
    "PYTHONWARNINGS",
    "PYTORCH_",
    "TORCHINDUCTOR_",
    "TORCHDYNAMO_",
    "TORCH_",
    "VECLIB_",
    "XNNPACK_",
)
"""Beginnings of the names of variables that choose threads, kernels, precision or text: removed."""
KEPT = (
    *WAITING,
    "OMP_DISPLAY_",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_CPP_",
    "TORCH_DISTRIBUTED_",
    "TORCH_HOME",
    "TORCH_NCCL_",
)
"""Beginnings of those among them that stay: how to wait, what to show, where files are, how processes meet."""
SET = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # with others, or none, cuBLAS may vary from run to run
    "LANG": "C",
    "LC_ALL": "C",
    "MKL_DYNAMIC": "FALSE",
    "MKL_NUM_THREADS": "1",
    "OMP_DYNAMIC": "FALSE",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",  # file names and texts, whatever the locale
    "TZ": "UTC",
}
"""Threads are one each until a stage that computes sets `compute.threads` (`csd_core.stages.computing`)."""


def for_stages(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a stage that is started from this one."""
    kept = {name: value for name, value in environment.items() if not name.startswith(CLEARED) or name.startswith(KEPT)}
    wait_briefly(kept)
    return {**kept, **SET}


def enter() -> None:
    """Start this process again, in place and as it was called, unless its environment is that of stages."""
    wanted = for_stages(os.environ)
    if wanted != dict(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)  # noqa: S606 - itself
