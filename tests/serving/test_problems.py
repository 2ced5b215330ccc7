import asyncio
import errno
import json
import logging

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from csd_core.serving.http.problems import MEDIA_TYPE, Problem, install, render, responses
from csd_core.system.errors import (
    ArtifactError,
    BusyError,
    CompatibilityError,
    CsdError,
    DataError,
    ParamsError,
    StorageError,
)

INSIDE = "/srv/secret/embedder.onnx: damaged"


class Wanted(BaseModel):
    k: int


def failing(error):
    app = FastAPI()
    install(app)

    @app.get("/fail")
    async def fail():
        raise error

    @app.post("/wanted", responses=responses(422, 503))
    async def wanted(body: Wanted):
        return body

    return app


def ask(app, method="GET", path="/fail", **kwargs):
    async def once():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **kwargs)

    return asyncio.run(once())


def test_a_folder_that_cannot_be_written_is_named_and_the_project_s_place_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = ask(failing(OSError(errno.EROFS, "no", str(tmp_path / "live" / "x"))))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert answer.json()["detail"].startswith("live/x: ")
    assert str(tmp_path) not in answer.text


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (Problem(404, "no-such-item", "there is none"), 404, "no-such-item"),
        (DataError("no image"), 422, "bad-image"),
        (ParamsError("k is too large"), 422, "invalid-request"),
        (CompatibilityError("another model"), 409, "wrong-model"),
        (BusyError("in use by process 1"), 503, "writes-wait"),
        (ArtifactError(INSIDE), 503, "not-ready"),
        (CsdError(INSIDE), 503, "not-ready"),
        (OSError(errno.ENOSPC, INSIDE), 507, "storage-full"),
        (OSError(errno.EDQUOT, INSIDE), 507, "storage-full"),
        (StorageError(f"{INSIDE}: No space left on device", errno.ENOSPC), 507, "storage-full"),
        (OSError(errno.EIO, INSIDE), 500, "internal"),
        (ValueError(INSIDE), 500, "internal"),
        (HTTPException(418, "no coffee"), 418, "http"),
    ],
)
def test_each_error_has_its_status_and_type_and_says_nothing_from_inside(error, status, slug):
    answer = ask(failing(error))
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert (problem["type"], problem["status"], problem["instance"]) == (f"urn:csd:problem:{slug}", status, "/fail")
    assert "secret" not in answer.text
    assert "process 1" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("error", "traceback"),
    [(ArtifactError(INSIDE), False), (OSError(errno.ENOSPC, INSIDE), False), (ValueError(INSIDE), True)],
)
def test_what_the_client_must_not_see_is_logged_once(caplog, error, traceback):
    ask(failing(error))
    (record,) = [record for record in caplog.records if record.name == "csd.serving"]
    assert record.levelno == logging.ERROR
    assert bool(record.exc_info) == traceback
    assert INSIDE in (str(record.exc_info[1]) if traceback else record.reason)


def test_an_error_of_the_request_is_not_logged(caplog):
    ask(failing(DataError("no image")))
    assert not [record for record in caplog.records if record.name == "csd.serving"]


def test_a_wrong_path_and_a_wrong_method_are_problems_and_keep_allow():
    app = failing(ValueError())
    assert ask(app, path="/nowhere").json()["type"] == "urn:csd:problem:not-found"
    wrong = ask(app, "PUT")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET")
    assert wrong.json()["type"] == "urn:csd:problem:method-not-allowed"


def test_a_mistake_in_the_request_is_named_without_its_content():
    answer = ask(failing(ValueError()), "POST", "/wanted", json={"k": "private words"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:csd:problem:invalid-request"
    assert [mistake["where"] for mistake in answer.json()["errors"]] == ["body.k"]
    assert "private" not in answer.text


def test_a_problem_is_rendered_with_its_members_headers_and_request_id():
    problem = Problem(429, "too-busy", "come again", headers={"Retry-After": "1"}, extra={"waiting": 3})
    answer = render(problem, {"type": "http", "path": "/v1/x", "state": {"request_id": "trace-1"}})
    assert answer.headers["Retry-After"] == "1"
    assert json.loads(answer.body) == {
        "type": "urn:csd:problem:too-busy",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "come again",
        "instance": "/v1/x",
        "request_id": "trace-1",
        "waiting": 3,
    }


def test_openapi_describes_problems_as_they_are_sent():
    described = failing(ValueError()).openapi()["paths"]["/wanted"]["post"]["responses"]
    assert MEDIA_TYPE in described["422"]["content"]
    assert set(described["503"]["content"]) == {MEDIA_TYPE}
