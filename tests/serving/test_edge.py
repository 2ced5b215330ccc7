import asyncio
import re
import time
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI, Request
from patience import PATIENCE
from starlette.routing import Route

from csd_core.serving.http import problems
from csd_core.serving.http.addresses import Parameters
from csd_core.serving.http.edge import Edge
from csd_core.serving.keys import KeyRing, issue
from csd_core.serving.telemetry import Metrics
from csd_core.system.errors import ArtifactError, BusyError, StorageError


def guarded(*, keys=None, loopback=True, max_body=1000, max_waiting=4, body_seconds=5.0):
    app = FastAPI()
    problems.install(app)

    @app.post("/v1/search")
    async def search(request: Request):
        return {"bytes": len(await request.body())}

    @app.post("/v1/slow")
    async def slow():
        await asyncio.sleep(0.3)
        return {}

    @app.api_route("/v1/items/{item}", methods=["GET", "PUT", "DELETE"])
    async def item(item: str):
        return {"item": item}

    @app.get("/v1/broken/{how}")
    async def broken(how: str):
        raise {
            "bug": ValueError("secret"),
            "file": ArtifactError("/srv/secret/embedder.onnx: damaged"),
            "busy": BusyError("in use by process 1"),
            "full": OSError(28, "No space left on device"),
            "lance": StorageError("live gallery, g: LanceError(IO): No space left on device (os error 28)", 28),
        }[how]

    @app.get("/")
    @app.get("/healthz")
    @app.get("/readyz")
    @app.get("/metrics")
    async def nothing():
        return {}

    return Edge(
        app,
        keys=keys,
        loopback=loopback,
        max_body=max_body,
        max_waiting=max_waiting,
        body_seconds=body_seconds,
        metrics=Metrics(),
        routes=[route for route in app.routes if isinstance(route, Route)],
        parameters=Parameters({("/v1/search", "POST"): {"k": False, "label": True}}),
    )


def ask(edge, method, path, **kwargs):
    async def once():
        transport = httpx.ASGITransport(edge)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **kwargs)

    return asyncio.run(once())


@pytest.fixture
def ring(tmp_path):
    path = tmp_path / "keys.json"
    tokens = {role: issue(path, role, role) for role in ("read", "write")} | {None: None, "unknown": "csd_nobody"}
    return KeyRing(path), tokens


ROUTES = [
    ("GET", "/", "open"),
    ("GET", "/healthz", "open"),
    ("GET", "/readyz", "open"),
    ("GET", "/metrics", "read"),
    ("POST", "/v1/search", "read"),
    ("GET", "/v1/items/a", "read"),
    ("PUT", "/v1/items/a", "write"),
    ("DELETE", "/v1/items/a", "write"),
    ("GET", "/v1/nowhere", "read"),
]


