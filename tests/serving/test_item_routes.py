import base64
import io
import time

import httpx
import numpy as np
import pytest
from PIL import Image
from services import address, pixels_of, png, published, put, search, serving

from csd_core.live.images import content_id
from csd_core.serving.keys import KeyRing, issue


@pytest.fixture(scope="module")
def writing(tmp_path_factory):
    """A service that tests write to, with its project."""
    project = published(tmp_path_factory.mktemp("writing") / "project", "none", "keep")
    with serving(project) as running:
        yield running


def found(url, image, **params):
    answer = search(url, image, **params)
    return [hit["id"] for hit in answer.json()["hits"]]


def until(holds):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def test_a_written_item_is_found_seen_replaced_and_deleted(writing):
    url, image = writing.url, png(8, seed=5)
    answer = put(url, "mine", image, label="new")
    assert answer.status_code == 201, answer.text
    assert answer.json() == {
        "id": "mine",
        "label": "new",
        "release": 2,
        "model": writing.ready().json()["model"],
        "replaced": False,
    }
    assert until(lambda: found(url, image, k=1) == ["mine"])
    facts = httpx.get(f"{url}/v1/items/mine", timeout=60).json()
    assert (facts["label"], facts["origin"], facts["generation"], facts["has_image"]) == ("new", "live", 2, True)
    assert put(url, "mine", image, label="newer").json()["replaced"]
    assert httpx.get(f"{url}/v1/items/mine", timeout=60).json()["label"] == "newer"
    assert httpx.delete(f"{url}/v1/items/mine", timeout=60).status_code == 204
    assert httpx.get(f"{url}/v1/items/mine", timeout=60).status_code == 404
    assert httpx.delete(f"{url}/v1/items/mine", timeout=60).status_code == 404
    assert until(lambda: "mine" not in found(url, image, k=5))


@pytest.mark.parametrize(
    "identity", ["a/b/c", "../../etc/passwd", "ä ö?&#%", "'; DROP TABLE items; --", "x" * 512, ".", "..", "a\n\nb\r\n"]
)
def test_any_id_is_only_a_name(writing, identity):
    assert put(writing.url, identity, png(9), label="odd").status_code == 201
    path = address(writing.url, identity)
    assert httpx.get(path, timeout=60).json()["id"] == identity
    assert httpx.delete(path, timeout=60).status_code == 204


def test_a_name_that_ends_in_a_line_break_is_not_the_one_without(writing):
    for identity in ("twin", "twin\n"):
        assert put(writing.url, identity, png(9), label="odd").status_code == 201
    assert httpx.delete(address(writing.url, "twin\n"), timeout=60).status_code == 204
    assert httpx.delete(address(writing.url, "twin\n"), timeout=60).status_code == 404
    assert httpx.delete(address(writing.url, "twin"), timeout=60).status_code == 204


@pytest.mark.parametrize("identity", ["x" * 513, "a\x00b"])
def test_an_id_that_cannot_be_stored_is_refused(writing, identity):
    answer = put(writing.url, identity, png(9), label="odd")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:csd:problem:invalid-request")


def test_json_writes_as_raw_bytes_do(writing):
    image = png(8, seed=6)
    body = {"label": "new", "image": base64.b64encode(image).decode()}
    answer = httpx.put(f"{writing.url}/v1/items/from-json", json=body, timeout=30)
    assert answer.status_code == 201
    picture = httpx.get(f"{writing.url}/v1/images/from-json", timeout=60)
    assert picture.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(picture.content))), pixels_of(8, 1, seed=6)[0, ..., 0]
    )


def test_an_item_without_a_label_is_refused(writing):
    answer = httpx.put(f"{writing.url}/v1/items/a", content=png(0), headers={"Content-Type": "image/png"}, timeout=60)
    assert answer.status_code == 422
    assert "label" in answer.json()["detail"]


def test_an_erased_item_never_comes_back_and_others_of_the_same_commit_are_written(writing):
    production = writing.project.production
    put(writing.url, "gone", png(8), label="new")
    production.live.erase(["gone"], why="asked")
    answer = put(writing.url, "gone", png(8), label="new")
    assert answer.status_code == 422
    assert "never comes back" in answer.json()["detail"]
    assert put(writing.url, "another", png(8), label="new").status_code == 201


def test_what_another_process_writes_is_found_within_seconds(writing):
    images = pixels_of(8, 1, seed=77)
    (identity,) = writing.project.put(images, "elsewhere")
    assert until(lambda: found(writing.url, png(8, seed=77), k=1) == [identity])


def test_the_gallery_s_items_are_spread_over_its_classes(service):
    items = httpx.get(f"{service}/v1/items", params={"limit": 12}, timeout=60).json()["items"]
    assert len(items) == 12
    assert len({item["label"] for item in items}) > 1
    only = httpx.get(f"{service}/v1/items", params={"limit": 5, "label": "t1-a"}, timeout=60).json()["items"]
    assert {item["label"] for item in only} == {"t1-a"}
    assert httpx.get(f"{service}/v1/items", params={"label": "unheard of"}, timeout=60).json()["items"] == []


def test_the_classes_are_counted(service):
    found_labels = httpx.get(f"{service}/v1/labels", timeout=60).json()["labels"]
    assert found_labels == [{"label": label, "items": 24} for label in ("t1-a", "t1-b", "t2-a", "t2-b")]


def test_the_image_of_an_item_is_its_pixels(service):
    pixels = pixels_of(0, 24, seed=0)[3]
    picture = httpx.get(f"{service}/v1/images/{content_id(pixels)}", timeout=60)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture.content))), pixels[..., 0])
    assert httpx.get(f"{service}/v1/images/nobody", timeout=60).status_code == 404


def until_ready(running, status, word):
    def holds(answer):
        return answer.status_code == status and word in answer.text

    running.wait_until(holds, f"/readyz {status} with {word!r}")


def refused_write(running):
    started = time.monotonic()
    answer = httpx.delete(address(running.url, "nobody"), timeout=60)
    assert time.monotonic() - started < 15  # not the 20 s for which a write waits for a release
    assert answer.status_code == 503
    assert "\n" not in answer.json()["detail"]
    return answer.json()["detail"]


@pytest.mark.parametrize(
    ("folder", "status", "word"), [("releases", 503, "names the active release, is gone"), ("live", 200, "degraded")]
)
def test_where_a_folder_is_gone_readiness_says_so_searches_go_on_and_writes_fail_at_once(writing, folder, status, word):
    root = writing.project.root
    (root / folder).rename(root / f"{folder}.away")
    try:
        until_ready(writing, status, word)
        assert folder in refused_write(writing)
        assert search(writing.url, png(0)).status_code == 200
        assert not (root / folder).exists()
        assert httpx.get(f"{writing.url}/metrics", timeout=60).status_code == 200
    finally:
        (root / f"{folder}.away").rename(root / folder)
    until_ready(writing, 200, '"status":"ready"')
    assert httpx.delete(address(writing.url, "nobody"), timeout=60).status_code == 404


def test_keys_that_let_nobody_in_are_told_by_readiness(tmp_path):
    path = tmp_path / "keys.json"
    assert "there is no key" in KeyRing(path).trouble
    issue(path, "shop", "read")
    assert KeyRing(path).trouble == ""
    path.write_text("{")
    assert "nobody gets in" in KeyRing(path).trouble
