"""Who is there already: the server of this project, or another program at its ports."""

import http.client
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from filelock import FileLock, Timeout

from csd_core.system.atomic import write_text
from csd_core.system.errors import CsdError
from flows.ui.address import ServerAddress

WAIT = 100.0
"""Seconds to wait for another `csd ui` of this project that is starting or stopping."""


class InstanceLock:
    """At most one server for a project; the operating system gives its place free however its process ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(
            folder / "ui.lock"
        )  # not a locks.Lock: while it waits for another, it asks whether that answers
        self._address = folder / "ui.address"

    def claim(self, pause: Callable[[], None], *, wait: float = WAIT) -> str | None:
        """Take the place, or name the address of the server that has it and answers.

        Args:
            pause: Called between two looks at one that does not answer: it is starting or stopping.
            wait: See WAIT.

        Raises:
            CsdError: if it does not answer for so long.
        """
        deadline = time.monotonic() + wait
        while not self._taken():
            with suppress(FileNotFoundError):
                url = self._address.read_text("utf-8")
                if answers(url):
                    return url
            if time.monotonic() > deadline:
                raise CsdError(f"another `csd ui` of this project is starting or stopping since {wait:g} s; end it")
            pause()
        self.withdraw()  # what one that was killed had announced
        return None

    def _taken(self) -> bool:
        with suppress(Timeout):
            self._lock.acquire(timeout=0)
        return self._lock.is_locked

    def announce(self, url: str) -> None:
        """Tell later ones where the server answers."""
        write_text(self._address, url)

    def withdraw(self) -> None:
        """Send nobody to a server that is about to end."""
        self._address.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the place free."""
        self._lock.release()


def answers(url: str) -> bool:
    """Return whether a server at this address is up."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=2)
    try:
        connection.request("GET", "/api/health")
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK and response.read() == b"true"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def refuse_taken(server_address: ServerAddress) -> None:
    """Check that both ports are free.

    Raises:
        CsdError: if not, naming who has it as far as we may know.
    """
    for port in (server_address.port, server_address.reports_port):
        family = socket.AF_INET6 if ":" in server_address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not yet forgotten connections do not count
            try:
                probe.bind((server_address.host, port))
            except OSError as error:
                reason = f"{(error.strerror or str(error)).lower()}{_holder(port)}"
                raise CsdError(
                    f"port {port} of {server_address.host} cannot be used: {reason}; choose another: csd ui --port ..."
                ) from None


def _holder(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()}, process {connection.pid}"
    return ""
