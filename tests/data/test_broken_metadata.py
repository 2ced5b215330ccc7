"""A picture whose pixels are whole is used, whatever became of the words around it; a broken picture is not."""

import struct
import zlib

import bombs
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from csd_core.data.decode import decode
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

FORM = ImageForm(size=6, channels=3, resize="squash")
PIXELS = np.random.default_rng(7).integers(0, 256, (6, 6, 3), np.uint8)
TURNED = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\3\0\0\0\0\0\0\0"
"""EXIF that says: upside down."""


def with_chunk(chunk, *, before=b"IDAT"):
    whole = bombs.saved(Image.fromarray(PIXELS), "PNG")
    at = whole.index(before) - 4
    return whole[:at] + chunk + whole[at:]


def chunk(kind, content, *, crc=None):
    sound = bombs.png_chunk(kind, content)
    return sound if crc is None else sound[:-4] + crc


BROKEN_PNGS = {
    "text with a wrong CRC": chunk(b"tEXt", b"Comment\0hello", crc=b"abcd"),
    "compressed text that is none": chunk(b"zTXt", b"Comment\0\0garbage"),
    "compressed text of an unknown kind": chunk(b"zTXt", b"Comment\0\7garbage"),
    "compressed text that is huge": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4 << 20))),
    "international text without its zeros": chunk(b"iTXt", b"Comment"),
    "empty text": chunk(b"tEXt", b""),
    "EXIF that is none": chunk(b"eXIf", b"garbage"),
    "EXIF cut short": chunk(b"eXIf", TURNED[:12]),
    "EXIF with a wrong CRC": chunk(b"eXIf", TURNED, crc=b"abcd"),
    "EXIF as text that is none": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n8\nzz"),
    "XMP that is huge": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(4 << 20))),
    "a profile cut short": chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(3000))[:9]),
    "a profile without a name": chunk(b"iCCP", b""),
    "gamma of two bytes": chunk(b"gAMA", b"\0\1"),
    "chromaticities cut short": chunk(b"cHRM", b"\0\1\2"),
    "density cut short": chunk(b"pHYs", b"\0"),
    "an intent cut short": chunk(b"sRGB", b""),
    "animation of no frames": chunk(b"acTL", bytes(8)),
    "animation cut short": chunk(b"acTL", b"\0") + chunk(b"fcTL", b"\0"),
    "a private chunk with a wrong CRC": chunk(b"prVt", b"x", crc=b"abcd"),
}


@pytest.mark.parametrize("name", BROKEN_PNGS)
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_png_with_broken_metadata_is_its_pixels(name, before):
    np.testing.assert_array_equal(decode(with_chunk(BROKEN_PNGS[name], before=before), FORM), PIXELS)


def test_a_png_cut_short_after_its_pixels_is_whole():
    whole = with_chunk(chunk(b"tEXt", b"Comment\0" + b"hello" * 99), before=b"IEND")
    np.testing.assert_array_equal(decode(whole[:-60], FORM), PIXELS)


def test_sound_metadata_beside_broken_is_heeded():
    file = with_chunk(chunk(b"iCCP", b"") + chunk(b"eXIf", TURNED))
    np.testing.assert_array_equal(decode(file, FORM), PIXELS[::-1, ::-1])


def test_xmp_says_which_side_is_up_too():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="3"/>')
    file = bombs.saved(Image.fromarray(PIXELS), "PNG", pnginfo=info)
    np.testing.assert_array_equal(decode(file, FORM), PIXELS[::-1, ::-1])


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT"])
def test_a_png_is_refused_if_what_pixels_are_made_of_has_a_wrong_crc(kind):
    image = Image.fromarray(PIXELS).convert("P")
    whole = bytearray(bombs.saved(image, "PNG", transparency=3))
    at = whole.index(kind)
    length = struct.unpack_from(">I", whole, at - 4)[0]
    whole[at + 4 + length] ^= 1
    with pytest.raises(DataError, match=f"is damaged: its {kind.decode()} chunk"):
        decode(bytes(whole), FORM)


BROKEN_SEGMENTS = {
    "EXIF that is none": b"\xff\xe1\0\x10Exif\0\0garbage!",
    "EXIF cut short": b"\xff\xe1\0\x10Exif\0\0II*\0\x08\0\0\0",
    "JFIF of two bytes": b"\xff\xe0\0\x09JFIF\0\1\1",
    "Adobe cut short": b"\xff\xee\0\x07Adobe",
    "pictures that are not there": b"\xff\xe2\0\x0eMPF\0II*\0\xff\xff\xff\0",
    "a profile cut short": b"\xff\xe2\0\x0eICC_PROFILE\0",
    "Photoshop's block cut short": b"\xff\xed\0\x14Photoshop 3.0\0" + b"8BIM",
    "junk": b"junk",
}


@pytest.mark.parametrize("name", BROKEN_SEGMENTS)
def test_a_jpeg_with_broken_segments_is_its_pixels(name):
    whole = bombs.saved(Image.fromarray(PIXELS), "JPEG")
    start = 4 + struct.unpack_from(">H", whole, 4)[0]  # behind its own JFIF
    broken = whole[:start] + BROKEN_SEGMENTS[name] + whole[start:]
    np.testing.assert_array_equal(decode(broken, FORM), decode(whole, FORM))


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP "])
@pytest.mark.parametrize("claimed", [4, 1 << 20], ids=["garbage", "cut short"])
def test_a_webp_with_broken_metadata_is_its_pixels(kind, claimed):
    exif = Image.Exif()
    exif[0x0110] = "camera"
    extra = {"exif": exif.tobytes(), "xmp": b"<x/>"}
    whole = bombs.saved(Image.fromarray(PIXELS), "WEBP", lossless=True, **extra)
    at = whole.index(kind)
    broken = whole[: at + 4] + struct.pack("<I", claimed) + b"\xff\xff\xff\xff"
    broken = broken[:4] + struct.pack("<I", len(broken) - 8) + broken[8:]
    np.testing.assert_array_equal(decode(broken, FORM), PIXELS)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("number", [269, 271, 282, 296, 305, 320, 700, 33723, 34377, 34665, 34675, 34853, 50000])
def test_a_tiff_with_an_odd_tag_is_its_pixels(number, packed):
    """The tag's values lie far behind the file's end."""
    data = zlib.compress(PIXELS.tobytes()) if packed else PIXELS.tobytes()
    sizes = [
        (256, 4, [6]),
        (257, 4, [6]),
        (258, 3, [8] * 3),
        (259, 3, [8 if packed else 1]),
        (262, 3, [2]),
        (277, 3, [3]),
    ]
    sizes += [(273, 4, [0]), (278, 4, [6]), (279, 4, [len(data)])]
    whole = bytearray(bombs.tiff([*sizes, (number, 4, [77] * 9)], data))
    np.testing.assert_array_equal(decode(bytes(whole), FORM), PIXELS)
    entry = whole.index(struct.pack("<HHI", number, 4, 9))
    struct.pack_into("<I", whole, entry + 8, 0xFFFFFF)
    np.testing.assert_array_equal(decode(bytes(whole), FORM), PIXELS)
