"""What may stand in the address of a request: a path of whole UTF-8, and the parameters that its route knows.

A path that is decoded with replacement characters makes two addresses one item, and a parameter that is ignored makes a
filter none. So both are read strictly, before anything else is done for a request.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_to_bytes

from csd_core.serving.http.problems import Problem
from csd_core.serving.names import unknown

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def refuse_undecodable(part: bytes, *, what: str) -> None:
    """Refuse a part of an address that cannot be decoded.

    Args:
        part: Percent-encoded, as it was sent.
        what: Its name in the message.

    Raises:
        Problem: 422.
    """
    if _BROKEN_ESCAPE.search(part):
        raise Problem(
            422, "invalid-request", f"{what}: a % without two hexadecimal digits; write %25 for a percent sign"
        )
    try:
        unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        raise Problem(
            422, "invalid-request", f"{what}: is not UTF-8 after decoding; percent-encode the text as UTF-8"
        ) from None


class Parameters:
    """Which query parameters each route takes.

    Args:
        known: (pattern of the path, method) -> name -> whether it may be given several times.
    """

    def __init__(self, known: Mapping[tuple[str, str], Mapping[str, bool]]) -> None:
        self._known = known

    @classmethod
    def of(cls, document: Mapping[str, Any], more: Mapping[tuple[str, str], Mapping[str, bool]]) -> Self:
        """Return the parameters that an OpenAPI document describes.

        Args:
            document: As FastAPI makes it.
            more: Of routes that are not in it.
        """
        known = {
            (path, method.upper()): {
                each["name"]: _repeats(each["schema"])
                for each in operation.get("parameters", ())
                if each["in"] == "query"
            }
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        }
        return cls(known | dict(more))

    def check(self, path: str, method: str, query: bytes) -> None:
        """Refuse a query with a parameter that its route does not know, or takes once and got twice.

        Args:
            path: Pattern of the path.
            method: Of the request.
            query: As it was sent.

        Raises:
            Problem: 422 naming the parameter.
        """
        known = self._known.get((path, method))
        if not query or known is None:
            return
        refuse_undecodable(query, what="query")
        given = Counter(name for name, _ in parse_qsl(query.decode("ascii"), keep_blank_values=True))
        for name, times in given.items():
            if name not in known:
                raise Problem(422, "invalid-request", unknown(name, known))
            if times > 1 and not known[name]:
                raise Problem(422, "invalid-request", f"{name}: is given {times} times, but takes one value")


def _repeats(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "array" or any(_repeats(each) for each in schema.get("anyOf", ()))
