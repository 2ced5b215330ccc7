import base64
import io

import numpy as np
from PIL import Image

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.report.charts import thumbnails
from csd_core.report.charts.thumbnails import Thumbnails, shrunk


def pool_of(images):
    count = len(images)
    names = np.full(count, "a")
    shard = Shard(record=None, images=images, ids=names, labels=names, splits=names)
    return ItemPool(shards=[shard])


def random_images(count, size, channels):
    return np.random.default_rng(0).integers(256, size=(count, size, size, channels)).astype(np.uint8)


def sheet_of(shown):
    data = base64.b64decode(shown.data_uri().removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_tile_is_where_its_place_says_with_a_margin_of_its_own_edge():
    tiles = random_images(5, 4, 1)
    shown = Thumbnails(items=(3, 8, 9, 20, 21), tiles=tiles)
    sheet = sheet_of(shown)
    for tile, (column, row) in zip(tiles, (shown.places()[item] for item in shown.items), strict=True):
        framed = sheet[row * 6 : row * 6 + 6, column * 6 : column * 6 + 6]
        assert (framed == np.pad(tile[..., 0], 1, "edge")).all()


def test_colour_stays_colour():
    shown = Thumbnails(items=(0, 1), tiles=random_images(2, 4, 3))
    assert sheet_of(shown)[1:5, 1:5].tolist() == shown.tiles[0].tolist()


def test_small_images_are_left_as_they_are():
    images = random_images(6, 8, 1)
    assert (shrunk(pool_of(images), np.array([4, 1])) == images[[4, 1]]).all()


def test_large_images_become_thumbnails():
    images = np.full((3, 100, 100, 3), 77, np.uint8)
    tiles = shrunk(pool_of(images), np.arange(3))
    assert tiles.shape == (3, thumbnails.LARGEST, thumbnails.LARGEST, 3)
    assert (tiles == 77).all()


def test_many_images_become_smaller_so_that_the_page_stays_small(monkeypatch):
    monkeypatch.setattr(thumbnails, "BUDGET", 10_000)
    tiles = shrunk(pool_of(random_images(20, 40, 1)), np.arange(20))
    assert tiles.shape == (20, 22, 22, 1)
    tiles = shrunk(pool_of(random_images(20, 40, 3)), np.arange(20))
    assert tiles.shape == (20, thumbnails.SMALLEST, thumbnails.SMALLEST, 3)


def test_no_images_make_no_tiles():
    tiles = shrunk(pool_of(random_images(2, 8, 1)), np.empty(0, np.intp))
    assert len(Thumbnails(items=(), tiles=tiles).places()) == 0
