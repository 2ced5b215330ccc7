"""What a hostile or careless client may send: never a 5xx, never a crash, never memory that stays."""

import base64
import io
import json
import struct
import zlib

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from services import png, published, search, serving


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width, height, *, rows=1):
    """A PNG whose header says it is huge; its data is a few rows."""

    def chunk(kind, content):
        sum_of = zlib.crc32(kind + content) & 0xFFFFFFFF
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum_of)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * (min(width, 1 << 20) + 1) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
WHOLE = {
    "16 bits": saved(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000), "PNG"),
    "CMYK": saved(GREY.convert("CMYK"), "JPEG"),
    "palette": saved(GREY.convert("P"), "GIF"),
    "one bit": saved(GREY.convert("1"), "PNG"),
    "transparent": saved(GREY.convert("RGBA"), "WEBP", lossless=True),
    "1 x 60000": saved(Image.new("L", (1, 60_000)), "PNG"),
    "60000 x 1": saved(Image.new("L", (60_000, 1)), "PNG"),
    "float": saved(Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32)), "TIFF"),
    "trailing rubbish": png(0) + b"<?php" * 1000,
}
BROKEN = {
    "empty": b"",
    "text": b"hello",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "html": b"<!doctype html><script>alert(1)</script>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(evil) run\n",
    "truncated png": png(0)[: len(png(0)) // 2],
    "truncated jpeg": saved(Image.new("L", (64, 64)), "JPEG")[:200],
    "wrong magic": b"\xff\xd8\xff\xe0" + png(0)[4:],
    "bomb by header": png_of_size(100_000, 100_000),
    "bomb by data": saved(Image.new("L", (30_000, 30_000)), "PNG", compress_level=1),
    "zero size": png_of_size(0, 0),
    "nul bytes": bytes(100_000),
    "noise": np.random.default_rng(1).bytes(100_000),
}


@pytest.mark.parametrize("name", WHOLE)
def test_odd_images_are_images(service, name):
    answer = search(service, WHOLE[name])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["hits"]) == 10


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("path", ["/v1/search", "/v1/embed"])
def test_what_is_no_image_is_refused_with_a_reason(service, name, path):
    answer = httpx.post(f"{service}{path}", content=BROKEN[name], headers={"Content-Type": "image/png"}, timeout=60)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["type"] == "urn:csd:problem:bad-image"
    assert "/" not in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"vector": [0.5] * 1_000_000, "model": "m"}),
        "[" * 100_000,
        '{"image": "' + "A" * 1_000_001 + '"}',
        json.dumps({"images": [base64.b64encode(png(0)).decode()] * 2000}),
        '{"k": 1e999, "item": "a"}',
        '{"item": "a", "item": "b", "k": "ten"}',
        "\ud800".encode("utf-8", "surrogatepass"),
        b"\xff\xfe\x00",
        "null",
        '"text"',
    ],
)
def test_json_that_makes_no_sense_is_an_invalid_request(service, body):
    for path in ("/v1/search", "/v1/embed"):
        answer = httpx.post(f"{service}{path}", content=body, headers={"Content-Type": "application/json"}, timeout=60)
        assert answer.status_code == 422, answer.text
        assert len(answer.content) < 10_000


def test_a_body_above_the_limit_is_refused(service):
    answer = httpx.post(
        f"{service}/v1/search", content=bytes(17 << 20), headers={"Content-Type": "image/png"}, timeout=60
    )
    assert answer.status_code == 413


@pytest.mark.slow
def test_memory_does_not_grow_under_bad_uploads(tmp_path):
    project = published(tmp_path / "project", "none")
    with serving(project) as running:
        process = psutil.Process(running.process.pid)

        def attack(rounds):
            with httpx.Client(base_url=running.url, timeout=60) as client:
                for _ in range(rounds):
                    for file in (*BROKEN.values(), *WHOLE.values()):
                        client.post("/v1/search", content=file, headers={"Content-Type": "image/png"})

        attack(3)
        before = process.memory_info().rss
        attack(12)
        assert process.memory_info().rss - before < 32 << 20
        assert running.ready().status_code == 200
