"""Images beside their vectors, or references to them."""

import http.server
import threading

import numpy as np
import pytest
from PIL import Image

from csd_core.data.decode import decode
from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.data.tables import write_table
from csd_core.live.images import content_id, encode_png, fetch, unreachable
from csd_core.live.rows import LiveItems, StoredImages
from csd_core.records.stages import ImageForm, ShardRecord
from csd_core.releases.pool_images import PoolImages
from csd_core.system.errors import DataError
from csd_core.workspace import Workspace

FORM = ImageForm(size=8, channels=1, resize="squash")


def random_images(count, *, channels=1, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


@pytest.fixture
def shards(tmp_path):
    """Two shards on disk and as a pool."""
    made = []
    for number, task in enumerate(("t1", "t2")):
        images = random_images(5, seed=number)
        folder = Workspace(tmp_path).shard(task)
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", images)
        write_table(
            folder / "items.parquet", {"source": ["s"] * 5, "path": [f"a/{task}-{row}.png" for row in range(5)]}
        )
        record = ShardRecord(task=task, source="s", classes=("a",), counts={"train": 5}, skipped=0, digest="d")
        ids = np.array([content_id(image) for image in images])
        made.append(Shard(record=record, images=images, ids=ids, labels=np.full(5, "a"), splits=np.full(5, "train")))
    return ItemPool(shards=made)


def write(live, gallery, images: StoredImages, ids):
    count = len(ids)
    live.build("g", gallery, origin="pipeline", images=None)
    live.upsert(
        "g",
        LiveItems(
            ids=np.array(ids),
            labels=np.full(count, "a"),
            vectors=gallery.vectors[:count],
            embedded_by="model-1",
            images=images,
        ),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_stored_pixels_come_back_exactly(channels):
    form = FORM.model_copy(update={"channels": channels})
    for image in random_images(5, channels=channels):
        np.testing.assert_array_equal(decode(encode_png(image), form), image)


@pytest.mark.parametrize("kept", ["store", "reference"])
def test_the_pipelines_images_are_had_again_whether_stored_or_referred_to(
    live, gallery_of_items, shards, tmp_path, kept
):
    source = PoolImages(shards.shards, kept=kept, thumbnails=True, workspace=Workspace(tmp_path))
    wanted = shards.ids[[7, 0, 4, 9]]
    write(live, gallery_of_items(4), source(wanted), wanted)
    fetched = live.images_of("g", wanted[::-1], form=FORM)
    assert fetched.failed == {}
    assert fetched.ids.tolist() == wanted[::-1].tolist()
    np.testing.assert_array_equal(fetched.images, shards.images(shards.positions(wanted[::-1])))
    refs = live.rows("g", ids=wanted, columns=["id", "image_ref"]).to_pylist()
    expected = {"store": None, "reference": "data/shards/t2/images.npy#2"}
    assert {row["id"]: row["image_ref"] for row in refs}[wanted[0]] == expected[kept]


def test_images_of_another_size_are_resized_as_ingest_does(live, gallery_of_items):
    (large,) = random_images(1, size=20)
    write(live, gallery_of_items(1), StoredImages([encode_png(large)], [None]), ["x"])
    fetched = live.images_of("g", ["x"], form=FORM)
    np.testing.assert_array_equal(fetched.images[0], decode(encode_png(large), FORM))


def test_images_that_cannot_be_had_are_listed_with_the_reason_and_the_others_come(
    live, gallery_of_items, shards, tmp_path
):
    (good,) = random_images(1, seed=9)
    Image.fromarray(good[..., 0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    refs = {
        "path": "good.png",
        "absolute": str(tmp_path / "good.png"),
        "gone": "gone.png",
        "bad": "bad.png",
        "other": "data/shards/t1/images.npy#3",
        "beyond": "data/shards/t1/images.npy#99",
        "no shard": "data/shards/t9/images.npy#0",
        "refused": "http://127.0.0.1:9/x.png",
    }
    write(live, gallery_of_items(9), StoredImages([None] * 9, [*refs.values(), None]), [*refs, "nothing"])
    fetched = live.images_of("g", [*refs, "nothing", "absent"], form=FORM)
    assert fetched.ids.tolist() == ["path", "absolute"]
    np.testing.assert_array_equal(fetched.images, np.stack([good, good]))
    reasons = fetched.failed
    assert reasons["gone"] == "gone.png: there is no such file"
    assert reasons["bad"] == "is not an image of a known format"
    assert reasons["other"] == "data/shards/t1/images.npy#3 holds another image now"
    assert reasons["beyond"] == "data/shards/t1/images.npy has 5 images, no row 99"
    assert "missing" in reasons["no shard"]
    assert reasons["refused"].startswith("http://127.0.0.1:9/x.png cannot be fetched")
    assert reasons["nothing"] == "has neither an image nor a reference to one"
    assert reasons["absent"] == "is not in table g"


def test_images_that_are_not_where_their_references_say_are_found_without_reading_one(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8, 1), np.uint8))
    (tmp_path / "there.png").write_bytes(b"not looked into")
    refs = {
        "a": None,
        "b": "",
        "c": "gone.png",
        "d": "images.npy#2",
        "e": "gone.npy#0",
        "f": "there.png",
        "g": "images.npy#1",
        "h": "http://example.invalid/photo.png",
    }
    found = unreachable(refs, root=tmp_path)
    assert found.keys() == {"a", "b", "c", "d", "e"}
    assert found["a"] == found["b"] == "has neither an image nor a reference to one"
    assert found["c"] == "gone.png: there is no such file"
    assert found["d"].endswith("has 2 images, no row 2")


def test_an_image_at_an_address_is_fetched(tmp_path):
    (image,) = random_images(1)
    content = encode_png(image)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        address = f"http://127.0.0.1:{server.server_port}/image.png"
        np.testing.assert_array_equal(fetch(address, form=FORM, root=tmp_path), image)
        server.shutdown()
        serving.join()


def test_other_schemes_than_http_are_paths_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="ftp://x/y.png: there is no such file"):
        fetch("ftp://x/y.png", form=FORM, root=tmp_path)
