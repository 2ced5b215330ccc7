"""What a connection may hold before a request is whole: time, bytes of headers, and one of few file descriptors.

uvicorn limits none of these. A client that sends half a request, a header without an end, or a body that nobody reads
would hold its connection forever, and enough of them would leave no descriptor for a file of the gallery.
"""

import asyncio
import json
import logging
import math
import resource
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from csd_core.serving.http.problems import MEDIA_TYPE, TYPE

HEADER_SECONDS = 10.0
"""From the first byte that is waited for to the last header."""
LINGER_SECONDS = 2.0
"""How long the rest of a request is taken in once it was answered, so that the client reads the answer."""
WRITE_SECONDS = 30.0
"""How long an answer waits for a client that reads less than LEAST_READ of it."""
LEAST_READ = 64 << 10
"""Bytes."""
MOST_HEADER_BYTES = 64 << 10
"""Of the address and all headers of a request; trailers too."""
MOST_HEADERS = 100
RESERVED_DESCRIPTORS = 64
"""Of the process, for models, galleries, logs and figures; a quarter of all if that is fewer."""
MOST_CONNECTIONS = 4096
"""Of a process, however many descriptors it may have."""
_SAY_AGAIN = 60.0
_OPEN = Path("/proc/self/fd")
log = logging.getLogger("csd.serving")


def raise_descriptors() -> None:
    """Let this process open as many files as the system allows it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems have no such number
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@cache
def most_connections() -> int:
    """How many clients may be connected to this process, so that descriptors are left for files.

    It is counted when the first client comes: what the process has open then stays open.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        most = 1 << 20
    used = len(list(_OPEN.iterdir())) if _OPEN.is_dir() else RESERVED_DESCRIPTORS
    return min(MOST_CONNECTIONS, max(8, most - used - min(RESERVED_DESCRIPTORS, most // 4)))


class Connection(HttpToolsProtocol):
    """One client's connection."""

    _idle: ClassVar[dict["Connection", None]] = {}
    """Those of this process that wait for a request, the one that has waited longest first."""
    _said_full: ClassVar[float] = -math.inf

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._in_headers = True
        """The next byte belongs to headers; otherwise to a body."""
        self._only_frames = False
        """What came last had nothing of a body in it."""
        self._header_bytes = self._header_count = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a client; if there are too many, close an idle connection for it, or send it away."""
        super().connection_made(transport)
        if len(self.connections) > most_connections() and not self._make_room():
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "too-busy", "too many clients are connected; try again")
            transport.close()
            return
        self._idle[self] = None
        self._wait(HEADER_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that has ended."""
        self._idle.pop(self, None)
        self._stop_waiting()
        self._stop_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the clock for a client that reads more slowly than answers come."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Stop that clock: the client has read some of what waited."""
        super().resume_writing()
        self._stop_unread()

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        if self._refused:
            return
        self._only_frames = True
        if self._in_headers and self._timer is None:
            self._wait(HEADER_SECONDS, self._give_up)
        super().data_received(data)
        if self._only_frames:  # headers, trailers, or the lengths of chunks
            self._header_bytes += len(data)
            if self._header_bytes > MOST_HEADER_BYTES:
                self._refuse_headers()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._header_bytes = self._header_count = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is counted, and nobody reads it."""
        self._header_count += 1
        if self._header_count > MOST_HEADERS:
            self._refuse_headers()
        elif self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass the request to the application, if its headers are not too large."""
        self._in_headers = self._only_frames = False
        if self._refused:
            return
        self._stop_waiting()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_HEADER_BYTES:
            self._refuse_headers()
        if not self._refused:
            self._idle.pop(self, None)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take some of a request's body."""
        self._only_frames = False
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is whole."""
        self._in_headers, self._only_frames = True, False
        if self._refused:
            return
        super().on_message_complete()
        if self._is_answered:
            self._stop_waiting()  # the rest of what was answered has come

    def on_response_complete(self) -> None:
        """Wait a moment for the rest of a request that was answered, and throw it away."""
        super().on_response_complete()
        if self.transport.is_closing() or not self._is_answered:
            return
        self._idle[self] = None
        if not self._in_headers:
            self._wait(LINGER_SECONDS, self._close)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that asks nothing more."""
        self._close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, "invalid-request", msg)

    @property
    def _is_answered(self) -> bool:
        """All that it asked for."""
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest; False if none is."""
        if self.loop.time() - Connection._said_full > _SAY_AGAIN:
            Connection._said_full = self.loop.time()
            log.warning("too many clients", extra={"connections": len(self.connections), "most": most_connections()})
        longest = next(iter(self._idle), None)
        if longest is None:
            return False
        longest._close()  # noqa: SLF001 - of the same class
        return True

    def _wait(self, seconds: float, then: Callable[[], object]) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_for_reader(self) -> None:
        self._stop_unread()
        waiting = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(WRITE_SECONDS, self._end_unless_read, waiting)

    def _end_unless_read(self, before: int) -> None:
        """End it if its client has read too little since so many bytes waited."""
        if before - self.transport.get_write_buffer_size() < LEAST_READ:
            self.transport.abort()
        else:
            self._wait_for_reader()

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        """Close it if its next request did not come in time."""
        if self._is_answered:
            self._close()
        else:
            self._wait(HEADER_SECONDS, self._give_up)

    def _close(self) -> None:
        """End it; what its client did not read by now is thrown away."""
        self._refused = True
        self._idle.pop(self, None)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse_headers(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            f"the address and headers have more than {MOST_HEADER_BYTES >> 10} KiB, or there are over "
            f"{MOST_HEADERS} headers",
        )

    def _refuse(self, status: HTTPStatus, slug: str, detail: str) -> None:
        """Answer without the application, and end it once the client has had time to read that."""
        if self._refused:
            return
        self._refused = True
        if self._is_answered:
            self._answer(status, slug, detail)
        self._wait(LINGER_SECONDS, self._close)

    def _answer(self, status: HTTPStatus, slug: str, detail: str) -> None:
        document = {
            "type": TYPE + slug,
            "title": status.phrase,
            "status": status.value,
            "detail": detail,
            "instance": "",
            "request_id": "",
        }
        content = json.dumps(document).encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(content)}",
            "connection: close",
            *(["retry-after: 1"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
        ]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
