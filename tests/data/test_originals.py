"""Small pictures of originals: made beside the canonical pixels, which they never change."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from csd_core.data import decode as decoding
from csd_core.data.canonical import ITEMS, load_source, write_source
from csd_core.data.decode import decode, decode_beside
from csd_core.data.pixels import Box, shaped
from csd_core.data.sources.arrays import ArraySource, Part
from csd_core.data.sources.folder import open_folder
from csd_core.data.thumbnails import THUMBNAILS, Fit, Thumbnails, encoded
from csd_core.records.stages import ImageForm
from csd_core.system.errors import ArtifactError, DataError

FORM = ImageForm(size=8, channels=1, resize="squash")
FIT = Fit(64)


def picture(width, height, *, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def file_of(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def opened(thumbnail):
    return Image.open(io.BytesIO(thumbnail))


def ingest(source, folder, thumbnails):
    write_source(
        folder, source, name="mine", form=FORM, max_rejected=0, complaints=folder / "bad", thumbnails=thumbnails
    )
    return load_source(folder)


@pytest.fixture
def photos(tmp_path):
    """One larger than the form, one as large, one of a format that another process decodes, a copy of the first."""
    folder = tmp_path / "photos" / "shoe"
    folder.mkdir(parents=True)
    (folder / "large.jpg").write_bytes(file_of(picture(300, 100), "JPEG"))
    (folder / "copy.png").write_bytes(file_of(picture(9, 7, seed=2), "PNG"))
    (folder / "copy again.png").write_bytes(file_of(picture(9, 7, seed=2), "PNG"))
    (folder / "small.png").write_bytes(file_of(picture(8, 8, seed=1), "PNG"))
    (folder / "web.webp").write_bytes(file_of(picture(100, 300, seed=3), "WEBP"))
    return tmp_path / "photos"


def test_an_original_larger_than_the_form_has_a_thumbnail_and_no_other(photos, tmp_path):
    items = ingest(open_folder(photos, "classes"), tmp_path / "set", 64)
    pictures = Thumbnails(tmp_path / "set")
    sizes = {
        path: thumbnail and opened(thumbnail).size
        for path, thumbnail in zip(items.paths.tolist(), map(pictures.of, items.ids.tolist()), strict=True)
    }
    assert sizes == {
        "shoe/copy again.png": (9, 7),
        "shoe/large.jpg": (64, 21),
        "shoe/small.png": None,
        "shoe/web.webp": (21, 64),
    }
    assert [pictures.at(row) for row in pictures.rows(items.ids).tolist()] == [*map(pictures.of, items.ids.tolist())]


def test_thumbnails_change_no_other_byte_of_the_set_and_are_the_same_bytes_again(photos, tmp_path):
    for name, size in (("with", 64), ("again", 64), ("without", None)):
        ingest(open_folder(photos, "classes"), tmp_path / name, size)
    for file in ("images.npy", ITEMS, "rejected.parquet", "source.json"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()
    assert (tmp_path / "with" / THUMBNAILS).read_bytes() == (tmp_path / "again" / THUMBNAILS).read_bytes()
    assert not (tmp_path / "without" / THUMBNAILS).exists()


@pytest.mark.parametrize(("size", "expected"), [(64, (20, 10)), (12, (12, 6)), (8, None), (None, None)])
def test_images_that_come_as_an_array_have_thumbnails_too(tmp_path, size, expected):
    images = np.random.default_rng(0).integers(0, 256, (3, 10, 20, 1), np.uint8)
    part = Part(name="all", source_split=None, images=images, labels=np.array(["a", "b", "c"]))
    items = ingest(ArraySource(kind="digits", parts=(part,)), tmp_path / "set", size)
    found = Thumbnails(tmp_path / "set").of(items.ids[1])
    assert (found and opened(found).size) == expected


def test_a_photo_is_upright_and_its_thumbnail_holds_nothing_but_pixels():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # turned by a quarter; the maker
    photo = file_of(picture(200, 100), "JPEG", exif=exif)
    thumbnail = encoded(decode(photo, FIT), FORM)
    assert opened(thumbnail).size == (32, 64)
    assert not opened(thumbnail).getexif()
    assert b"a camera" in photo
    assert b"a camera" not in thumbnail


@given(width=st.integers(1, 200), height=st.integers(1, 200), size=st.integers(1, 128))
@settings(max_examples=60, deadline=None)
def test_to_fit_keeps_the_aspect_and_never_enlarges(width, height, size):
    fitted = decode(file_of(Image.new("L", (width, height)), "PNG"), Fit(size))
    assert fitted.shape[2] == 3
    if max(width, height) <= size:
        assert fitted.shape[:2] == (height, width)
    else:
        assert max(fitted.shape) == max(size, 3)
        scale = size / max(width, height)
        assert abs(fitted.shape[0] - height * scale) <= 1
        assert abs(fitted.shape[1] - width * scale) <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("sides", [(60, 40), (400, 300), (2100, 1500)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_two_forms_of_a_file_are_what_each_alone_is(tmp_path, kind, sides, resize):
    file = tmp_path / "file"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    small = picture(30, 20).resize(sides, Image.Resampling.BICUBIC)
    file.write_bytes(file_of(small, kind, **({"exif": exif} if kind == "JPEG" else {})))
    form = ImageForm(size=48, channels=1, resize=resize, crop_share=0.875, background="grey")
    for box in (None, Box(11, 7, 45, 30)):
        image, thumbnail = decode_beside(file, form, Fit.beside(form, 128), box)
        assert np.array_equal(image, decode(file, form, box))
        assert np.array_equal(thumbnail, decode(file, Fit.beside(form, 128), box))


@pytest.mark.parametrize(
    ("kind", "sides", "times"),
    [("PNG", (400, 300), 1), ("JPEG", (90, 60), 1), ("JPEG", (800, 600), 2)],
    ids=["PNG", "JPEG of one size for both", "JPEG that its decoder shrinks for the form alone"],
)
def test_a_file_is_decoded_once_for_both_unless_its_decoder_shrinks_it_for_one(kind, sides, times, monkeypatch):
    loaded = []
    monkeypatch.setattr(decoding, "shaped", lambda image, *rest: loaded.append(image.size) or shaped(image, *rest))
    decode_beside(file_of(picture(*sides), kind), ImageForm(size=32, channels=3, resize="squash"), Fit(256))
    assert len(loaded) == times


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_an_image_whose_thumbnail_costs_too_much_is_kept_without_one(kind, monkeypatch):
    def refused(file, form, box=None):
        if form.resize == "fit":
            raise DataError("needs more")
        return decode(file, form, box)

    monkeypatch.setattr(decoding, "decode", refused)
    monkeypatch.setattr(decoding, "_small", lambda *_: None)
    form = ImageForm(size=32, channels=3, resize="squash")
    image, thumbnail = decode_beside(file_of(picture(90, 60), kind), form, Fit(64))
    assert image.shape == (32, 32, 3)
    assert thumbnail is None


def test_a_damaged_file_of_thumbnails_is_named(photos, tmp_path):
    ingest(open_folder(photos, "classes"), tmp_path / "set", 64)
    path = tmp_path / "set" / THUMBNAILS
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match=r"thumbnails.arrow: not a whole Arrow file .*; ingest the source again"):
        Thumbnails(tmp_path / "set")
