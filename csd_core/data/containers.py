"""Image files without what no pixel needs: PNG, JPEG, WebP and TIFF keep the parts that a picture is made of.

Text, colour profiles, previews and the like are where decoders stumble over damage and where small files hide large
ones, and none of them changes a pixel here. EXIF and XMP stay, for they may say which side is up.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from csd_core.system.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

MOST_PARTS = 100_000
"""Chunks or segments of a file; each costs time, and a real picture has a few thousand."""
LARGEST_METADATA = 1 << 20
"""Bytes of one piece of EXIF or XMP that is looked at."""

NOT_READ = {
    "PSD": (b"8BPS",),
    "EPS or PostScript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "PDF": (b"%PDF",),
    "SVG": (b"<svg",),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "DDS": (b"DDS ",),
    "ICNS": (b"icns",),
    "FITS": (b"SIMPLE  =",),
    "HDF5": (b"\x89HDF",),
    "GRIB": (b"GRIB",),
    "WMF": (b"\xd7\xcd\xc6\x9a",),
    "XPM": (b"/* XPM */",),
    "SGI": (b"\x01\xda\0", b"\x01\xda\x01"),
    "CUR": (b"\0\0\2\0",),
    "BLP": (b"BLP1", b"BLP2"),
}
"""Formats that people have and that are refused by name: how their files begin."""
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")

_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_ANCILLARY = 0x20  # bit of the first letter: a decoder need not know the chunk
_PNG_UPRIGHT = re.compile(rb"eXIf|(?:tEXt|zTXt|iTXt)(?:Raw profile type exif|XML:com\.adobe\.xmp)\0")
_NOT_FILL = re.compile(rb"[^\xff]")
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_FOR_PEOPLE = frozenset({*range(0xE2, 0xF0), 0xFE}) - {_APP14}
_SHORTEST = {_APP0: 16, _APP14: 14}  # with their length; a decoder ignores shorter ones, Pillow stumbles over them
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COMPONENTS = 9  # where their number stands: marker, length, precision, height, width
_TIFF_HEADS = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_PIXELS = frozenset(
    {*range(254, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 326, 327, 328}
    | {332, 334, 338, 339, 340, 341, 347, *range(512, 522), *range(529, 533), 32996, 32997, 50674}
)
"""Tags that say where pixels lie, how they are packed and what they mean; orientation too."""
_TIFF_XMP, _TIFF_BYTES = 700, (1, 7)

_ENDS = frozenset({0xD9, 0xDA})  # of the image, and of what stands before the first scan
_WITHOUT_CONTENT = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})


def refused_format(start: bytes) -> str | None:
    """Return the name of a format that is known and not read; None for all others."""
    for name, starts in NOT_READ.items():
        if start.startswith(starts):
            return name
    return "HEIC" if start[4:8] == b"ftyp" and start[8:12] in _HEIC else None


def tidied(content: bytes, *, metadata: bool) -> bytes:
    """Return the file without what no pixel needs; one of another format as it is.

    Args:
        content: The file.
        metadata: Whether to keep EXIF and XMP that are whole.

    Raises:
        DataError: if a part that pixels are made of is damaged, or if there are too many parts.
    """
    if content.startswith(PNG):
        return b"".join(_png(memoryview(content), metadata=metadata))
    if content.startswith(JPEG):
        return b"".join(_jpeg(content, metadata=metadata))
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp(content, metadata=metadata)
    if content[:4] in _TIFF_HEADS:
        return _tiff(content, metadata=metadata)
    return content


def jpeg_scans(content: bytes) -> tuple[int, int]:
    """Components of a JPEG, and the passes over its picture; a decoder keeps all coefficients if there are several."""
    components, start = 0, len(content)
    for code, segment, position in _segments(content):
        if code in _START_OF_FRAME and len(segment) > _COMPONENTS:
            components = max(components, segment[_COMPONENTS])
        start = position
    return components, content.count(b"\xff\xda", start)


def _png(content: memoryview, *, metadata: bool) -> Iterator[bytes | memoryview]:
    before: list[memoryview] = []
    upright: list[memoryview] = []
    data: list[memoryview] = []
    for kind, chunk in _chunks(content):
        if kind in _PNG_PIXELS and not _is_whole(chunk):
            raise DataError(f"is damaged: its {kind.decode()} chunk is not what was written (CRC)")
        if kind == b"IDAT":
            data.append(chunk[8:-4])
        elif kind in _PNG_PIXELS or not kind[0] & _ANCILLARY:
            if not data:
                before.append(chunk)
        elif metadata and len(chunk) <= LARGEST_METADATA and _PNG_UPRIGHT.match(chunk[4:48]) and _is_whole(chunk):
            upright.append(chunk)
    yield PNG
    yield from before
    yield from upright
    if data:
        crc = zlib.crc32(b"IDAT")
        for each in data:
            crc = zlib.crc32(each, crc)
        yield struct.pack(">I4s", sum(map(len, data)), b"IDAT")
        yield from data
        yield struct.pack(">I", crc)
    yield b"\0\0\0\0IEND\xaeB`\x82"


def _chunks(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield name and chunk, up to the end; the last may be cut short."""
    position, parts = len(PNG), 0
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        parts = _counted(parts)
        if kind == b"IEND":
            return
        yield kind, content[position : position + 12 + length]
        position += 12 + length


