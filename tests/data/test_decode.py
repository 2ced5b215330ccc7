import io
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from csd_core.data.decode import decode, resize
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

RGB4 = ImageForm(size=4, channels=3, resize="squash")
GREY4 = ImageForm(size=4, channels=1, resize="squash")


def of_mode(mode, colour, size=(4, 4)):
    return Image.new(mode, size, colour)


def palette_with_a_transparent_colour():
    image = of_mode("P", 0)
    image.putpalette([200, 100, 50, 10, 20, 30])
    image.putpixel((0, 0), 1)
    return image


@pytest.mark.parametrize(
    ("mode", "colour", "file_format", "rgb"),
    [
        ("1", 1, "PNG", (255, 255, 255)),
        ("L", 100, "PNG", (100, 100, 100)),
        ("L", 100, "BMP", (100, 100, 100)),
        ("LA", (200, 128), "PNG", (100, 100, 100)),
        ("P", 0, "TIFF", (0, 0, 0)),
        ("PA", (0, 128), "TIFF", (0, 0, 0)),
        ("RGB", (200, 100, 50), "PNG", (200, 100, 50)),
        ("RGBA", (200, 100, 50, 128), "PNG", (100, 50, 25)),
        ("RGBA", (200, 100, 50, 0), "PNG", (0, 0, 0)),
        ("RGBX", (200, 100, 50, 0), "TIFF", (200, 100, 50)),
        ("CMYK", (0, 0, 0, 0), "JPEG", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("YCbCr", (100, 128, 128), "TIFF", (100, 100, 100)),
        ("LAB", (255, 128, 128), "TIFF", (255, 255, 255)),
        ("I;16", 25700, "PNG", (100, 100, 100)),
        ("I;16B", 25700, "TIFF", (100, 100, 100)),
        ("I", 25700, "TIFF", (100, 100, 100)),
        ("I", 1 << 20, "TIFF", (255, 255, 255)),
        ("F", 0.4, "TIFF", (102, 102, 102)),
        ("F", 100.0, "TIFF", (100, 100, 100)),
        ("F", -5.0, "TIFF", (0, 0, 0)),
    ],
)
def test_any_mode_becomes_rgb_and_grey(encoded, mode, colour, file_format, rgb):
    file = encoded(of_mode(mode, colour), file_format)
    found = decode(file, RGB4)
    assert found.shape == (4, 4, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[1, 1], rgb, atol=2)
    luma = np.dot(rgb, (0.299, 0.587, 0.114))
    grey = decode(file, GREY4)
    assert grey.shape == (4, 4, 1)
    np.testing.assert_allclose(grey[1, 1], luma, atol=2)


BEHIND = {"black": 0, "white": 255, "grey": 128, "#102030": (16, 32, 48)}


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("background", BEHIND)
def test_transparency_lies_on_the_background(encoded, background, file_format):
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    half = of_mode("RGBA", (200, 100, 50, 128))
    half.putpixel((0, 0), (200, 100, 50, 0))
    found = decode(encoded(half, file_format, **options), RGB4.model_copy(update={"background": background}))
    behind = np.broadcast_to(BEHIND[background], 3)
    np.testing.assert_array_equal(found[0, 0], behind)
    np.testing.assert_allclose(found[1, 1], (np.array((200, 100, 50)) + behind) / 2, atol=2)


@pytest.mark.parametrize("colour", [0, 64, 128, 192, 255])
def test_no_plain_shape_vanishes_on_a_checker(encoded, colour):
    form = ImageForm(size=32, channels=1, resize="squash", background="checker")
    empty, shape = of_mode("LA", (0, 0), (32, 32)), of_mode("LA", (0, 0), (32, 32))
    shape.paste((colour, 255), (8, 8, 24, 24))
    behind, found = decode(encoded(empty), form)[..., 0], decode(encoded(shape), form)[..., 0]
    squares = (np.indices((32, 32)) // 4).sum(0) % 2
    np.testing.assert_array_equal(behind, np.where(squares, 192, 64))
    assert (np.abs(found.astype(int) - behind)[8:24, 8:24] >= 60).mean() >= 0.5


def test_a_checker_goes_on_from_band_to_band(encoded, monkeypatch):
    rng = np.random.default_rng(1)
    file = encoded(Image.fromarray(rng.integers(0, 256, (50, 30, 4), np.uint8), "RGBA"))
    form = ImageForm(size=16, channels=3, resize="pad", background="checker")
    whole = decode(file, form)
    monkeypatch.setattr("csd_core.data.pixels._BAND", 30 * 7)
    np.testing.assert_array_equal(decode(file, form), whole)


def test_an_opaque_image_is_the_same_on_every_background(encoded):
    file = encoded(np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8))
    for background in (*BEHIND, "checker"):
        np.testing.assert_array_equal(
            decode(file, RGB4.model_copy(update={"background": background})), decode(file, RGB4)
        )


@pytest.mark.parametrize("background", [*BEHIND, "checker"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_padded_image_lies_on_the_background(encoded, background, channels):
    form = ImageForm(size=8, channels=channels, resize="pad", background=background)
    found = decode(encoded(np.full((4, 8), 90, np.uint8)), form)
    around = np.array(BEHIND.get(background, 128)) * np.ones(3)
    expected = around if channels == 3 else [np.round(around @ (0.299, 0.587, 0.114))]
    for row in (0, 1, 6, 7):
        np.testing.assert_allclose(found[row, 3], expected, atol=1)
    assert (found[2:6] == 90).all()


def test_a_transparent_palette_colour_becomes_black(encoded):
    found = decode(encoded(palette_with_a_transparent_colour(), transparency=1), RGB4)
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[1, 1].tolist() == [200, 100, 50]


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].T,
    8: np.rot90,
    9: lambda stored: stored,  # no such orientation
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_turns_an_image_upright_once(encoded, orientation, file_format):
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4) * 15
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(stored, file_format, exif=exif)
    np.testing.assert_array_equal(decode(file, GREY4)[..., 0], UPRIGHT[orientation](stored))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01"])
def test_an_image_with_damaged_exif_is_used_as_it_is_stored(encoded, exif):
    found = decode(encoded(of_mode("RGB", (200, 200, 200)), "JPEG", exif=exif), RGB4)
    np.testing.assert_allclose(found, 200, atol=2)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame(encoded, file_format):
    frames = [of_mode("RGB", colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if file_format == "WEBP" else {}
    file = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(file)).n_frames == 3
    assert decode(file, RGB4)[0, 0].tolist() == [255, 0, 0]


def test_a_file_that_is_cut_short_is_refused(encoded):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for file_format in ("JPEG", "PNG", "BMP"):
        whole = encoded(noise, file_format)
        with pytest.raises(DataError, match=r"^is damaged: "):
            decode(whole[: len(whole) // 2], RGB4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not an image", "is not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is EPS or PostScript, which is not read; convert it to PNG or JPEG"),
        (b"8BPS\0\1", "is PSD, which is not read; convert it to PNG or JPEG"),
        (b"\0\0\0\x18ftypheic", "is HEIC, which is not read; convert it to PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n", "is not an image of a known format"),
    ],
    ids=["zero-bytes", "text", "postscript", "photoshop", "heic", "png-header-only"],
)
def test_what_is_no_image_is_refused_in_few_words(tmp_path, content, reason):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    for file in (content, path):
        with pytest.raises(DataError) as caught:
            decode(file, RGB4)
        assert str(caught.value) == reason


def test_a_missing_or_forbidden_file_is_refused_without_its_path(tmp_path):
    with pytest.raises(DataError, match=r"^cannot be read: No such file or directory$"):
        decode(tmp_path / "absent.png", RGB4)
    with pytest.raises(DataError, match=r"^cannot be read: Is a directory$"):
        decode(tmp_path, RGB4)


def test_damage_that_makes_a_codec_stumble_is_a_reason_too(encoded, monkeypatch):
    def stumble(*_args, **_options):
        raise KeyError("tag")

    monkeypatch.setattr(Image.Image, "resize", stumble)
    with pytest.raises(DataError, match=r"^is damaged: KeyError$"):
        decode(encoded(of_mode("L", 1, (9, 9))), RGB4)


def test_any_single_byte_of_damage_is_decoded_or_refused(encoded):
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (16, 16, 3), np.uint8)
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file_format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
            whole = bytearray(encoded(noise, file_format))
            for position in rng.integers(0, min(len(whole), 400), 60):
                damaged = bytearray(whole)
                damaged[position] ^= 0xFF
                try:
                    outcomes.add(decode(bytes(damaged), RGB4).shape)
                except DataError:
                    outcomes.add("refused")
    assert outcomes == {(4, 4, 3), "refused"}


@pytest.mark.parametrize("size", [(12, 12), (22, 12)], ids=["above-the-limit", "above-twice-the-limit"])
@pytest.mark.parametrize("filters", ["error", "ignore"])
def test_the_bomb_limit_holds_whatever_becomes_of_warnings(encoded, monkeypatch, size, filters):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter(filters)
        with pytest.raises(DataError, match="limit of 100|limit is 100"):
            decode(encoded(of_mode("L", 0, size)), GREY4)
        assert decode(encoded(of_mode("L", 7, (10, 10))), GREY4).max() == 7


def test_without_a_limit_there_are_no_bombs(encoded, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(encoded(of_mode("L", 7, (30, 30))), GREY4).max() == 7


def test_pixels_that_are_no_numbers_are_refused(encoded):
    with pytest.raises(DataError, match="not finite"):
        decode(encoded(of_mode("F", float("nan")), "TIFF"), GREY4)


@pytest.mark.parametrize("rule", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (7, 5), (4, 4)])
def test_extreme_shapes_fit_under_every_rule(encoded, rule, shape):
    image = np.full(shape, 90, np.uint8)
    found = decode(encoded(image), ImageForm(size=4, channels=1, resize=rule))
    assert found.shape == (4, 4, 1)
    assert found.max() == 90


def test_squash_keeps_everything_pad_the_aspect_and_crop_the_centre(encoded):
    wide = np.zeros((8, 16), np.uint8)
    wide[:, :4], wide[:, 4:12], wide[:, 12:] = 100, 200, 50
    forms = {rule: ImageForm(size=8, channels=1, resize=rule) for rule in ("squash", "pad", "crop")}
    found = {rule: decode(encoded(wide), form)[..., 0] for rule, form in forms.items()}
    np.testing.assert_allclose(found["squash"][:, 0], 100, atol=3)
    np.testing.assert_allclose(found["squash"][:, -1], 50, atol=3)
    assert found["pad"][[0, 1, 6, 7]].max() == 0
    assert found["pad"][2:6].min() > 0
    assert (found["crop"] == 200).all()


@pytest.mark.parametrize(("shape", "share"), [((256, 256), 0.875), ((300, 256), 0.875), ((256, 400), 0.5)])
def test_a_crop_with_a_margin_is_a_resize_and_a_crop_of_the_centre(encoded, shape, share):
    """As the usual "resize 256, crop 224"."""
    size = round(256 * share)
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    found = decode(encoded(image), ImageForm(size=size, channels=1, resize="crop", crop_share=share))
    top, left = ((side - size) // 2 for side in shape)
    np.testing.assert_array_equal(found[..., 0], image[top : top + size, left : left + size])


def test_a_jpeg_is_drafted_no_smaller_for_a_crop_with_a_margin(encoded):
    noise = np.random.default_rng(4).integers(0, 256, (10, 10, 3), np.uint8)
    photo = encoded(Image.fromarray(noise).resize((600, 600)), "JPEG", quality=90)
    form = ImageForm(size=100, channels=3, resize="crop", crop_share=0.25)
    whole = encoded(Image.open(io.BytesIO(photo)))
    np.testing.assert_array_equal(decode(photo, form), decode(whole, form))


def test_an_image_in_its_form_is_taken_as_it_is_so_that_stored_ones_stay(encoded):
    image = np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8)
    form = ImageForm(size=8, channels=1, resize="crop", crop_share=0.5)
    np.testing.assert_array_equal(decode(encoded(image), form)[..., 0], image)


def test_shrinking_does_not_alias(encoded):
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    found = decode(encoded(checkers), GREY4)
    np.testing.assert_allclose(found, 127.5, atol=3)


@pytest.mark.parametrize("rule", ["squash", "pad", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(9, 6, 1), (9, 6, 3), (2, 3, 1), (4, 4, 1), (4, 4, 3)])
@pytest.mark.parametrize(("background", "share"), [("black", 1.0), ("#a0b0c0", 0.8)])
def test_an_array_becomes_what_a_file_with_its_pixels_becomes(encoded, rule, channels, shape, background, share):
    images = np.random.default_rng(2).integers(0, 256, (3, *shape), np.uint8)
    form = ImageForm(size=4, channels=channels, resize=rule, background=background, crop_share=share)
    files = [encoded(image[..., 0] if shape[2] == 1 else image) for image in images]
    np.testing.assert_array_equal(resize(images, form), np.stack([decode(file, form) for file in files]))


@pytest.mark.parametrize("rule", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(100, 70), (1000, 700)])
def test_a_large_jpeg_that_its_decoder_shrinks_looks_as_if_it_had_been_decoded_whole(encoded, rule, size):
    noise = np.random.default_rng(4).integers(0, 256, (7, 10, 3), np.uint8)
    photo = encoded(Image.fromarray(noise).resize(size), "JPEG", quality=90)
    form = ImageForm(size=16, channels=3, resize=rule)
    whole = encoded(Image.open(io.BytesIO(photo)))
    difference = np.abs(decode(photo, form).astype(int) - decode(whole, form))
    assert difference.max() > 0  # the decoder did shrink it
    assert difference.mean() < 2
    assert difference.max() < 16


def test_arrays_of_the_right_form_are_not_copied():
    images = np.zeros((5, 4, 4, 1), np.uint8)
    assert resize(images, GREY4) is images


def test_decoding_a_file_and_its_bytes_is_the_same(encoded, tmp_path):
    file = encoded(np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8), "JPEG")
    path = tmp_path / os.fsdecode("ünï 🐈.jpg")
    path.write_bytes(file)
    np.testing.assert_array_equal(decode(path, RGB4), decode(file, RGB4))
