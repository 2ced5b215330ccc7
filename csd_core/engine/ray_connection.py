"""A connection to Ray: to a cluster, or to a Ray of this machine's own that is started for as long.

Ray moves Python objects between its own processes by pickle, so whoever may talk to its ports runs code. A Ray that is
started here asks for this user's token, as is Ray's default; the ports of a cluster are for a private network.
"""

import importlib
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from csd_core.system.errors import CsdError, ParamsError, message_of

KNOCK_SECONDS = 5.0
"""How long a cluster may take to take a connection; Ray itself would ask for two minutes and print meanwhile."""
OWN_STORE_BYTES = 512 << 20
"""Shared memory of a Ray of our own: the work, and results on their way."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what later versions do; without it each worker warns
    "RAY_DEDUP_LOGS": "0",
}


@contextmanager
def connected(address: str | None, *, cores: int) -> Iterator[Any]:
    """Yield the module ray, connected.

    Args:
        address: host:port of a cluster that this machine belongs to, or auto; None starts Ray on this machine.
        cores: Of a Ray that is started here.

    Raises:
        ParamsError: if Ray is not installed.
        CsdError: if it cannot be started, does not answer, or is another version.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if address is not None:
        _knock(address)
    ray = imported()
    if ray.is_initialized():  # by the program that called us; it ends it
        yield ray
        return
    with tempfile.TemporaryDirectory(prefix="csd-ray-", ignore_cleanup_errors=True) as scratch:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
        if address is None:
            settings |= {"num_cpus": cores, "object_store_memory": OWN_STORE_BYTES, "include_dashboard": False}
            settings |= {"_temp_dir": scratch, "_node_ip_address": "127.0.0.1"}
        _start(ray, address, settings)
        try:
            yield ray
        finally:
            ray.shutdown()


def imported() -> Any:
    """Return the module ray; nothing else loads it.

    Raises:
        ParamsError: if it is not there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about libraries of other packages
            ray = importlib.import_module("ray")
            importlib.import_module("ray.util.scheduling_strategies")
    except ImportError:
        raise ParamsError(
            'engine ray: Ray is not installed here; `pip install "csd[cluster]"`, or use engine local'
        ) from None
    return ray


def _start(ray: Any, address: str | None, settings: dict[str, Any]) -> None:
    """Connect, and leave the signals of this program as they were.

    Raises:
        CsdError: if Ray does not start or answer, or is another version.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of LanceDB: Ray forks, and starts a program at once
            ray.init(address=address or "local", **settings)
    except (Exception, SystemExit) as error:  # they share no class; it leaves where nobody answers  # noqa: BLE001
        ray.shutdown()
        raise CsdError(_explained(error, address)) from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _explained(error: BaseException, address: str | None) -> str:
    """Return in one line why Ray cannot be used, and what to do."""
    words = message_of(error)
    if address is None:
        return f"engine ray: Ray does not start on this machine ({words}); use engine local, or give runtime.address"
    if "ersion mismatch" in words:
        here = f"Python {sys.version.split()[0]}"
        return (
            f"Ray cluster {address}: has another version of Ray or Python than this machine ({here}): {words}; install "
            "the same on all machines"
        )
    return (
        f"Ray cluster {address}: cannot be used ({words}); run csd on a machine of the cluster (`ray start --address "
        f"{address} --num-cpus 0` makes this one a machine that only asks), look at `ray status`, "
        "and set RAY_AUTH_MODE=token if the cluster asks for a token"
    )


def _knock(address: str) -> None:
    """Fail soon where nobody listens.

    Raises:
        CsdError: naming the address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
    except OSError as error:
        raise CsdError(
            f"Ray cluster {address}: does not answer ({error.strerror or error}); start it with `ray start --head`, "
            "or correct runtime.address"
        ) from None