@pytest.mark.parametrize(("method", "path", "needs"), ROUTES)
@pytest.mark.parametrize("key", [None, "unknown", "read", "write"])
def test_who_may_do_what(ring, method, path, needs, key):
    keys, tokens = ring
    headers = {} if key is None else {"Authorization": f"Bearer {tokens[key]}"}
    status = ask(guarded(keys=keys), method, path, headers=headers).status_code
    there = 404 if path == "/v1/nowhere" else 200
    allowed = {"open": {None, "unknown", "read", "write"}, "read": {"read", "write"}, "write": {"write"}}[needs]
    assert status == (there if key in allowed else 403 if key == "read" else 401)


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "bearer x y", "csd_abc"])
def test_a_header_that_is_no_key_is_refused(ring, header):
    answer = ask(guarded(keys=ring[0]), "GET", "/v1/items/a", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_every_answer_has_a_request_id_and_keeps_a_sane_one():
    edge = guarded()
    assert ask(edge, "GET", "/healthz", headers={"X-Request-ID": "trace-1"}).headers["X-Request-ID"] == "trace-1"
    other = ask(edge, "GET", "/healthz", headers={"X-Request-ID": 'x" injected'}).headers["X-Request-ID"]
    assert len(other) == 32
    problem = ask(edge, "GET", "/v1/nowhere", headers={"X-Request-ID": "trace-2"})
    assert problem.json()["request_id"] == "trace-2"
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["instance"] == "/v1/nowhere"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:8000", ""])
def test_on_loopback_another_host_is_refused(host):
    answer = ask(guarded(), "GET", "/healthz", headers={"Host": host})
    assert (answer.status_code, answer.json()["type"]) == (421, "urn:csd:problem:wrong-host")
    assert ask(guarded(loopback=False), "GET", "/healthz", headers={"Host": host}).status_code == 200


def test_a_page_of_another_origin_may_not_ask():
    edge = guarded()
    asked = {"Origin": "http://evil.example"}
    assert ask(edge, "POST", "/v1/search", headers=asked).json()["type"] == "urn:csd:problem:foreign-page"
    assert ask(edge, "POST", "/v1/search", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


def test_a_body_that_is_too_large_is_refused_by_its_length_and_by_its_bytes():
    edge = guarded(max_body=1000)
    assert ask(edge, "POST", "/v1/search", content=b"x" * 1000).json() == {"bytes": 1000}
    assert ask(edge, "POST", "/v1/search", content=b"x" * 1001).status_code == 413

    async def chunks():
        for _ in range(11):
            yield b"x" * 100

    chunked = ask(edge, "POST", "/v1/search", content=chunks())
    assert (chunked.status_code, chunked.json()["type"]) == (413, "urn:csd:problem:body-too-large")
    assert edge._admission.held == 0


def test_a_body_that_does_not_arrive_is_given_up():
    sent = []

    async def receive():
        await asyncio.sleep(900)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/search",
        "raw_path": b"/v1/search",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    started = time.monotonic()
    asyncio.run(guarded(body_seconds=0.1)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert time.monotonic() - started < PATIENCE


def test_more_requests_than_may_wait_are_told_to_come_again():
    edge = guarded(max_waiting=2)

    async def crowd():
        transport = httpx.ASGITransport(edge)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            answers = await asyncio.gather(*(client.post("/v1/slow") for _ in range(5)))
            free = await client.get("/healthz")
            later = await client.post("/v1/slow")
            return answers, free, later

    answers, free, later = asyncio.run(crowd())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 429)
    assert (free.status_code, later.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("how", "status", "slug"),
    [
        ("bug", 500, "internal"),
        ("file", 503, "not-ready"),
        ("busy", 503, "writes-wait"),
        ("full", 507, "storage-full"),
        ("lance", 507, "storage-full"),
    ],
)
def test_a_failure_tells_what_it_is_and_nothing_from_inside(how, status, slug):
    answer = ask(guarded(), "GET", f"/v1/broken/{quote(how)}")
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:csd:problem:{slug}")
    assert "secret" not in answer.text
    assert "process" not in answer.json()["detail"] or how == "busy"
    if status == 503:
        assert answer.headers["Retry-After"] == "2"


def test_the_page_may_load_nothing_from_elsewhere():
    headers = ask(guarded(), "GET", "/").headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def raw(edge, method, path, messages):
    """What is sent to a client that sends these ASGI messages and no more."""
    sent, left = [], iter(messages)

    async def receive():
        message = next(left, None)
        if message is None:
            await asyncio.sleep(3600)
        return message

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    asyncio.run(edge(scope, receive, send))
    return sent


def test_a_client_that_leaves_is_not_logged_as_a_failure(caplog):
    caplog.set_level("INFO", "csd.serving")
    leaves = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}]
    raw(guarded(), "POST", "/v1/search", leaves)
    (line,) = [record for record in caplog.records if record.name == "csd.serving"]
    assert (line.levelname, line.status) == ("INFO", 499)


def test_a_client_that_leaves_an_application_without_handlers_is_told_nothing(caplog):
    caplog.set_level("INFO", "csd.serving")

    async def app(scope, receive, send):
        await receive()
        raise RuntimeError("nobody listens")

    edge = guarded()
    edge._app = app
    assert raw(edge, "POST", "/v1/search", [{"type": "http.disconnect"}]) == []
    (line,) = [record for record in caplog.records if record.name == "csd.serving"]
    assert line.status == 499


