"""Errors as RFC 9457 problem details: type, title, status, detail, instance, and the request's id."""

import errno
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from csd_core.system.errors import (
    BusyError,
    CompatibilityError,
    CsdError,
    DataError,
    DecoderStartError,
    ParamsError,
    StorageError,
)

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:csd:problem:"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_TOLD: dict[type[CsdError], tuple[int, str]] = {
    DataError: (422, "bad-image"),
    ParamsError: (422, "invalid-request"),
    CompatibilityError: (409, "wrong-model"),
}
"""Errors of a request, whose message is for its sender."""
_MOST_MISTAKES = 20
GONE = 499
"""Stands in logs and figures for the answer to a client that left."""
log = logging.getLogger("csd.serving")

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "examples": [f"{TYPE}bad-image"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"where": {"type": "string"}, "what": {"type": "string"}}},
        },
    },
}


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """What went wrong with a request.

    Args:
        status: Of HTTP.
        slug: Names the kind of problem, the end of its type.
        detail: What is wrong here, and the remedy.
        headers: Of the answer.
        extra: Further members of the document.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail = status, slug, detail
        self.headers, self.extra = dict(headers or {}), dict(extra or {})


def render(problem: Problem, scope: Scope) -> Response:
    """Return a problem as the answer to a request."""
    document = {
        "type": TYPE + problem.slug,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": scope["path"],
        "request_id": _request_id(scope),
        **problem.extra,
    }
    content = json.dumps(document, ensure_ascii=True).encode()
    return Response(content, problem.status, problem.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception, *, request_id: str) -> Problem:
    """Return what a client is told of an error; what it must not see goes to the log."""
    if isinstance(error, Problem):
        return error
    for kind, (status, slug) in _TOLD.items():
        if isinstance(error, kind):
            return Problem(status, slug, str(error))
    if isinstance(error, BusyError):
        return Problem(
            503, "writes-wait", "another process is writing to the gallery; send it again", headers={"Retry-After": "2"}
        )
    return _failure(error, request_id=request_id)


def _failure(error: Exception, *, request_id: str) -> Problem:
    """Return what a client is told of an error that is not its fault."""
    number = error.errno if isinstance(error, (OSError, StorageError)) else None
    if number in _FULL | _READ_ONLY:
        reason = str(StorageError.of(error) if isinstance(error, OSError) else error)
        full = number in _FULL
        log.error("storage full" if full else "storage read-only", extra={"request_id": request_id, "reason": reason})
        if full:
            return Problem(507, "storage-full", "there is no room left to write; what was there is untouched")
        relative = reason.replace(f"{Path.cwd()}/", "")  # where the project lies is nobody's business
        return Problem(503, "storage-read-only", relative, headers={"Retry-After": "10"})
    if isinstance(error, DecoderStartError):
        log.error("no decoder", extra={"request_id": request_id, "reason": str(error)})
        what = "the service cannot start the process that decodes such an image; its log says why. Send it again later"
        return Problem(503, "no-decoder", what, headers={"Retry-After": "10"})
    if isinstance(error, CsdError):
        log.error("not served", extra={"request_id": request_id, "reason": str(error)})
        what = "the release or its gallery cannot be reached now; the service's log says why. Send it again later"
        return Problem(503, "not-ready", what, headers={"Retry-After": "2"})
    log.error("failed", exc_info=error, extra={"request_id": request_id})
    return Problem(500, "internal", "the service has an error, not the request; its log has it under this request_id")


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        return render(problem_of(error, request_id=_request_id(request.scope)), request.scope)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker: it is registered for these
        slug = {404: "not-found", 405: "method-not-allowed", 400: "invalid-request"}.get(error.status_code, "http")
        return render(Problem(error.status_code, slug, str(error.detail), headers=error.headers), request.scope)

    async def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
        mistakes = [
            {"where": ".".join(map(str, each["loc"])), "what": each["msg"]} for each in error.errors()[:_MOST_MISTAKES]
        ]
        detail = f"{mistakes[0]['where']}: {mistakes[0]['what']}"
        return render(Problem(422, "invalid-request", detail, extra={"errors": mistakes}), request.scope)

    async def of_disconnect(_: Request, __: Exception) -> Response:
        return Response(status_code=GONE)

    for kind in (Problem, CsdError, OSError, Exception):
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(ClientDisconnect, of_disconnect)


def responses(
    *statuses: int, also: Mapping[int | str, dict[str, Any]] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with these problems, and with what `also` describes."""
    described: dict[int | str, dict[str, Any]] = {**(also or {})}
    return described | {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": SCHEMA}}}
        for status in statuses
    }


def _request_id(scope: Scope) -> str:
    """As the edge chose it."""
    return str(scope.get("state", {}).get("request_id", ""))
