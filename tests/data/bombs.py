"""Small image files that ask for much memory or time; `benchmarks/decode_budget.py` throws them at the decoder too."""

import io
import struct
import zlib

from PIL import Image

SIDE = 6300
"""Just below the 40 megapixels that the service takes."""


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def zeros(size):
    """`size` zero bytes as a zlib stream, without the time to compress them all."""
    step = min(size, 1 << 22)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    end = rest.compress(bytes(size % step)) + rest.flush()
    return b"\x78\x9c" + block * (size // step) + end + struct.pack(">HH", size % 65521, 1)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, bits, colours, *, extra=b"", interlaced=0):
    """A PNG of zeros."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    data = zeros(height * (1 + (width * channels * bits + 7) // 8))
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + (png_chunk(b"PLTE", bytes(768)) if colours == 3 else b"")
        + extra
        + png_chunk(b"IDAT", data)
        + png_chunk(b"IEND", b"")
    )


def tiff(tags, data, *, big=False):
    """A TIFF of one directory; a tag is (number, type, values), and 273 or 324 get the data's place."""
    code = {3: "H", 4: "I"}
    count_form, entry_size, head = ("<Q", 20, 16) if big else ("<H", 12, 8)
    tags = sorted(tags)
    body, extra = b"", b""
    after = head + struct.calcsize(count_form) + entry_size * len(tags) + (8 if big else 4)
    room = 8 if big else 4
    total = sum(len(values) * struct.calcsize(code[kind]) for _, kind, values in tags if len(values) > 1)
    for number, kind, given in tags:
        values = [after + total] if number in (273, 324) else given
        packed = struct.pack(f"<{len(values)}{code[kind]}", *values)
        if len(packed) <= room:
            value = packed.ljust(room, b"\0")
        else:
            value = struct.pack("<Q" if big else "<I", after + len(extra))
            extra += packed
        body += struct.pack("<HHQ" if big else "<HHI", number, kind, len(values)) + value
    extra = extra.ljust(total, b"\0")
    start = b"II" + (struct.pack("<HHHQ", 43, 8, 0, 16) if big else struct.pack("<HI", 42, 8))
    return start + struct.pack(count_form, len(tags)) + body + bytes(8 if big else 4) + extra + data


def tiff_of_zeros(width, height, bits, samples, *, tile=None, sample_format=1, photometric=1, big=False):
    across, down = tile or (width, height)
    data = zeros(across * down * samples * bits // 8)
    tags = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [bits] * samples),
        (259, 3, [8]),
        (262, 3, [photometric]),
        (277, 3, [samples]),
        (339, 3, [sample_format] * samples),
    ]
    if tile:
        tags += [(322, 4, [across]), (323, 4, [down]), (324, 4, [0]), (325, 4, [len(data)])]
    else:
        tags += [(273, 4, [0]), (278, 4, [height]), (279, 4, [len(data)])]
    return tiff(tags, data, big=big)


def jpeg2000_that_claims(side):
    small = bytearray(saved(Image.new("RGB", (64, 64)), "JPEG2000", no_jp2=True))
    at = small.index(b"\xff\x51") + 6
    struct.pack_into(">IIIIII", small, at, side, side, 0, 0, side, side)
    return bytes(small)


def jpeg_that_claims(side, *, mode="CMYK"):
    small = bytearray(saved(Image.new(mode, (64, 64)), "JPEG", progressive=True))
    struct.pack_into(">HH", small, small.index(b"\xff\xc2") + 5, side, side)
    return bytes(small)


def jpeg_of_many_scans(number, side=2000):
    whole = saved(Image.effect_noise((64, 64), 50), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    whole = bytearray(whole[:-2] + whole[last:-2] * number + b"\xff\xd9")
    struct.pack_into(">HH", whole, whole.index(b"\xff\xc2") + 5, side, side)
    return bytes(whole)


def jpeg_with(parts):
    whole = saved(Image.new("RGB", (16, 16), (9, 99, 199)), "JPEG")
    return whole[:2] + parts + whole[2:]


def gif_with_comment(blocks):
    whole = saved(Image.new("P", (16, 16)), "GIF")
    flags = whole[10]
    start = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    return whole[:start] + b"!\xfe" + (b"\xff" + b"x" * 255) * blocks + b"\0" + whole[start:]


def ico_with(content):
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(content), 22) + content


