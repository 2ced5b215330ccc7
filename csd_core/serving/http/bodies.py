"""The body of a request: one image file, or a JSON document that is looked over before it is parsed.

Parsing makes an object, and validation a mistake, of every value, so a few megabytes of `"a":1,` would hold up every
other request and take gigabytes. What a document of this service can hold at most is known, and counting quotes and
brackets is cheap; a document beyond it is refused unparsed.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from csd_core.serving.http.problems import Problem
from csd_core.serving.names import unknown

Body = TypeVar("Body", bound=BaseModel)
MOST_STRINGS = 8192
"""Keys and strings: 1,024 images, or 2,102 values of filters, are the most that makes sense."""
MOST_BRACKETS = 64
MOST_BYTES = 2 << 20
"""Beside images: a vector of 65,536 numbers takes 1.4 MB."""
LONGEST_NUMBER = 64
LONGEST_STRING = 16 << 10
"""Bytes of a string that is no image; 512 characters, each escaped, are fewer."""
_IMAGES = frozenset({"image", "images"})
_MOST_MISTAKES = 20
_SMALL = 16 << 10
"""Bytes that are validated at once; more go to a thread."""
_STRING_END = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (LONGEST_NUMBER + 1))


def is_json(request: Request) -> bool:
    """Return whether the body is JSON; otherwise it is one image file.

    Raises:
        Problem: 415 if it is neither, or compressed.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise Problem(
            415, "content-type", f"the body is compressed ({coding[:40]!r}); send it without Content-Encoding"
        )
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind == "application/json":
        return True
    if kind == "application/octet-stream" or (kind.startswith("image/") and kind != "image/"):
        return False
    raise Problem(
        415, "content-type", f"the body is {kind[:80]!r}; send one image (image/*, application/octet-stream) or JSON"
    )


async def read_json(request: Request, message: type[Body]) -> Body:
    """Read the body as a message.

    Raises:
        Problem: 422 naming each mistake, or the first where there may be many.
    """
    if request.url.query:
        name = next(iter(request.query_params), "query")
        raise Problem(
            422, "invalid-request", f"{name}: query parameters belong to a raw image; put {name} into the JSON document"
        )
    body = await request.body()
    if len(body) <= _SMALL:
        return parse(body, message)
    return await asyncio.to_thread(parse, body, message)


def parse(body: bytes, message: type[Body]) -> Body:
    """Parse a JSON document; time and memory are bounded by what such a message may hold.

    Raises:
        Problem: 422 naming each mistake, or the first where there may be many.
    """
    _look_over(body, _keys_of(message))
    try:
        return message.model_validate_json(body)
    except ValidationError as error:
        mistakes = [
            {"where": ".".join(map(str, each["loc"])) or "body", "what": each["msg"]}
            for each in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_MISTAKES]
        ]
        raise Problem(
            422, "invalid-request", f"{mistakes[0]['where']}: {mistakes[0]['what']}", extra={"errors": mistakes}
        ) from None


class _Piece(NamedTuple):
    """What lies between two strings, and the string before it."""

    string: bytes | None
    """Without its quotes; None before the first."""
    between: bytes


def _look_over(body: bytes, known: frozenset[str]) -> None:
    """Refuse a document that is larger in any way than a message can be, or has a key that no message has.

    Raises:
        Problem: 422.
    """
    size = brackets = 0
    key = ""
    seen: set[str] = set()
    for number, (string, between) in enumerate(_pieces(body)):
        if number > MOST_STRINGS:
            raise _mistake("body", f"has more than {MOST_STRINGS} keys and strings")
        if string is not None and between.lstrip().startswith(b":"):
            key = _text(string)
            _refuse_key(key, known=known, seen=seen)
            seen.add(key)
        elif string is not None and key not in _IMAGES:
            size += len(string)
            if len(string) > LONGEST_STRING:
                raise _mistake(key or "body", f"a string of {len(string)} bytes; at most {LONGEST_STRING} are allowed")
        size += len(between)
        if size > MOST_BYTES:
            raise _mistake("body", f"has more than {MOST_BYTES >> 20} MiB apart from images")
        brackets += between.count(b"[") + between.count(b"{")
        if brackets > MOST_BRACKETS:
            raise _mistake("body", f"has more than {MOST_BRACKETS} lists and objects")
        if _LONG_NUMBER.search(between):
            raise _mistake(key or "body", f"a number of more than {LONGEST_NUMBER} digits")


def _refuse_key(key: str, *, known: frozenset[str], seen: set[str]) -> None:
    if key in seen:
        raise _mistake(key, "is given twice")
    if key not in known:
        said = unknown(key, known)
        raise Problem(422, "invalid-request", said, extra=_errors(key, said))


def _pieces(body: bytes) -> Iterator[_Piece]:
    """A document cut at its strings, lazily; the rest of one that does not end belongs to the last piece."""
    string: bytes | None = None
    at = 0
    while (quote := body.find(b'"', at)) >= 0:
        yield _Piece(string, body[at : min(quote, at + MOST_BYTES + 1)])
        end = body.find(b'"', quote + 1)
        if end > 0 and body[end - 1] == ord("\\"):
            found = _STRING_END.match(body, quote + 1)
            end = found.end() - 1 if found else -1
        if end < 0:
            string, at = None, quote
            break
        string, at = body[quote + 1 : end], end + 1
    yield _Piece(string, body[at : at + MOST_BYTES + 1])


def _text(key: bytes) -> str:
    """A key as it reads, escapes and all."""
    try:
        return str(json.loads(b'"' + key[:LONGEST_STRING] + b'"', strict=False))
    except ValueError:
        return key[:LONGEST_STRING].decode("utf-8", "replace")


def _keys_of(message: type[BaseModel]) -> frozenset[str]:
    """All keys that may stand in it, at any depth."""
    inner = (field.annotation for field in message.model_fields.values())
    models = [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]
    return frozenset(message.model_fields).union(*map(_keys_of, models))


def _mistake(where: str, what: str) -> Problem:
    return Problem(422, "invalid-request", f"{where[:80]}: {what}", extra=_errors(where, what))


def _errors(where: str, what: str) -> dict[str, list[dict[str, str]]]:
    return {"errors": [{"where": where[:80], "what": what}]}
