"""Ports for servers that tests start."""

import secrets
import socket
from contextlib import suppress

LOWEST, COUNT = 20_000, 12_000
"""Below those that systems give to outgoing connections: one of these may take a port between choice and use."""


def free_port():
    """A port of loopback that is free with the next one."""
    while True:
        port = LOWEST + secrets.randbelow(COUNT)
        with suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