def bmp_that_runs(side):
    """Run-length coded: each pair of bytes is a run of 255."""
    row = b"\xff\x00" * (side // 255) + bytes([side % 255, 0]) + b"\0\0"
    data = row * side + b"\0\1"
    palette = bytes(1024)
    return (
        b"BM"
        + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
        + palette
        + data
    )


def webp_of_canvas(side):
    lossless = saved(Image.new("RGBA", (16, 16)), "WEBP", lossless=True)
    at = lossless.index(b"VP8L")
    frame = struct.pack("<3s3s3s3s3sB", *[number.to_bytes(3, "little") for number in (0, 0, 15, 15, 0)], 0)
    frame += lossless[at:]
    body = b"VP8X" + struct.pack("<IB3x", 10, 0b10010) + (side - 1).to_bytes(3, "little") * 2
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    body += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * 3
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def text_bomb(kind, keyword, megabytes):
    packed = zlib.compress(bytes(megabytes << 20), 9)
    middle = {b"zTXt": b"\0\0", b"iCCP": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    return png(16, 16, 8, 2, extra=png_chunk(kind, keyword + middle + packed))


def tiff_of_many_directories(number):
    """A picture, then directories that are empty but for the place of the next; the last names the first of them."""
    tags = [(256, 4, [16]), (257, 4, [16]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1]), (277, 3, [1])]
    tags += [(273, 4, [0]), (278, 4, [16]), (279, 4, [256])]
    first = bytearray(tiff(tags, bytes(256)))
    struct.pack_into("<I", first, 8 + 2 + 12 * len(tags), len(first))
    starts = [len(first) + 6 * each for each in range(number)]
    return bytes(first) + b"".join(struct.pack("<HI", 0, after) for after in [*starts[1:], starts[0]])


MEMORY = {
    "TIFF, a tile of 32768 x 60800": lambda: tiff_of_zeros(16, 16, 8, 1, tile=(32768, 60800)),
    "TIFF, a tile of RGBA within the limit": lambda: tiff_of_zeros(16, 16, 16, 4, tile=(6304, 6304), photometric=2),
    "TIFF, int32": lambda: tiff_of_zeros(SIDE, SIDE, 32, 1, sample_format=2),
    "TIFF, float": lambda: tiff_of_zeros(SIDE, SIDE, 32, 1, sample_format=3),
    "TIFF, CMYK of 16 bits": lambda: tiff_of_zeros(SIDE, SIDE, 16, 4, photometric=5),
    "BigTIFF, RGB": lambda: tiff_of_zeros(SIDE, SIDE, 8, 3, photometric=2, big=True),
    "PNG, grey of 16 bits": lambda: png(SIDE, SIDE, 16, 0),
    "PNG, RGBA of 16 bits": lambda: png(SIDE, SIDE, 16, 6),
    "PNG, RGBA interlaced": lambda: png(SIDE, SIDE, 8, 6, interlaced=1),
    "PNG, one bit": lambda: png(SIDE, SIDE, 1, 0),
    "PNG, palette": lambda: png(SIDE, SIDE, 8, 3),
    "PNG, text of 100 MB": lambda: text_bomb(b"zTXt", b"Comment", 100),
    "PNG, XMP of 100 MB": lambda: text_bomb(b"iTXt", b"XML:com.adobe.xmp", 100),
    "PNG, profile of 100 MB": lambda: text_bomb(b"iCCP", b"sRGB", 100),
    "JPEG 2000 that claims": lambda: jpeg2000_that_claims(SIDE),
    "JPEG, progressive CMYK that claims": lambda: jpeg_that_claims(SIDE),
    "BMP of runs": lambda: bmp_that_runs(SIDE),
    "ICO with a PNG": lambda: ico_with(png(SIDE, SIDE, 8, 6)),
    "WebP, canvas": lambda: webp_of_canvas(SIDE),
    "PPM that claims": lambda: b"P6 6300 6300 65535\n" + bytes(1000),
    "GIF, screen": lambda: saved(Image.new("P", (SIDE, SIDE)), "GIF"),
}
"""Name -> file."""

TIME = {
    "QOI of 16 MB": lambda: b"qoif" + struct.pack(">IIBB", 4000, 4000, 3, 0) + b"\xa8\x88" * 8_000_000,
    "PPM, plain": lambda: b"P3 2000 2000 255\n" + b"7 " * 12_000_000,
    "PGM, plain": lambda: b"P2 3000 3000 255\n" + b"7 " * 9_000_000,
    "PBM, plain": lambda: b"P1 6000 6000\n" + b"1 " * 8_000_000,
    "PPM, a comment of 16 MB": lambda: b"P6 #" + b"x" * 16_000_000 + b"\n16 16 255\n" + bytes(768),
    "JPEG, scans": lambda: jpeg_of_many_scans(20_000),
    "JPEG, segments": lambda: jpeg_with(b"\xff\xec\0\2" * 2_000_000),
    "JPEG, EXIF in pieces": lambda: jpeg_with((b"\xff\xe1\xff\xffExif\0\0" + bytes(0xFFFF - 8)) * 400),
    "JPEG, junk": lambda: jpeg_with(b"\0" * 16_000_000),
    "JPEG, fill bytes": lambda: jpeg_with(b"\xff" * 16_000_000),
    "PNG, chunks": lambda: png(16, 16, 8, 2, extra=png_chunk(b"teXt", b"") * 1_000_000),
    "PNG, empty data": lambda: png(16, 16, 8, 2, extra=png_chunk(b"IDAT", b"") * 1_000_000),
    "GIF, a comment of 16 MB": lambda: gif_with_comment(65_000),
    "TIFF, directories": lambda: tiff_of_many_directories(5_000),
    "GIF, frames": lambda: saved(
        Image.new("P", (16, 16)),
        "GIF",
        save_all=True,
        append_images=[Image.new("P", (16, 16), c % 200) for c in range(3000)],
    ),
    "WebP, pieces": lambda: webp_of_canvas(16) + (b"JUNK" + struct.pack("<I", 0)) * 500_000,
}
"""Name -> file."""
