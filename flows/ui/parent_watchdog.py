"""A flow run that a worker started ends with that worker: nobody could cancel it any more, or would see it end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from csd_core.system.parent import when_parent_dies

STARTED_BY_A_WORKER = "PREFECT__FLOW_RUN_ID"
"""Prefect sets it in the processes that its workers start."""
PATIENCE = 20.0
"""Seconds to clean up and to tell the server, which may be gone too."""


@contextmanager
def ends_with_its_worker() -> Iterator[None]:
    """While the body runs, end this process as a cancellation would if the worker is gone; then checkpoints stay."""
    if STARTED_BY_A_WORKER not in os.environ:
        yield
        return
    done = when_parent_dies(_end)
    try:
        yield
    finally:
        done.set()


def _end() -> None:
    _be_silent()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def _be_silent() -> None:
    """Whoever read what we print is gone: another line would end the process before it has cleaned up."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