def _is_whole(chunk: memoryview) -> bool:
    length, crc = int.from_bytes(chunk[:4], "big"), int.from_bytes(chunk[-4:], "big")
    return len(chunk) == 12 + length and zlib.crc32(chunk[4:-4]) == crc


def _jpeg(content: bytes, *, metadata: bool) -> Iterator[bytes | memoryview]:
    yield content[:2]
    end, room = 2, LARGEST_METADATA
    for code, segment, position in _segments(content):
        end = position
        if code == _APP1:
            room -= len(segment)
            if metadata and room >= 0 and segment[4:].startswith((b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")):
                yield segment
        elif code not in _FOR_PEOPLE and len(segment) - 2 >= _SHORTEST.get(code, 0):
            yield segment
    yield memoryview(content)[end:]


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, segment with its marker, and where the next begins, up to the first scan; junk is skipped."""
    position, parts = 2, 0
    while (position := content.find(b"\xff", position)) >= 0:
        found = _NOT_FILL.search(content, position)
        if found is None:
            return
        position = found.start() + 1
        code = content[position - 1]
        parts = _counted(parts)
        if code in _WITHOUT_CONTENT:
            continue
        length = int.from_bytes(content[position : position + 2], "big")
        if code in _ENDS or position + length > len(content) or length < 2:  # noqa: PLR2004 - of itself
            yield code, b"", position - 2
            return
        yield code, content[position - 2 : position + length], position + length
        position += length


def _webp(content: bytes, *, metadata: bool) -> bytes:
    """With the first frame alone."""
    kept: list[bytes] = []
    known = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
    if metadata:
        known |= {b"EXIF", b"XMP "}
    position, parts = 12, 0
    seen: set[bytes] = set()
    while position + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, position)
        end = position + 8 + length
        parts = _counted(parts)
        extra = kind in {b"EXIF", b"XMP "}
        if kind in known and kind not in seen and not (extra and (end > len(content) or length > LARGEST_METADATA)):
            kept.append(
                content[position:end].ljust(8 + length + length % 2, b"\0")
                if end <= len(content)
                else content[position:]
            )
            seen.add(kind)
        position = end + length % 2
    if kept and kept[0].startswith(b"VP8X") and len(kept[0]) >= 18:  # noqa: PLR2004 - header and ten bytes
        flags = kept[0][8] & ~0b101100  # profile, EXIF, XMP
        flags |= 0b1000 * (b"EXIF" in seen) | 0b100 * (b"XMP " in seen)
        kept[0] = kept[0][:8] + bytes([flags]) + kept[0][9:]
    body = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _tiff(content: bytes, *, metadata: bool) -> bytes:
    """With the first directory alone, its entries moved together; one of 64 bits as it is."""
    order = _TIFF_HEADS[content[:4]]
    start = int.from_bytes(content[4:8], "little" if order == "<" else "big")
    if start + 2 > len(content):
        return content
    (number,) = struct.unpack_from(order + "H", content, start)
    entries = [content[at : at + 12] for at in range(start + 2, start + 2 + 12 * number, 12)]
    if entries and len(entries[-1]) < 12:  # noqa: PLR2004 - tag, type, count, value: the file is cut short
        return content

    def is_kept(entry: bytes) -> bool:
        tag, kind, count, place = struct.unpack(order + "HHII", entry)
        if tag == _TIFF_XMP:
            return metadata and kind in _TIFF_BYTES and 4 < count <= LARGEST_METADATA and place + count <= len(content)  # noqa: PLR2004 - fewer stand in the entry
        return tag in _TIFF_PIXELS

    kept = list(filter(is_kept, entries))
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + bytes(4)
    return b"".join([content[:start], directory, memoryview(content)[start + len(directory) :]])


def _counted(parts: int) -> int:
    if parts >= MOST_PARTS:
        raise DataError(f"has more than {MOST_PARTS:,} parts; save it again as PNG or JPEG")
    return parts + 1
