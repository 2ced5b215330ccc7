"""Thousands of odd requests to a service: how many 5xx, how slow the slowest, how much memory stays.

python benchmarks/oddities.py PROJECT [--requests 10000] [--seed 0]

PROJECT is a copy of a folder in which something was published: requests write to it and delete from it. Half of them
are drawn by Schemathesis from the service's own document, half are made by hand and sent as raw bytes.
"""

import argparse
import json
import random
import socket
import string
import time
import warnings
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import psutil
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from service import serving

from csd_core.serving.http.asks import PIXEL

SLOW = 10.0
"""Seconds after which an answer counts as a hang."""
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "PROPFIND", "get", "")
PATHS = (
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/page.js",
    "/v1/embed",
    "/v1/search",
    "/v1/items",
    "/v1/labels",
    "/v1/releases",
    "/v1/releases/1",
    "/v1/releases/" + "9" * 5000,
    "/v1/items/a",
    "/v1/images/a",
    "/v1/items/%FF",
    "/v1/items/%00",
    "/v1/items/..%2F..",
    "/v1/items/../../x",
    "//v1/items",
    "/v1/items/" + "x" * 600,
    "/v1/items/%ED%A0%80",
    "/v1/items/a%0A",
    "*",
    "http://b/v1/items",
    "/%",
    "/v1/items/%zz",
    "/\xff",
    "",
)
QUERIES = (
    "",
    "?",
    "?k=3",
    "?k=3&k=5",
    "?labell=3",
    "?k=1e999",
    "?k=-1",
    "?k=" + "9" * 5000,
    "?label=" + "a" * 2000,
    "?" + "label=a&" * 5000,
    "?since=0001-01-01T00:00:00%2B14:00",
    "?since=9999-12-31T23:59:59-14:00",
    "?since=1e400",
    "?%FF=%FE",
    "?limit=0",
    "?limit=200",
    "?origin=x",
    "?release=before",
    "?" + "a" * 70_000,
)
HEADERS = (
    "Range: bytes=0-1",
    "Expect: 100-continue",
    "Content-Encoding: gzip",
    "X-Request-ID: " + "a" * 500,
    "Authorization: Bearer x",
    "Origin: http://evil.example",
    "Host: evil.example",
    "Upgrade: websocket",
    "Connection: upgrade",
    "Content-Length: -1",
    "Content-Length: 99999999999999",
    "Transfer-Encoding: gzip",
    "Accept: text/none",
    "X: " + "a" * 70_000,
    "\x00: b",
    "Cookie: " + "a=b; " * 1000,
)
KINDS = (
    "image/png",
    "application/json",
    "multipart/form-data; boundary=a",
    "text/plain",
    "application/json; charset=x",
    "application/x-www-form-urlencoded",
    "image/",
    "",
    "application/octet-stream",
)
VALUES = (
    "null",
    "true",
    "1",
    "-1",
    "1e999",
    "9" * 5000,
    "NaN",
    '"a"',
    '""',
    '"\\ud800"',
    '"\\u0000"',
    "[]",
    "{}",
    "[[[[1]]]]",
    '["a"]',
    "[" * 100,
    '"' + "x" * 20_000 + '"',
    json.dumps(PIXEL),
    '"2026-01-31"',
    "[" + "0.1," * 2000 + "1]",
    "[" + "NaN," * 2000 + "NaN]",
)
KEYS = (
    "image",
    "images",
    "vector",
    "model",
    "item",
    "k",
    "filters",
    "release",
    "label",
    "task",
    "origin",
    "since",
    "a",
)