def test_keys_that_cannot_be_looked_up_let_nobody_in():
    class Broken:
        def key_of(self, _):
            raise RuntimeError("secret")

    answer = ask(guarded(keys=Broken()), "PUT", "/v1/items/a", headers={"Authorization": "Bearer csd_any"})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:csd:problem:internal")
    assert "secret" not in answer.text


def test_a_failure_has_one_traceback_and_one_line(caplog):
    caplog.set_level("INFO", "csd.serving")
    ask(guarded(), "GET", "/v1/broken/bug")
    records = [record for record in caplog.records if record.name == "csd.serving"]
    assert [record.message for record in records] == ["failed", "answered"]
    assert records[0].request_id == records[1].request_id


def test_a_log_line_says_who_asked_what_and_no_key(ring, caplog):
    caplog.set_level("INFO", "csd.serving")
    keys, tokens = ring
    asked = {"Authorization": f"Bearer {tokens['write']}", "X-Request-ID": "trace-3"}
    ask(guarded(keys=keys), "PUT", "/v1/items/a?label=private", headers=asked)
    (line,) = [record for record in caplog.records if record.name == "csd.serving"]
    assert (line.request_id, line.method, line.path, line.status) == ("trace-3", "PUT", "/v1/items/a", 200)
    assert line.key == "write"
    assert line.ms > 0
    assert tokens["write"] not in str(vars(line))
    assert "private" not in str(vars(line))


def test_figures_have_few_labels_whatever_is_asked():
    edge = guarded()
    for method, path in [
        ("GET", "/v1/items/a"),
        ("GET", "/v1/items/b"),
        ("GET", "/x/1"),
        ("GET", "/x/2"),
        ("ODD", "/"),
    ]:
        ask(edge, method, path)
    text = edge._metrics.render()[0].decode()
    assert 'csd_requests_total{method="GET",route="/v1/items/{item}",status="200"} 2.0' in text
    assert 'csd_requests_total{method="GET",route="other",status="404"} 2.0' in text
    assert 'method="other"' in text
    assert "ODD" not in text


def counted(edge):
    """(route, status) -> answers."""
    found = {}
    for line in edge._metrics.render()[0].decode().splitlines():
        if line.startswith("csd_requests_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            key = labels["route"], int(labels["status"])
            found[key] = found.get(key, 0) + float(line.split()[-1])
    return found


def test_what_is_refused_counts_under_the_route_that_was_asked_for(ring):
    edge = guarded(max_waiting=0)
    for path in ("/v1/search", "/v1/items/a", "/v1/items/b", "/v1/nowhere"):
        assert ask(edge, "PUT", path).status_code == 429
    assert ask(edge, "GET", "/v1/items/a", headers={"Host": "evil.example"}).status_code == 421
    assert counted(edge) == {
        ("/v1/search", 429): 1,
        ("/v1/items/{item}", 429): 2,
        ("other", 429): 1,
        ("/v1/items/{item}", 421): 1,
    }
    edge = guarded(keys=ring[0], max_body=10)
    assert ask(edge, "DELETE", "/v1/items/a").status_code == 401
    assert counted(edge) == {("/v1/items/{item}", 401): 1}
    edge = guarded(max_body=10)
    assert ask(edge, "POST", "/v1/search", content=b"x" * 11).status_code == 413
    assert ask(edge, "GET", "/v1/search").status_code == 405
    assert counted(edge) == {("/v1/search", 413): 1, ("/v1/search", 405): 1}


def test_the_room_is_free_again_after_failures():
    edge = guarded(max_waiting=1, max_body=10)
    for _ in range(3):
        assert ask(edge, "POST", "/v1/search", content=b"x" * 11).status_code == 413
    raw(edge, "POST", "/v1/search", [{"type": "http.disconnect"}])
    assert ask(edge, "POST", "/v1/search", content=b"x").status_code == 200
    assert "csd_waiting 0.0" in edge._metrics.render()[0].decode()
