"""How many threads a stage computes with, whatever the machine has."""

from threadpoolctl import threadpool_limits

from csd_core.params.model import Compute


def use_threads(compute: Compute) -> int:
    """Let the BLAS libraries of this process compute with `compute.threads`; return their number."""
    threadpool_limits(limits=compute.threads, user_api="blas")
    return compute.threads
