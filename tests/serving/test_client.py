import base64
import json
import subprocess
import sys

import httpx
import numpy as np
import pytest
from projects import pixels_of
from services import png

from csd_core.client import LONGEST_SECONDS, Client, SearchResult, ServiceError
from csd_core.data.decode import decode
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError, ParamsError


def client_of(handler, waits, **kwargs):
    return Client(
        "http://service", transport=httpx.MockTransport(handler), sleep=waits.append, jitter=lambda: 0.5, **kwargs
    )


def answering(*answers):
    """Answers in turn, the last one for ever."""
    left = list(answers)
    seen = []

    def handle(request):
        seen.append(request)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle, seen


def problem(status, slug, **headers):
    document = {"type": f"urn:csd:problem:{slug}", "title": "No", "status": status, "detail": "because"}
    return httpx.Response(status, json=document, headers=headers)


READY = httpx.Response(200, json={"status": "ready"})


def test_it_comes_again_when_told_to_and_no_sooner():
    waits = []
    handle, seen = answering(
        problem(429, "too-busy", **{"Retry-After": "1"}), problem(503, "not-ready", **{"Retry-After": "2"}), READY
    )
    with client_of(handle, waits) as client:
        assert client.ready() == {"status": "ready"}
    assert len(seen) == 3
    assert waits == [1 + 0.5 * 0.2, 2 + 0.5 * 0.4]


def test_it_never_waits_longer_than_its_limit():
    waits = []
    handle, _ = answering(problem(503, "not-ready", **{"Retry-After": "86400"}), READY)
    with client_of(handle, waits) as client:
        client.ready()
    assert waits == [LONGEST_SECONDS]


def test_it_gives_up_after_its_attempts_with_the_last_reason():
    waits = []
    handle, seen = answering(problem(429, "too-busy"))
    with client_of(handle, waits, attempts=3) as client, pytest.raises(ServiceError, match="because") as refused:
        client.ready()
    assert (refused.value.status, refused.value.slug, len(seen), len(waits)) == (429, "too-busy", 3, 2)


def test_a_connection_that_breaks_is_tried_again():
    handle, seen = answering(httpx.ConnectError("refused"), httpx.ReadError("reset"), READY)
    with client_of(handle, []) as client:
        client.ready()
    assert len(seen) == 3


def test_without_an_answer_it_says_where_it_asked():
    handle, _ = answering(httpx.ConnectError("refused"))
    with client_of(handle, [], attempts=2) as client, pytest.raises(ServiceError, match="http://service.*csd serve"):
        client.ready()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 507])
def test_other_refusals_are_not_repeated(status):
    handle, seen = answering(problem(status, "some"))
    with client_of(handle, []) as client, pytest.raises(ServiceError):
        client.ready()
    assert len(seen) == 1


def test_a_proxys_page_is_an_error_too():
    handle, _ = answering(httpx.Response(502, text="<html>"))
    with client_of(handle, []) as client, pytest.raises(ServiceError, match="502"):
        client.ready()


def test_another_web_server_is_told_from_the_service():
    handle, _ = answering(httpx.Response(200, text="<html>"))
    with client_of(handle, []) as client, pytest.raises(ServiceError, match="no csd service") as refused:
        client.ready()
    assert refused.value.slug == "no-service"


@pytest.mark.parametrize(("item", "path"), [("a/b", "a%2Fb"), ("..", "%2E%2E"), ("ä ?", "%C3%A4%20%3F")])
def test_an_id_is_one_piece_of_the_path(item, path):
    handle, seen = answering(httpx.Response(200, json={"id": item}))
    with client_of(handle, []) as client:
        client.item(item)
    assert seen[0].url.raw_path.decode() == f"/v1/items/{path}"


def test_a_key_goes_with_every_request():
    handle, seen = answering(READY)
    with client_of(handle, [], key="csd_x") as client:
        client.ready()
    assert seen[0].headers["Authorization"] == "Bearer csd_x"


def test_it_says_only_what_was_asked_for():
    hits = {"hits": [], "release": 1, "model": "m", "variant": "fp32", "rows": 0, "exact": True, "newer": 1}
    handle, seen = answering(httpx.Response(200, json=hits))
    with client_of(handle, []) as client:
        found = client.search(item="a", label=["7"], k=3)
    assert found == SearchResult(hits=(), release=1, model="m", variant="fp32", rows=0, exact=True)
    body = json.loads(seen[0].content)
    assert body == {"item": "a", "k": 3, "filters": {"label": ["7"]}, "release": "active"}


@pytest.mark.parametrize("channels", [1, 3])
def test_an_array_is_sent_with_its_very_pixels(channels):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, channels), np.uint8)
    handle, seen = answering(httpx.Response(200, json={"vectors": [[1.0]], "model": "m", "release": 1}))
    with client_of(handle, []) as client:
        client.embed([image])
    (sent,) = json.loads(seen[0].content)["images"]
    form = ImageForm(size=8, channels=channels, resize="squash")
    np.testing.assert_array_equal(decode(base64.b64decode(sent), form), image)


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), "nowhere.png"])
def test_what_is_no_image_is_not_sent(image):
    handle, seen = answering(READY)
    with client_of(handle, []) as client, pytest.raises(DataError, match=r"must be uint8|nowhere.png: cannot be read"):
        client.put("a", image, label="b")
    assert seen == []


@pytest.mark.parametrize("url", ["service:8000", "127.0.0.1:8000", "http://", "http://[::1", "ftp://service"])
def test_what_is_no_address_is_refused_at_once(url):
    with pytest.raises(ParamsError, match="is no address"):
        Client(url)


def test_an_array_finds_what_its_file_finds(service):
    with Client(service) as client:
        assert client.search(pixels_of(2, 1, seed=1)[0], k=3) == client.search(png(2), k=3)


def test_it_embeds_and_searches_a_real_service(service, tmp_path):
    path = tmp_path / "query.png"
    path.write_bytes(png(2))
    with Client(service) as client:
        embedded = client.embed([path, png(3)])
        assert embedded.vectors.shape == (2, 16)
        np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-5)
        by_image = client.search(path, k=3)
        by_vector = client.search(vector=embedded.vectors[0], model=embedded.model, k=3)
        assert by_image.hits == by_vector.hits
        assert [hit.label for hit in by_image.hits] == ["t2-a"] * 3
        first = by_image.hits[0].id
        assert client.item(first)["label"] == "t2-a"
        assert client.image(first).startswith(b"\x89PNG")
        assert client.releases()["served"] == 2
        with pytest.raises(ServiceError) as missing:
            client.item("nobody")
        assert missing.value.status == 404


def test_it_loads_neither_torch_nor_lancedb():
    code = "import sys, csd_core.client; print([n for n in ('torch', 'lancedb', 'onnxruntime') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_shows_what_a_service_finds(service, tmp_path):
    path = tmp_path / "query.png"
    path.write_bytes(png(2))
    command = [sys.executable, "-m", "csd_core.cli", "query", str(path), "--url", service, "-k", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("t2-a") == 3
    assert "release 2, 96 rows, exact" in done.stdout


def test_the_command_says_in_one_line_that_nobody_answers(tmp_path):
    path = tmp_path / "query.png"
    path.write_bytes(png(2))
    command = [sys.executable, "-m", "csd_core.cli", "query", str(path), "--url", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "is `csd serve` running there?" in done.stderr
