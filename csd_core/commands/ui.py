"""`csd ui`: scheduled retraining, as the package `flows` has it."""

import os
import sys
from importlib.util import find_spec

from csd_core.system.errors import CsdError


def ui(*, host: str = "127.0.0.1", port: int = 4200, workers: int = 4) -> None:
    """Start scheduled retraining: server, deployments, worker and reports; Ctrl-C stops everything.

    Parameters
    ----------
    host
        Address to listen at; other machines reach only an address of their network.
    port
        Port of the server; the pages of reports are at the next port.
    workers
        Number of runs at a time. Only one of them retrains.
    """
    if find_spec("prefect") is None:
        raise CsdError("`csd ui` needs Prefect, which is not installed here: pip install 'csd[flows]'")
    options = ["--host", host, "--port", str(port), "--workers", str(workers)]
    os.execv(sys.executable, [sys.executable, "-m", "flows.ui.server", *options])  # noqa: S606 - this process goes on as it
