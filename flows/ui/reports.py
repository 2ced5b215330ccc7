"""Serves the home page and the reports of retrainings, and nothing else: no other files, links, folders or changes."""

import base64
import hmac
import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from urllib.parse import quote, unquote, urlsplit

PAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]*\.html")
"""Names that are served; a slash or a leading dot is in none of them."""

LIST = "retrainings"
"""The address of the list of reports."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of this machine that nobody else can give."""
HEADERS = {
    # A page carries its style and images with it; it loads nothing, runs nothing, sends nothing, is framed nowhere.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_LIST = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Retrainings</title>
<style>
body { font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1.5rem; color: #222; }
li { margin: .3rem 0; } time { color: #666; margin-left: .6em; font-size: .9rem; }
@media (prefers-color-scheme: dark) {
  body { background: #16181c; color: #ddd; } time { color: #999; } a { color: #8ab4f8; }
}
</style>
<p><a href="/">Home</a></p>
<h1>Retrainings</h1>
"""


@contextmanager
def serving(folder: Path, address: tuple[str, int], *, home: Callable[[], bytes], auth: str | None) -> Iterator[None]:
    """Serve the home page and the reports in `folder` while the body runs, from threads of this process.

    Args:
        folder: Need not exist yet.
        address: Numeric host, and port.
        home: Gives the home page.
        auth: user:password that every request must give; None asks nobody.

    Raises:
        OSError: if the address cannot be listened at.
    """
    server = _Server(folder, address, home=home, auth=auth)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, folder: Path, address: tuple[str, int], *, home: Callable[[], bytes], auth: str | None) -> None:
        self.folder, self.home = folder, home
        self.expected = None if auth is None else b"Basic " + base64.b64encode(auth.encode())
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no news for the terminal of `csd ui`."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "csd"
    sys_version = ""
    timeout = 10  # seconds that an idle connection keeps its thread

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Requests are not logged: their addresses are nobody's business."""

    def _answer(self) -> None:
        if not self._is_meant():
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"ask by the address that csd ui prints\n", "text/plain")
            return
        if not self._is_welcome():
            challenge = {"WWW-Authenticate": 'Basic realm="csd reports", charset="UTF-8"'}
            self._send(HTTPStatus.UNAUTHORIZED, b"user and password, please\n", "text/plain", more=challenge)
            return
        name = unquote(self.path.partition("?")[0]).removeprefix("/")
        if name in ("", LIST):
            self._send(HTTPStatus.OK, _listing(self.server.folder) if name else self.server.home(), "text/html")
            return
        page = _read(self.server.folder, name)
        if page is None:
            self._send(HTTPStatus.NOT_FOUND, b"there is no such report\n", "text/plain")
        else:
            self._send(HTTPStatus.OK, page, "text/html")

    def _is_meant(self) -> bool:
        """Return whether the browser asked for this machine: a foreign name that leads here may be an attack by DNS."""
        if self.server.expected is not None:
            return True  # who has the password may come by any name, as through a proxy
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return name in LOOPBACK or name == self.server.server_address[0]

    def _is_welcome(self) -> bool:
        expected, given = self.server.expected, self.headers.get("Authorization", "")
        return expected is None or hmac.compare_digest(given.encode("latin-1", "replace"), expected)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, *, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), **HEADERS}
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _read(folder: Path, name: str) -> bytes | None:
    """Return a page's bytes; None if it is not a regular file of the folder itself."""
    if not PAGE.fullmatch(name):
        return None
    try:
        opened = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would block
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        with os.fdopen(opened, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(opened)


def _listing(folder: Path) -> bytes:
    """Return the list of pages, newest first."""
    found: list[tuple[float, str]] = []
    if folder.is_dir():
        with os.scandir(folder) as entries:
            found = [
                (entry.stat(follow_symlinks=False).st_mtime, entry.name)
                for entry in entries
                if PAGE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
    lines = [
        f'<li><a href="/{quote(name)}">{escape(name.removesuffix(".html"))}</a>'
        f"<time>{datetime.fromtimestamp(changed, UTC):%Y-%m-%d %H:%M} UTC</time></li>\n"
        for changed, name in sorted(found, reverse=True)
    ]
    body = f"<ul>\n{''.join(lines)}</ul>\n" if lines else "<p>There is none yet.</p>\n"
    return f"{_LIST}{body}</html>\n".encode()
