"""What every request passes first: who sent it, how large it is, whether there is room for it.

Every answer gets a request id, a line in the log and its place in the figures here.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterable
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from csd_core.serving.http.addresses import Parameters, refuse_undecodable
from csd_core.serving.http.admission import Admission
from csd_core.serving.http.problems import GONE, Problem, problem_of, render
from csd_core.serving.keys import KeyRing, Role
from csd_core.serving.telemetry import Metrics

OPEN = frozenset({"/", "/page.css", "/page.js", "/healthz", "/readyz", "/openapi.json"})
"""Answered without a key."""
ALWAYS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Answered however many requests there are, for these tell that there are too many."""
HELD_BODIES = 8
"""The bodies under way take so many times the largest at most."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
_WRITING = frozenset({"PUT", "DELETE"})
_ASKING = frozenset({"POST", "PUT", "DELETE"})
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Headers that no route sets."""
log = logging.getLogger("csd.serving")


class Edge:
    """ASGI middleware around the application.

    Args:
        app: What answers.
        keys: Who may ask; None answers everybody.
        loopback: Only this machine can connect; then the Host must name it, or a page elsewhere could ask through a
            browser here (DNS rebinding).
        max_body: Bytes of a request.
        max_waiting: Requests that are answered at a time, beside those of ALWAYS.
        body_seconds: A client may take so long to send its body.
        metrics: Told of every answer.
        routes: What may be asked; an answer, a refusal too, is counted under the pattern of its path.
        parameters: Which query parameters the routes take.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing | None,
        loopback: bool,
        max_body: int,
        max_waiting: int,
        body_seconds: float,
        metrics: Metrics,
        routes: Iterable[Route],
        parameters: Parameters,
    ) -> None:
        self._app, self._keys, self._loopback = app, keys, loopback
        self._max_body, self._max_waiting, self._body_seconds = max_body, max_waiting, body_seconds
        self._admission = Admission(max_waiting, HELD_BODIES * max_body)
        self._parameters = parameters
        self._metrics = metrics
        self._patterns = {route.path_format: route.path_regex for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; everything but HTTP goes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        answer = _Answer(send, given if _ID.fullmatch(given) else uuid4().hex)
        route = self._route(scope["path"])
        scope.setdefault("state", {})["request_id"] = answer.request_id
        counted = scope["path"] not in ALWAYS
        try:
            self._admit(scope, headers, route)
            if counted and self._admission.full:
                await self._refuse_busy()
        except Exception as error:  # noqa: BLE001 - whom it cannot judge it does not let in
            await render(problem_of(error, request_id=answer.request_id), scope)(scope, receive, answer.send)
        else:
            await self._pass_on(scope, receive, answer, headers, counted=counted)
        self._tell(scope, answer, route, time.perf_counter() - started)

    async def _pass_on(
        self, scope: Scope, receive: Receive, answer: "_Answer", headers: Headers, *, counted: bool
    ) -> None:
        """Let the application answer, and answer for it where it fails."""
        body = _Body(receive, limit=self._max_body, seconds=self._body_seconds, admission=self._admission)
        self._admission.waiting += counted
        if counted:
            self._metrics.waiting(self._admission.waiting)
        try:
            _refuse_length(headers, self._max_body)
            await self._app(scope, body.receive, answer.send)
        except Exception as error:  # noqa: BLE001 - the last resort of every request
            if answer.status is None and not body.gone:
                problem = body.problem or problem_of(error, request_id=answer.request_id)
                await render(problem, scope)(scope, receive, answer.send)
        finally:
            self._admission.held -= body.held
            self._admission.waiting -= counted
            if counted:
                self._metrics.waiting(self._admission.waiting)

    async def _refuse_busy(self) -> None:
        """Refuse a request that there is no room for, in its turn.

        Raises:
            Problem: 429.
        """
        delay = self._admission.refusal_delay()
        if delay:
            await asyncio.sleep(delay)
        raise _too_busy(f"{self._max_waiting} requests are being answered already (serve.max_waiting)")

    def _admit(self, scope: Scope, headers: Headers, route: str) -> None:
        """Refuse whom it must not answer, and what does not say clearly what it asks.

        Raises:
            Problem: 401, 403, 421 or 422.
        """
        if self._loopback and self._keys is None:
            host = headers.get("host", "")
            if not _LOOPBACK_HOST.fullmatch(host):
                raise Problem(421, "wrong-host", f"host {host[:80]!r} is not a name of this service; use 127.0.0.1")
            origin = headers.get("origin")
            if scope["method"] in _ASKING and origin is not None and origin.partition("://")[2] != host:
                raise Problem(403, "foreign-page", f"a web page of {origin[:80]!r} may not use this service")
        if self._keys is not None and scope["path"] not in OPEN:
            self._authorise(scope, headers, self._keys)
        refuse_undecodable(scope["raw_path"], what="path")
        self._parameters.check(route, scope["method"], scope["query_string"])

    def _authorise(self, scope: Scope, headers: Headers, keys: KeyRing) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        challenge = {"WWW-Authenticate": "Bearer"}
        if scheme.lower() != "bearer" or not token:
            raise Problem(401, "key-missing", "send a key: `Authorization: Bearer KEY`", headers=challenge)
        key = keys.key_of(token.strip())
        if key is None:
            raise Problem(401, "key-unknown", "the key is unknown or was revoked", headers=challenge)
        scope["state"]["key"] = key.name
        needed: Role = "write" if scope["method"] in _WRITING else "read"
        if needed == "write" and key.role != "write":
            raise Problem(
                403, "key-role", f"key {key.name} may only read; {scope['method']} needs a key that may write"
            )

    def _tell(self, scope: Scope, answer: "_Answer", route: str, seconds: float) -> None:
        """The log line and figures of an answer."""
        status = answer.status or GONE
        self._metrics.request(route=route, method=_known(scope["method"]), status=status, seconds=seconds)
        log.info(
            "answered",
            extra={
                "request_id": answer.request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1000 * seconds, 2),
                "release": answer.release,
                "key": scope["state"].get("key"),
            },
        )

    def _route(self, path: str) -> str:
        """A path as a label, of which there must be few."""
        return next((label for label, pattern in self._patterns.items() if pattern.match(path)), "other")


class _Answer:
    """Sends an answer with the headers that all have, and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status: int | None = None
        self.release: str | None = None

    async def send(self, message: Message) -> None:
        """Send a message, as ASGI's `send` does."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.release = Headers(scope=message).get("x-csd-release")
            message["headers"] = [*message["headers"], (b"x-request-id", self.request_id.encode()), *_SECURITY]
        await self._send(message)


class _Body:
    """Receives a body up to a size, for a time, and while there is room for it beside others.

    Attributes:
        problem: Why it was given up.
        gone: Its client left.
        held: Bytes received.
    """

    def __init__(self, receive: Receive, *, limit: int, seconds: float, admission: Admission) -> None:
        self._receive, self._admission = receive, admission
        self._left, self._limit = limit, limit
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._whole = False
        self.problem: Problem | None = None
        self.gone = False
        self.held = 0

    async def receive(self) -> Message:
        """Receive a message, as ASGI's `receive` does.

        Raises:
            Problem: 408, 413 or 429.
        """
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            self.problem = Problem(
                408,
                "slow-body",
                f"the body did not arrive within {self._seconds:g} s; send less at a time",
                headers={"Connection": "close"},
            )
            raise self.problem from None
        if message["type"] == "http.disconnect":
            self.gone = True
            return message
        count = len(message.get("body", b""))
        self._left -= count
        self.held += count
        has_room = self._admission.hold(count)
        self._whole = not message.get("more_body", False)
        if self._left < 0:
            self.problem = _too_large(self._limit)
            raise self.problem
        if not has_room:
            self.problem = _too_busy("the bodies of all requests that are being answered are too large together")
            raise self.problem
        return message


def _refuse_length(headers: Headers, limit: int) -> None:
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)


def _too_busy(why: str) -> Problem:
    return Problem(429, "too-busy", f"{why}; try again", headers={"Retry-After": "1"})


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "body-too-large",
        f"the body has more than {limit / (1 << 20):g} MiB (serve.max_body_mb); send a smaller image, or fewer",
        headers={"Connection": "close"},
    )


def _known(method: str) -> str:
    """A method as a label, of which there must be few."""
    return method if method in _METHODS else "other"
