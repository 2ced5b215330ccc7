"""Schemathesis asks what the OpenAPI document says may be asked, and much that it says may not."""

from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from services import address, published, serving

from csd_core.live.text import LONGEST_ID
from csd_core.serving.http.asks import PIXEL

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HOSTILE = [
    *("../../etc/passwd", "a/../b", "/", "a//b", "/a", "a/", "%2e%2e%2f", "a?b#c&d=e;f", "a+b", " ", "\n", "a", "a\n"),
    *("' OR '1'='1", "'; DROP TABLE items; --", 'x"y', "back\\slash", "null", "*", "{item}", "${jndi:x}"),
    *("\u202egnp", "\ufeff", "e\u0301", "\U0001f600", "a\x00b", "x" * 512, "x" * 513),
]
"""Names that mean something to a path, to SQL, to a shell or to a screen, and two that are too long or have a NUL.

Schemathesis cannot send `.` and `..`, for its client takes them out of the path; test_item_routes.py writes such items.
"""
JUDGED = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


def operations(url, methods):
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = (result.ok() for result in document.get_all_operations())
    return {f"{each.method} {each.path}": each for each in found if each.method in methods}


def test_every_answer_is_as_the_document_says(service):
    asked = operations(service, ("get", "post"))  # what is written would change the answers that other tests expect
    for operation in asked.values():

        @given(case=operation.as_strategy())
        @JUDGED
        def check(case):
            case.call_and_validate(checks=CHECKS, timeout=60)

        check()
    assert {"post /v1/search", "post /v1/embed", "get /v1/items", "get /v1/releases/{number}", "get /readyz"} <= set(
        asked
    )


@pytest.fixture
def written(tmp_path):
    """The address of a service that may be written to."""
    with serving(published(tmp_path / "project", "none", "keep")) as running:
        yield running.url


def answers(operation, examples, *, item=None):
    """The statuses of some requests; with an item, of requests about it that say what they should."""
    found = set()

    @given(case=operation.as_strategy())
    @settings(JUDGED, max_examples=examples)
    def check(case):
        if item is not None:
            case.path_parameters["item"] = quote(item, safe="")
            if case.method == "PUT":
                case.body, case.media_type = {"label": "a class", "image": PIXEL}, "application/json"
        found.add(case.call_and_validate(checks=CHECKS, timeout=60).status_code)

    check()
    return found


def storable(item):
    return len(item) <= LONGEST_ID and "\x00" not in item


@pytest.mark.slow
def test_every_answer_to_a_write_or_deletion_is_as_the_document_says_whatever_the_item_is_called(written):
    others = [
        each["id"] for each in httpx.get(f"{written}/v1/items", params={"limit": 200}, timeout=60).json()["items"]
    ]
    put, delete = operations(written, ("put", "delete")).values()
    assert {422} <= answers(put, 25) <= {200, 201, 422}
    assert answers(delete, 25) <= {204, 404}
    for item in HOSTILE:
        assert answers(put, 1, item=item) <= ({200, 201} if storable(item) else {422})
    for item in HOSTILE:
        assert answers(delete, 1, item=item) == ({204} if storable(item) else {422})
    assert all(httpx.get(address(written, each), timeout=60).status_code == 200 for each in others)


def test_every_operation_names_its_errors_and_has_an_example(service):
    found = httpx.get(f"{service}/openapi.json", timeout=60).json()
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/"):
                assert {"401", "503"} <= operation["responses"].keys(), (method, path)
            if "requestBody" in operation:
                assert operation["requestBody"]["content"]["application/json"]["example"]
    assert "/v1/search" in found["paths"]
