"""Schemathesis asks what the OpenAPI document says may be asked, and much that it says may not."""

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


@pytest.fixture(scope="session")
def document(service):
    return schemathesis.openapi.from_url(f"{service}/openapi.json")


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_every_answer_is_as_the_document_says(document):
    asked = set()
    for result in document.get_all_operations():
        operation = result.ok()
        if operation.method not in ("get", "post"):
            continue  # what is written would change the answers that other tests expect

        @given(case=operation.as_strategy())
        @settings(
            max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
        )
        def check(case):
            case.call_and_validate(checks=CHECKS, timeout=60)

        check()
        asked.add(f"{operation.method} {operation.path}")
    assert {"post /v1/search", "post /v1/embed", "get /v1/items", "get /v1/releases/{number}", "get /readyz"} <= asked


def test_every_operation_names_its_errors_and_has_an_example(service):
    found = httpx.get(f"{service}/openapi.json").json()
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/"):
                assert {"401", "503"} <= operation["responses"].keys(), (method, path)
            if "requestBody" in operation:
                assert operation["requestBody"]["content"]["application/json"]["example"]
    assert "/v1/search" in found["paths"]
