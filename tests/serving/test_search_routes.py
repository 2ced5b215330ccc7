import base64
import json
import re

import httpx
import numpy as np
import pytest
from services import pixels_of, png

from csd_core.data.decode import decode
from csd_core.live.images import content_id
from csd_core.records.stages import ImageForm
from csd_core.retrieval.embedder import Embedder


def post(service, path, *, image=None, **kwargs):
    if image is not None:
        kwargs |= {"content": image, "headers": {"Content-Type": "image/png"}}
    return httpx.post(f"{service}{path}", timeout=30, **kwargs)


def encoded(image):
    return base64.b64encode(image).decode()


def test_an_image_finds_items_of_its_class_first(service):
    answer = post(service, "/v1/search", image=png(2), params={"k": 5})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [hit["label"] for hit in found["hits"]] == ["t2-a"] * 5
    assert found["release"] == 2
    assert answer.headers["X-CSD-Release"] == "2"
    assert found["exact"]
    assert found["rows"] == 96
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert {hit["generation"] for hit in found["hits"]} == {2}  # a backfill: all rows are the new model's


def test_an_upload_is_decoded_and_embedded_as_ingest_and_pipeline_do(reading, service):
    file = png(1)
    answer = post(service, "/v1/embed", image=file).json()
    release = next((reading.project.root / "releases").glob("0002-*"))
    embedder = Embedder.load(release / "embedder.onnx", device="cpu", threads=1)
    expected = embedder(decode(file, ImageForm(size=8, channels=1, resize="squash"))[None])
    assert answer["model"] == embedder.digest
    np.testing.assert_allclose(answer["vectors"], expected, atol=1e-6)


def test_raw_and_json_images_give_the_same_answer(service):
    raw = post(service, "/v1/search", image=png(3), params={"k": 4, "label": ["t2-a", "t1-b"]})
    as_json = post(
        service,
        "/v1/search",
        json={"image": encoded(png(3)), "k": 4, "filters": {"label": ["t2-a", "t1-b"]}},
    )
    assert raw.json() == as_json.json()
    assert {hit["label"] for hit in raw.json()["hits"]} <= {"t2-a", "t1-b"}


def test_several_images_are_embedded_in_their_order(service):
    files = [png(kind) for kind in (0, 1, 2, 3)]
    together = post(service, "/v1/embed", json={"images": [encoded(file) for file in files]}).json()["vectors"]
    alone = [post(service, "/v1/embed", image=file).json()["vectors"][0] for file in files]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_vector_of_the_release_s_model_searches_as_its_image_does(service):
    embedded = post(service, "/v1/embed", image=png(2)).json()
    by_vector = post(service, "/v1/search", json={"vector": embedded["vectors"][0], "model": embedded["model"], "k": 5})
    by_image = post(service, "/v1/search", image=png(2), params={"k": 5})
    ids = [[hit["id"] for hit in answer.json()["hits"]] for answer in (by_vector, by_image)]
    assert ids[0] == ids[1]


def test_a_vector_of_another_model_is_refused_not_searched(service):
    answer = post(service, "/v1/search", json={"vector": [1.0] + [0.0] * 15, "model": "f" * 64})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:csd:problem:wrong-model"
    assert "embed the image again" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("vector", "what"),
    [
        ([1.0, 0.0], "dimensions"),
        ([0.0] * 16, "unit length"),
        ([2.0] + [0.0] * 15, "unit length"),
        (["x"] * 16, "vector"),
        ([], "vector"),
        ([1e300] * 16, "unit length"),
    ],
)
def test_a_vector_that_cannot_be_searched_is_an_invalid_request(service, vector, what):
    model = post(service, "/v1/embed", image=png(2)).json()["model"]
    answer = post(service, "/v1/search", json={"vector": vector, "model": model})
    assert answer.status_code == 422
    assert what in answer.json()["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_vector_of_no_numbers_is_an_invalid_request(service, number):
    model = post(service, "/v1/embed", image=png(2)).json()["model"]
    body = json.dumps({"vector": [1.0] * 15, "model": model}).replace("[1.0", f"[{number}")
    answer = post(service, "/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_a_search_from_an_item_leaves_the_item_out(service):
    identity = content_id(pixels_of(2, 24, seed=0)[0])
    answer = post(service, "/v1/search", json={"item": identity, "k": 5})
    assert answer.status_code == 200, answer.text
    ids = [hit["id"] for hit in answer.json()["hits"]]
    assert len(ids) == 5
    assert identity not in ids


def test_an_item_that_is_not_there_cannot_be_searched_from(service):
    answer = post(service, "/v1/search", json={"item": "nobody"})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:csd:problem:no-such-item")


def test_the_release_before_answers_as_before_the_upgrade(service):
    after = post(service, "/v1/search", image=png(0), params={"k": 3}).json()
    before = post(service, "/v1/search", image=png(0), params={"k": 3, "release": "before"}).json()
    assert (before["release"], after["release"]) == (1, 2)
    assert before["model"] != after["model"]
    assert {hit["generation"] for hit in before["hits"]} == {1}
    assert before["rows"] == 48


def test_a_filter_that_nothing_matches_gives_an_empty_answer(service):
    answer = post(service, "/v1/search", image=png(0), params={"label": "unheard of"})
    assert (answer.status_code, answer.json()["hits"]) == (200, [])


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"image": "", "item": "a"}, "one of"),
        ({}, "one of"),
        ({"item": "a", "k": 0}, "k"),
        ({"item": "a", "k": 101}, "serve.max_k"),
        ({"item": "a", "neighbours": 3}, "neighbours"),
        ({"vector": [1.0]}, "digest"),
        ({"image": "%%%"}, "image"),
        ({"item": "a\x00b"}, "item"),
        ({"item": "a", "filters": {"label": []}}, "filters.label"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(service, body, what):
    answer = post(service, "/v1/search", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert what in answer.json()["detail"]


def test_other_content_types_are_refused(service):
    answer = post(service, "/v1/search", content="<svg/>", headers={"Content-Type": "text/html"})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:csd:problem:content-type")


def test_the_figures_name_every_route_and_no_path(service):
    paths = ["/", *httpx.get(f"{service}/openapi.json", timeout=60).json()["paths"]]
    assert "/v1/items/{item}" in paths
    for path in paths:
        httpx.patch(service + path.replace("{item}", "a-name").replace("{number}", "9999"), timeout=60)
    text = httpx.get(f"{service}/metrics", timeout=60).text
    assert {path for path in paths if f'csd_requests_total{{method="other",route="{path}"' in text} == set(paths)
    assert "a-name" not in text
    assert "/9999" not in text


def test_the_figures_tell_every_step_of_a_search(service):
    assert post(service, "/v1/search", image=png(2, seed=77)).status_code == 200
    text = httpx.get(f"{service}/metrics", timeout=60).text
    for step in ("decode", "wait", "embed", "search", "load"):
        assert re.search(rf'csd_step_seconds_count{{step="{step}"}} [1-9]', text), step
