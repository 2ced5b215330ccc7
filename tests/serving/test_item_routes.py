import base64
import io
import time
from functools import partial

import httpx
import numpy as np
import pytest
from PIL import Image
from services import address, pixels_of, png, published, put, search, serving

from csd_core.client import Client
from csd_core.commands.production.query import query
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


ODD_NAMES = (
    'it\'s "new" & <script>alert(1)</script>.jpg',
    "\N{HEBREW LETTER ALEF}\N{HIRAGANA LETTER KU}.png",
    "x" * 512,
)


def photo(width=300, height=150):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def test_an_item_is_found_by_the_name_that_its_writer_gave(writing):
    for number, name in enumerate(ODD_NAMES):
        assert put(writing.url, f"named {number}", png(8, seed=20 + number), label="odd", name=name).status_code == 201
        hits = partial(search, writing.url, png(8, seed=20 + number), k=1)
        assert until(lambda hits=hits, name=name: hits().json()["hits"][0]["name"] == name.rpartition("/")[2])
        assert (hits().json()["hits"][0]["path"], hits().json()["hits"][0]["source"]) == (name, None)
        facts = httpx.get(address(writing.url, f"named {number}"), timeout=60).json()
        assert (facts["path"], facts["source"]) == (name, None)
    published_items = httpx.get(f"{writing.url}/v1/items", params={"label": "t1-a"}, timeout=60).json()["items"]
    assert {each["source"] for each in published_items} == {"digits"}
    assert all(each["path"] == each["name"] == each["id"] for each in published_items)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31mred", "x" * 513])
def test_a_name_that_cannot_be_shown_is_refused(writing, name):
    assert put(writing.url, "unnamed", png(8), label="odd", name=name).status_code == 422
    body = {"label": "odd", "image": base64.b64encode(png(8)).decode(), "name": name}
    assert httpx.put(address(writing.url, "unnamed"), json=body, timeout=60).status_code == 422
    assert httpx.get(address(writing.url, "unnamed"), timeout=60).status_code == 404


def test_the_original_of_an_upload_is_shown_small_and_once_and_is_gone_with_its_item(writing):
    assert put(writing.url, "photo", photo(), label="odd").status_code == 201
    at = f"{writing.url}/v1/thumbnails/photo"
    answer = httpx.get(at, timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.content)).size == (256, 128)
    assert answer.headers["cache-control"] == "private, max-age=60"
    again = httpx.get(at, headers={"If-None-Match": answer.headers["etag"]}, timeout=60)
    assert (again.status_code, again.content) == (304, b"")
    with Client(writing.url) as client:
        assert client.thumbnail("photo") == answer.content
    writing.project.production.live.erase(["photo"], why="asked")
    assert httpx.get(at, timeout=60).status_code == 404


def test_of_an_item_without_a_known_original_the_image_is_shown(writing):
    assert put(writing.url, "as small", png(8, seed=3), label="odd").status_code == 201
    small, image = (httpx.get(f"{writing.url}/v1/{kind}/as%20small", timeout=60) for kind in ("thumbnails", "images"))
    assert small.headers["content-type"] == "image/png"
    assert (small.content, small.headers["etag"]) == (image.content, image.headers["etag"])


def test_the_client_and_the_command_show_the_file_s_name_without_its_folders(writing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("csd_core.system.console.console.width", 400)
    file = tmp_path / "red [b]shoe.png"
    file.write_bytes(png(8, seed=31))
    with Client(writing.url) as client:
        client.put("by client", file, label="odd")
        client.put("by bytes", png(8, seed=32), label="odd", name="shelf/blue.png")
        assert until(lambda: client.search(file, k=1).hits[0].path == file.name)
        assert until(lambda: client.search(png(8, seed=32), k=1).hits[0].path == "shelf/blue.png")
        (hit,) = client.search(png(8, seed=32), k=1).hits
    assert (hit.id, hit.name, hit.source) == ("by bytes", "blue.png", None)
    query(file, url=writing.url, k=1)
    assert "red [b]shoe.png" in capsys.readouterr().out


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
