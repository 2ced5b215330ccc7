"""Where the server of flows and the pages of reports listen, and what the processes of `csd ui` are told about it."""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from csd_core.system.errors import ParamsError

AUTH = "PREFECT_SERVER_API_AUTH_STRING"
"""Environment variable that holds user:password."""
SHORTEST_PASSWORD = 12
HEARTBEAT = timedelta(seconds=30)
"""How often a run tells that it lives."""

FOREIGN = ("PREFECT_PROFILE", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")
"""Variables that speak of another server."""
DEFAULTS = {
    # With the default, in memory, a server that was restarted forgets which run holds the one slot of a deployment.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Else a run that died with its server is forgotten when the machine was down for more than a minute.
    "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P30D",
    # What a server answers while its PostgreSQL is down; asked again for a minute, a run outlives that.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    # The newer pages call an analytics service from the browser, whatever the settings say.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
"""A variable that is set already stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Two ports of one address.

    Attributes:
        host: A numeric address.
        port: Of the server; the pages of reports are at the next one.
        auth: user:password that both ask for; None asks nobody.
    """

    host: str
    port: int
    auth: str | None = field(default=None, repr=False)

    @classmethod
    def checked(cls, host: str, port: int, *, auth: str | None) -> "ServerAddress":
        """Listen at `host`, a name or an address.

        Raises:
            ParamsError: if the host is unknown or others could reach it without a password, if the port is none, or
                if `auth` has no user or a short password.
        """
        highest = 65534  # the pages of reports take the port after it
        if not 1 <= port <= highest:
            raise ParamsError(f"--port {port}: give a port from 1 to {highest}; the pages of reports take the next one")
        if auth is not None:
            user, _, password = auth.partition(":")
            if not user or len(password) < SHORTEST_PASSWORD or not auth.isascii():
                raise ParamsError(
                    f"{AUTH}: expected user:password in ASCII, the password of at least {SHORTEST_PASSWORD} characters"
                )
        address = _numeric(host)
        if auth is None and not address.is_loopback:
            raise ParamsError(
                f"--host {host}: other machines can reach this address, and whoever reaches the server can run "
                f"programs here; set {AUTH} to user:password, the password of at least {SHORTEST_PASSWORD} characters"
            )
        return cls(host=str(address), port=port, auth=auth)

    @property
    def reports_port(self) -> int:
        """Of the pages of reports."""
        return self.port + 1

    @property
    def here(self) -> str:
        """The host, as programs of this machine reach it."""
        wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - they are looked up, not listened at
        return wildcards.get(self.host, self.host)

    @property
    def url(self) -> str:
        """Of the server, for programs of this machine."""
        return _url(self.here, self.port)

    @property
    def ui_url(self) -> str:
        """Of the server, for people."""
        return _url(self._name, self.port)

    @property
    def reports_url(self) -> str:
        """Of the pages of reports, for people."""
        return _url(self._name, self.reports_port)

    @property
    def _name(self) -> str:
        return self.host if self.here == self.host else socket.gethostname()

    def environment(self, given: Mapping[str, str], *, home: Path) -> dict[str, str]:
        """Of the server, the worker and its runs.

        Args:
            given: Our own; what it says about the database, a reverse proxy and the like stays.
            home: Where the server keeps its database, unless PREFECT_HOME says otherwise.
        """
        variables = {
            "PREFECT_HOME": str(home.absolute()),
            "PREFECT_UI_URL": self.ui_url,
            "CSD_REPORTS_URL": self.reports_url,
            **DEFAULTS,
            **{name: value for name, value in given.items() if name not in FOREIGN},
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_API_HOST": self.host,
            "PREFECT_SERVER_API_PORT": str(self.port),
            # Relative, so that the pages call the server by whatever name a browser reached it.
            "PREFECT_SERVER_UI_API_URL": "/api",
            # Else any page that is open in a browser of this machine could call the server.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self.ui_url,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(int(HEARTBEAT.total_seconds())),
        }
        return variables if self.auth is None else {**variables, AUTH: self.auth, "PREFECT_API_AUTH_STRING": self.auth}


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ParamsError(f"--host {host}: there is no such host ({error.strerror})") from None
    families = sorted(found, key=lambda each: each[0] != socket.AF_INET)  # IPv4 first
    return ipaddress.ip_address(families[0][4][0])


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
