"""Addresses that are read strictly: paths of whole UTF-8, and parameters that the route knows."""

import httpx
import pytest
from services import address, png, search

from csd_core.serving.http.addresses import Parameters, refuse_undecodable
from csd_core.serving.http.problems import Problem

ROUTES = Parameters({("/s", "GET"): {"k": False, "label": True}, ("/n", "GET"): {}})


@pytest.mark.parametrize(
    "part", [b"%FF", b"%FE", b"a%C3", b"%ED%A0%80", b"%C0%80", b"%F5%80%80%80", b"%", b"%4", b"%zz"]
)
def test_what_does_not_say_which_characters_it_means_is_refused(part):
    with pytest.raises(Problem):
        refuse_undecodable(b"/v1/items/" + part, what="path")


@pytest.mark.parametrize("part", [b"%C3%A4", b"a%2Fb", b"..", b"%25", b"e%CC%81", b"%F0%9F%98%80", b"%0A", b""])
def test_whole_utf_8_is_taken(part):
    refuse_undecodable(b"/v1/items/" + part, what="path")


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        ("/s", b"labell=3", "labell: unknown; did you mean label?"),
        ("/s", b"k=3&k=5", "k: is given 2 times"),
        ("/s", b"K=3", "K: unknown"),
        ("/s", b"label%20=3", "label : unknown"),
        ("/s", b"=3", ": unknown"),
        ("/s", b"label=%FF", "query: is not UTF-8"),
        ("/n", b"a=1", "a: unknown; no parameter is allowed here"),
    ],
)
def test_a_parameter_that_would_be_ignored_is_refused(path, query, says):
    with pytest.raises(Problem) as caught:
        ROUTES.check(path, "GET", query)
    assert caught.value.status == 422
    assert caught.value.detail.startswith(says)


def test_known_parameters_are_taken():
    ROUTES.check("/s", "GET", b"k=3&label=a&label=b%26")
    ROUTES.check("/elsewhere", "GET", b"a=1")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/search?labell=3"),
        ("POST", "/v1/search?k=3&k=5"),
        ("POST", "/v1/embed?k=3"),
        ("GET", "/v1/items?offset=3"),
        ("GET", "/v1/items?limit=3&limit=4"),
        ("GET", "/v1/labels?label=a"),
        ("GET", "/v1/releases?limit=1"),
        ("GET", "/healthz?x=1"),
        ("GET", "/readyz?verbose=1"),
        ("GET", "/metrics?name=a"),
        ("GET", "/?x=1"),
        ("PUT", "/v1/items/a?lable=b"),
        ("DELETE", "/v1/items/a?force=1"),
        ("PUT", "/v1/items/%FF?label=a"),
        ("PUT", "/v1/items/%FE?label=a"),
        ("GET", "/v1/items/%FF"),
        ("GET", "/v1/images/%ED%A0%80"),
    ],
)
def test_no_route_ignores_what_it_is_given(service, method, path):
    body = png(0) if method in ("POST", "PUT") else None
    answer = httpx.request(method, f"{service}{path}", content=body, headers={"Content-Type": "image/png"}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:csd:problem:invalid-request")


def test_a_json_document_and_parameters_do_not_mix(service):
    answer = httpx.post(f"{service}/v1/search?k=5", json={"item": "a"}, timeout=60)
    assert answer.status_code == 422
    assert "k: query parameters belong to a raw image" in answer.json()["detail"]


def test_a_compressed_body_is_refused(service):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert httpx.post(f"{service}/v1/search", content=b"\x1f\x8b", headers=headers, timeout=60).status_code == 415


def test_the_page_opens_at_an_item(service):
    assert httpx.get(f"{service}/?item=a", timeout=60).status_code == 200


def test_each_spelling_of_a_name_is_an_item_of_its_own(service):
    assert {httpx.get(address(service, name), timeout=60).status_code for name in ("e\u0301", "\u00e9", "a\n")} == {404}


@pytest.mark.parametrize(
    "since", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "1000000000", "-1"]
)
def test_any_moment_is_one_to_search_from(service, since):
    answer = search(service, png(0), since=since)
    assert answer.status_code == 200, answer.text
    assert bool(answer.json()["hits"]) == (not since.startswith("9999"))


@pytest.mark.parametrize("since", ["1e999", "nan", "", "99999999999999999999", "2026-13-01", "now", "0000-01-01"])
def test_what_is_no_moment_is_refused(service, since):
    assert search(service, png(0), since=since).status_code == 422
