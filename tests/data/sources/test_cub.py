import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from published_sets import cub, known_as, pack, unpack

from csd_core.data.canonical import load_source, write_source
from csd_core.data.decode import Box, decode
from csd_core.data.sources import cub as cub_source
from csd_core.data.sources import registry
from csd_core.data.sources.cub import CUB200, open_cub
from csd_core.params.sources import Cub200Source
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

FORM = ImageForm(size=8, channels=3, resize="squash")
TOP = "CUB_200_2011"


def ingest(source, target, *, form=FORM, max_rejected=0):
    complaints = target.with_suffix(".parquet")
    write_source(target, source, name="set", form=form, max_rejected=max_rejected, complaints=complaints)
    return load_source(target)


def open_folder(root, members, published, **options):
    unpack(root, members)
    return open_cub(root, crop_to_box=False, limit_per_class=None, published=published, **options)


def changed(members, name, change):
    """The members with another text file."""
    return members | {f"{TOP}/{name}": change(members[f"{TOP}/{name}"].decode()).encode()}


def test_the_archive_and_its_folder_give_the_same_photos_in_their_sets(tmp_path):
    members, published = cub()
    path = tmp_path / "CUB_200_2011.tgz"
    packed = known_as(published, pack(path, members))
    source = open_cub(path, crop_to_box=False, limit_per_class=None, published=packed)
    assert (source.notes, len(source)) == ((), 8)
    found = ingest(source, tmp_path / "a")
    assert found.paths[[0, 7]].tolist() == [
        "test/001.Bird_0/Bird_0000.jpg",
        "train/002.Bird_1/Bird_0007.jpg",
    ]
    assert found.source_splits.tolist() == ["test"] * 4 + ["train"] * 4
    assert found.record.classes == ("001.Bird_0", "002.Bird_1")
    for image, name in zip(found.images, found.paths, strict=True):
        original = members[f"{TOP}/images/{name.split('/', 1)[1]}"]
        np.testing.assert_array_equal(image, decode(original, FORM))

    unpacked = open_folder(tmp_path / "folder", members, published)
    (note,) = unpacked.notes
    assert note.endswith("CUB_200_2011 are not compared with the published ones; those in CUB_200_2011.tgz are")
    ingest(unpacked, tmp_path / "b")
    for name in ("images.npy", "items.parquet", "rejected.parquet", "source.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_box_cuts_out_what_is_in_it(tmp_path):
    members, published = cub()
    unpack(tmp_path, members)
    whole, cut = (
        ingest(
            open_cub(tmp_path, crop_to_box=crop, limit_per_class=None, published=published), tmp_path / f"set-{crop}"
        )
        for crop in (False, True)
    )
    assert cut.images.min() > 200  # the bright square alone
    assert whole.images[0, 0, 0].max() < 50


def test_a_limit_keeps_the_first_by_name_of_each_class_in_each_set(tmp_path):
    members, published = cub()
    unpack(tmp_path, members)
    source = open_cub(tmp_path, crop_to_box=False, limit_per_class=1, published=published)
    assert [each.file.path for each in source.photos] == [
        "test/001.Bird_0/Bird_0000.jpg",
        "test/002.Bird_1/Bird_0004.jpg",
        "train/001.Bird_0/Bird_0001.jpg",
        "train/002.Bird_1/Bird_0005.jpg",
    ]


def test_a_damaged_photo_is_rejected_by_name_and_a_copy_is_a_duplicate(tmp_path):
    members, published = cub()
    members[f"{TOP}/images/001.Bird_0/Bird_0000.jpg"] = b"no image"
    members[f"{TOP}/images/001.Bird_0/Bird_0003.jpg"] = members[f"{TOP}/images/001.Bird_0/Bird_0002.jpg"]
    found = ingest(open_folder(tmp_path, members, published), tmp_path / "set", max_rejected=1)
    assert (found.record.images, found.record.rejected, found.record.duplicates) == (6, 1, 1)
    assert pq.read_table(tmp_path / "set" / "rejected.parquet").to_pylist() == [
        {"path": "test/001.Bird_0/Bird_0000.jpg", "reason": "is not an image of a known format"},
        {"path": "train/001.Bird_0/Bird_0003.jpg", "reason": "duplicate of test/001.Bird_0/Bird_0002.jpg"},
    ]


def test_a_box_beside_its_photo_rejects_the_photo(tmp_path):
    members, published = cub()
    members = changed(members, "bounding_boxes.txt", lambda text: text.replace("1 10.0 5.0", "1 40.0 5.0", 1))
    unpack(tmp_path, members)
    source = open_cub(tmp_path, crop_to_box=True, limit_per_class=None, published=published)
    ingest(source, tmp_path / "set", max_rejected=1)
    assert pq.read_table(tmp_path / "set" / "rejected.parquet")["reason"].to_pylist() == [
        "has 40 x 30 pixels, none of them in its box (40.0, 5.0, 12.0, 8.0)"
    ]


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("images.txt", lambda t: t.replace("001.Bird_0/", "../001.Bird_0/", 1), "is no file in its class's folder"),
        ("images.txt", lambda t: t.replace("001.Bird_0/Bird", "001.Bird_0/../Bird", 1), "is no file in its class's"),
        ("images.txt", lambda t: t.replace("001.Bird_0/Bird_0000.jpg", "/etc/passwd", 1), "/etc/passwd is no file"),
        ("images.txt", lambda t: t.replace("001.Bird_0/Bird_0000.jpg", "001.Bird_0/..", 1), "is no file in its class"),
        ("images.txt", lambda t: t.replace("001.Bird_0/Bird_0000.jpg", "002.Bird_1/Bird_0004.jpg", 1), "001.Bird_0"),
        ("images.txt", lambda t: t.replace("Bird_0000.jpg", "absent.jpg"), "lacks images/001.Bird_0/absent.jpg; fetch"),
        ("images.txt", lambda t: t.split("\n", 1)[1], "has 7 lines, 7 different numbers; the set has 8"),
        ("images.txt", lambda t: t.replace("2 001", "1 001", 1), "has 8 lines, 7 different numbers; the set has 8"),
        ("images.txt", lambda t: t.replace("8 002", "9 002", 1), "number other images"),
        ("images.txt", lambda _: "", "has 0 lines"),
        ("image_class_labels.txt", lambda t: t.replace("1 1", "1 3", 1), "image 1: classes.txt has no class 3"),
        ("image_class_labels.txt", lambda t: t.replace("1 1", "1 1 1", 1), "line 1 has 3 words, not 2"),
        ("train_test_split.txt", lambda t: t.replace("1 0", "1 2", 1), "image 1: 2 is neither 0 nor 1"),
        ("bounding_boxes.txt", lambda t: t.replace("10.0", "ten", 1), "image 1: ten 5.0 12.0 8.0 is no box"),
        ("bounding_boxes.txt", lambda t: t.replace("10.0", "nan", 1), "image 1: nan 5.0 12.0 8.0 is no box"),
        ("bounding_boxes.txt", lambda t: t.replace(" 8.0", "", 1), "line 1 has 4 words, not 5"),
        ("classes.txt", lambda t: t + "3 003.Bird_2\n", "has 3 lines, 3 different numbers; the set has 2"),
    ],
)
def test_text_files_that_say_what_cannot_be_are_refused(name, change, complaint, tmp_path):
    members, published = cub()
    with pytest.raises(DataError, match=re.escape(complaint)) as caught:
        open_folder(tmp_path, changed(members, name, change), published)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["images.txt", "classes.txt", "train_test_split.txt", "bounding_boxes.txt"])