def odd_body(rng: random.Random) -> bytes:
    """JSON that is nearly a message, or something else."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(3000))
    if kind == 1:
        return b"{" + b",".join(b'"k%d":1' % number for number in range(rng.choice((10, 1000, 100_000)))) + b"}"
    if kind == 2:
        return b"--a\r\n" + b'Content-Disposition: form-data; name="a"\r\n\r\n1\r\n--a\r\n' * 2000
    members = ",".join(f'"{rng.choice(KEYS)}": {rng.choice(VALUES)}' for _ in range(rng.randrange(1, 6)))
    if kind == 3:
        members = f'"item": "a", "filters": {{{members}}}'
    text = "{" + members + "}"
    return text.encode("utf-8", "surrogatepass")[: rng.choice((None, None, None, len(text) // 2))]


def odd_request(rng: random.Random, host: str) -> bytes:
    """Bytes that are nearly a request."""
    path = rng.choice(PATHS)
    if rng.random() < 0.2:
        path = "/v1/items/" + quote(
            "".join(rng.choices(string.printable + "äé\u0301\U0001f600", k=rng.randrange(1, 9)))
        )
    body = odd_body(rng)
    lines = [f"{rng.choice(METHODS)} {path}{rng.choice(QUERIES)} HTTP/1.{rng.randrange(2)}", f"Host: {host}"]
    if kind := rng.choice(KINDS):
        lines.append(f"Content-Type: {kind}")
    lines += rng.sample(HEADERS, rng.choice((0, 0, 0, 1, 2)))
    head = "\r\n".join(lines).encode("latin-1", "replace")
    how = rng.randrange(10)
    if how == 0:
        return head  # half a request
    if how == 1:
        return head + b"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    if how == 2:
        return head + b"\r\nContent-Length: %d\r\n\r\n" % (len(body) + 5) + body
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def send(port: int, request: bytes) -> str:
    """The status of the answer, `closed`, or `none` after long; the end of what is sent is told, so nothing waits."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SLOW + 25) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            found = connection.recv(4096)
    except TimeoutError:
        return "none"
    except OSError:  # it was closed while it was sent
        return "closed"
    return found.split()[1].decode() if found.startswith(b"HTTP/1.1 ") else "closed"


class Seen:
    """What was answered."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.slowest = (0.0, "")
        self.errors: list[str] = []

    def note(self, status: str, seconds: float, what: str) -> None:
        """One answer."""
        self.statuses[status] += 1
        self.slowest = max(self.slowest, (seconds, what))
        if status.startswith("5"):
            self.errors.append(f"{status} {what}")


def drawn(url: str, count: int, number: int, seen: Seen) -> None:
    """Requests that Schemathesis draws."""
    operations = [each.ok() for each in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
    share = -(-count // len(operations))
    for operation in operations:

        @seed(number)
        @settings(
            max_examples=share,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            started = time.perf_counter()
            try:
                status = str(case.call(timeout=SLOW + 25).status_code)
            except (requests.RequestException, ValueError):
                status = "closed"
            seen.note(status, time.perf_counter() - started, f"{case.method} {case.path}")

        ask()


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(options.seed)  # noqa: S311 - no secret
    seen = Seen()
    with serving(options.project, 1) as (url, pid, _):
        port = int(url.rpartition(":")[2])
        process = psutil.Process(pid)

        def by_hand(count: int) -> None:
            for _ in range(count):
                request = odd_request(rng, f"127.0.0.1:{port}")
                started = time.perf_counter()
                seen.note(send(port, request), time.perf_counter() - started, repr(request[:100]))

        by_hand(options.requests // 10)
        warm = process.memory_info().rss
        by_hand(options.requests // 2 - options.requests // 10)
        middle = process.memory_info().rss
        drawn(url, options.requests - options.requests // 2, options.seed, seen)
        by_hand(options.requests - seen.statuses.total())  # a route without parameters is soon drawn out
        after = process.memory_info().rss
        ready = requests.get(f"{url}/readyz", timeout=60).status_code
    print(f"{seen.statuses.total():,} requests: {dict(sorted(seen.statuses.items()))}")
    print(f"5xx: {len(seen.errors)} {seen.errors[:5]}; slowest {seen.slowest[0]:.2f} s ({seen.slowest[1]})")
    print(
        f"memory: {warm >> 20} MiB after a tenth, {middle >> 20} after half, {after >> 20} at the end; /readyz {ready}"
    )
    if seen.errors or seen.slowest[0] > SLOW or ready != requests.codes.ok:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
