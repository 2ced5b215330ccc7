"""`csd serve`: embeddings and search over HTTP, from the active release."""

import errno
import ipaddress
import socket
import time
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import UInt16

from csd_core.serving.app import Settings
from csd_core.serving.keys import FILE, KeyRing
from csd_core.serving.server import serve as serve_until_stopped
from csd_core.system.console import echo
from csd_core.system.errors import CsdError, ParamsError
from csd_core.workspace import Workspace

PORT_SECONDS = 5.0
"""How long a port that is taken is waited for."""


def serve(
    *,
    host: str = "127.0.0.1",
    port: UInt16 = 8000,
    workers: int = 1,
    auth: Literal["auto", "on", "off"] = "auto",
    keys: Annotated[Path, Parameter(name="--keys")] = Path(FILE),
) -> None:
    """Answer queries over HTTP until Ctrl-C.

    A publish or rollback takes effect without a restart.

    Parameters
    ----------
    host
        Address to listen at; 0.0.0.0 listens at all addresses of this machine.
    port
        Port to listen at.
    workers
        Number of processes; each loads the model and the rows.
    auth
        Whether requests need a key; with auto they do unless the service listens at this machine alone.
    keys
        File of the keys that `csd keys add` has made.
    """
    if workers < 1:
        raise ParamsError(f"--workers {workers}: at least 1 process answers")
    workspace = Workspace()
    workspace.params()
    loopback = _is_loopback(host)
    guarded = auth == "on" or (auth == "auto" and not loopback)
    if guarded and KeyRing(keys).empty:
        raise ParamsError(
            f"{keys}: there is no key, so nobody could ask anything at {host}; make one with `csd keys add NAME --role "
            "write`, or serve at 127.0.0.1"
        )
    _refuse_taken(host, port)
    shown = f"[{host}]" if ":" in host else host
    echo(f"http://{shown}:{port} - search page, API under /v1, /metrics; {'with' if guarded else 'without'} keys")
    settings = Settings(
        root=workspace.root.resolve(), workers=workers, loopback=loopback, keys=keys if guarded else None
    )
    serve_until_stopped(settings, host=host, port=port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_taken(host: str, port: int) -> None:
    """Say in one line that the port cannot be had, before any model is loaded.

    A service that was killed has workers that let go of the port a moment later, so a taken one is tried again.
    """
    until = time.monotonic() + PORT_SECONDS
    while (error := _bound(host, port)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() > until:
            raise CsdError(
                f"{host}:{port}: the service cannot listen there ({error.strerror or error}); choose another "
                "--port, or end the program that listens there"
            )
        time.sleep(0.1)


def _bound(host: str, port: int) -> OSError | None:
    """Return why a socket cannot be bound to an address; None if it can."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