def test_a_missing_file_is_named_with_the_archive_to_fetch(name, tmp_path):
    members, published = cub()
    del members[f"{TOP}/{name}"]
    path = tmp_path / "CUB_200_2011.tgz"
    packed = known_as(published, pack(path, members))
    with pytest.raises(DataError, match=rf"lacks {name}; fetch CUB_200_2011.tgz from https"):
        open_cub(path, crop_to_box=False, limit_per_class=None, published=packed)
    with pytest.raises(DataError, match=rf"lacks {name}; fetch CUB_200_2011.tgz from https"):
        open_folder(tmp_path / "folder", members, published)


def test_another_archive_than_the_published_one_is_refused(tmp_path):
    members, published = cub()
    pack(tmp_path / "CUB_200_2011.tgz", members)
    with pytest.raises(DataError, match="CUB_200_2011.tgz: sha256 is .* the published one 0c685df5597a"):
        open_cub(tmp_path, crop_to_box=False, limit_per_class=None, published=published)


def test_parameters_open_the_set(tmp_path, monkeypatch):
    members, published = cub()
    unpack(tmp_path / "birds", members)
    monkeypatch.setattr(cub_source, "CUB200", published)
    settings = Cub200Source(kind="cub200", path="birds", crop_to_box=True, limit_per_class=2)
    source = registry.open_source(settings, root=tmp_path)
    assert (source.kind, len(source), source.crop_to_box) == ("cub200", 8, True)
    assert (CUB200.images, CUB200.classes) == (11_788, 200)


@pytest.mark.parametrize("size", [8, 64])
def test_a_part_of_a_large_photo_looks_as_if_it_had_been_cut_from_the_whole(encoded, size):
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8))
    large = coarse.resize((1600, 1200), Image.Resampling.BICUBIC)
    form = ImageForm(size=size, channels=3, resize="squash")
    cut = decode(encoded(large, "JPEG", quality=95), form, Box(203.0, 100.5, 640.0, 511.0))
    expected = large.crop((203, 100, 843, 612)).resize((size, size), Image.Resampling.BICUBIC)
    assert np.abs(cut.astype(int) - np.asarray(expected)).mean() < 3


def test_a_box_that_reaches_over_the_edge_ends_there(encoded):
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6) * 8
    form = ImageForm(size=2, channels=1, resize="squash")
    for box in (Box(4, 3, 2, 2), Box(4, 3, 100, 100), Box(4.0, 3.0, 1.2, 1.2)):
        np.testing.assert_array_equal(decode(encoded(pixels), form, box)[..., 0], pixels[3:5, 4:6])
    np.testing.assert_array_equal(decode(encoded(pixels), form, Box(-9, -9, 11, 11))[..., 0], pixels[:2, :2])


@pytest.mark.parametrize("box", [Box(6, 0, 1, 1), Box(-2, 0, 2, 2), Box(0, 0, 0, 1), Box(0, 0, 1, -1)])
def test_an_empty_part_is_refused(encoded, box):
    with pytest.raises(DataError, match="has 6 x 5 pixels, none of them in its box"):
        decode(encoded(np.zeros((5, 6), np.uint8)), ImageForm(size=2, channels=1, resize="squash"), box)
