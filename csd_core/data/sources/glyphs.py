"""Glyphs: Greek and Cyrillic letters, digits and signs rendered from installed fonts, with jittered pose and colour.

A many-class set that needs no download of images. A class is a character, drawn once from each of many font families;
every image turns, shifts and scales it again and picks an ink and a paper. The test set is of families that training
never sees. An image depends on the seed, its class and its number alone, so a limited set is a part of the whole one.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from csd_core.data.decode import resize
from csd_core.data.sources.glyph_fonts import (
    FOLDERS,
    TEST_FAMILIES,
    TRAIN_FAMILIES,
    Face,
    Family,
    FontFile,
    Mask,
    find_fonts,
)
from csd_core.data.sources.protocol import Batch, batch_length
from csd_core.data.thumbnails import of_arrays
from csd_core.records.stages import ImageForm

GREEK = "αβγδεζηθλμξσφωΓΔΞΠΣΨΩ"
CYRILLIC = "АБВДЕЖЗИЙКЛМНОРСТФХЦЧШЩЫЬЭЮЯЄЇЅЋЉЊЎбе"
SIGNS = "245789½#$%&@§¶†‡©®€£¥¢¤±÷+=<>{}«»!?¿¡*~¬^…"
CHARACTERS = GREEK + CYRILLIC + SIGNS
"""What every family has. Of letters and signs that look alike once they are of one size, one stands for all: Cyrillic A
also for the Latin and the Greek one, O for the zero, Greek gamma for Cyrillic ghe, a capital for most small letters."""

CANVAS = 64
"""Pixels of the square an image is drawn on; then it is brought into the form asked for."""

FILL = 0.65
"""The glyph's longer side as a share of the canvas, before jitter."""

LEVELS = 112
"""Levels of a dark colour's channels, from 0, and of a light one's, down from 255: ink and paper always differ."""

_MARGIN = 2
_DRAWS = 11  # angle, scale, shift across and down, three channels of the dark and of the light colour, which is the ink

SetName = Literal["test", "train"]
Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter:
    """How far poses reach; each is drawn evenly up to its bound, both ways.

    Attributes:
        rotation: Degrees.
        shift: Share of the image's side, across and down.
        scale: Share of the glyph's size.
    """

    rotation: float
    shift: float
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GlyphSet:
    """The training or the test set.

    Attributes:
        name: First part of its items' paths, and what it is.
        faces: Its families' fonts.
        images_per_class: How many; image n is of family n modulo their number.
    """

    name: SetName
    faces: tuple[Face, ...]
    images_per_class: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Glyphs:
    """The set, drawn as it is read.

    Attributes:
        notes: Whether the fonts are Debian 12's.
        sets: With names in ascending order, so that paths ascend.
        jitter: Of poses.
        seed: Of poses and colours.
    """

    kind: ClassVar[str] = "glyphs"
    notes: tuple[str, ...]
    sets: tuple[GlyphSet, ...]
    jitter: Jitter
    seed: int

    def __len__(self) -> int:
        return len(CHARACTERS) * sum(each.images_per_class for each in self.sets)

    def batches(self, form: ImageForm, thumbnails: int | None = None) -> Iterator[Batch]:
        """Yield all images in their form; an item's path is its set, its class, its number there and its family."""
        by_path = sorted(CHARACTERS, key=lambda character: f"{class_name(character)}/")
        for each in self.sets:
            for character in by_path:
                yield from self._class_batches(each, character, form, thumbnails)

    def _class_batches(
        self, each: GlyphSet, character: str, form: ImageForm, thumbnails: int | None
    ) -> Iterator[Batch]:
        label = class_name(character)
        masks = [face.draw(character) for face in each.faces]
        draws = self._draws(each, character)
        step = batch_length(form)
        for start in range(0, len(draws), step):
            some = draws[start : start + step]
            numbers = range(start, start + len(some))
            coverage = _posed([masks[number % len(masks)] for number in numbers], some[:, :4], self.jitter)
            families = [each.faces[number % len(masks)].family.name for number in numbers]
            originals = _coloured(coverage, some[:, 4:])
            yield Batch(
                images=resize(originals, form),
                labels=(label,) * len(some),
                source_splits=(each.name,) * len(some),
                paths=tuple(
                    f"{each.name}/{label}/{number:05}-{family}"
                    for number, family in zip(numbers, families, strict=True)
                ),
                thumbnails=of_arrays(originals, form, thumbnails),
            )

    def _draws(self, each: GlyphSet, character: str) -> Floats:
        """Return (images_per_class, _DRAWS) in [0, 1); rows of fewer images are the first rows of more."""
        rng = np.random.default_rng([self.seed, ord(character), int(each.name == "test")])
        return rng.random((each.images_per_class, _DRAWS))


def open_glyphs(
    *,
    seed: int,
    images_per_family: int,
    jitter: Jitter,
    limit_per_class: int | None,
    train_families: Sequence[Family] = TRAIN_FAMILIES,
    test_families: Sequence[Family] = TEST_FAMILIES,
    folders: Iterable[Path] = FOLDERS,
) -> Glyphs:
    """Return the set, all its fonts found and every character in each of them.

    Args:
        seed: Of poses and colours.
        images_per_family: Of each class.
        jitter: Of poses.
        limit_per_class: Keep only so many images of each class in each set; None keeps all.
        train_families: Whose images are training images.
        test_families: Whose images are test images.
        folders: Where fonts are.

    Raises:
        DataError: if a font is missing or damaged, or lacks a character.
    """
    fonts = find_fonts((*test_families, *train_families), folders)
    faces = [Face(font) for font in fonts]
    for face in faces:
        for character in CHARACTERS:
            face.draw(character)  # before the first image is written, not in the midst of it
    parts: tuple[tuple[SetName, list[Face]], ...] = (
        ("test", faces[: len(test_families)]),
        ("train", faces[len(test_families) :]),
    )
    sets = []
    for name, mine in parts:
        offered = images_per_family * len(mine)
        count = offered if limit_per_class is None else min(limit_per_class, offered)
        sets.append(GlyphSet(name=name, faces=tuple(mine), images_per_class=count))
    return Glyphs(notes=tuple(_notes(fonts)), sets=tuple(sets), jitter=jitter, seed=seed)


def class_name(character: str) -> str:
    """Return its Unicode name as a word: greek-small-alpha, number-sign."""
    return unicodedata.name(character).replace(" LETTER ", " ").replace(" ", "-").lower()


def _notes(fonts: Sequence[FontFile]) -> Iterator[str]:
    others = [font.family.name for font in fonts if not font.pinned]
    if others:
        yield (
            f"{len(others)} of {len(fonts)} fonts are not the files of Debian 12 ({', '.join(others)}); images and "
            "figures will differ a little from those documented"
        )


def _posed(masks: Sequence[Mask], draws: Floats, jitter: Jitter) -> Pixels:
    """Glyphs turned, scaled and shifted.

    Args:
        masks: n, each (h, w) coverage.
        draws: (n, 4) in [0, 1): angle, scale, shift across and down.
        jitter: How far.

    Returns:
        (n, CANVAS, CANVAS) uint8 coverage.
    """
    angle, scale, across, down = (2 * draws - 1).T
    angle, scale = np.radians(jitter.rotation * angle), FILL * CANVAS * (1 + jitter.scale * scale)
    across, down = CANVAS * (0.5 + jitter.shift * across), CANVAS * (0.5 + jitter.shift * down)
    posed = np.empty((len(masks), CANVAS, CANVAS), np.uint8)
    for row, mask in enumerate(masks):
        padded = np.pad(mask, _MARGIN)  # or else the interpolation would cut the strokes at the edge hard
        height, width = padded.shape
        step = max(mask.shape) / scale[row]  # glyph pixels for one of the canvas
        cos, sin = step * math.cos(angle[row]), step * math.sin(angle[row])
        # where on the glyph a point (x, y) of the canvas lies, as Pillow asks for it
        x0 = width / 2 - cos * across[row] - sin * down[row]
        y0 = height / 2 + sin * across[row] - cos * down[row]
        image = Image.fromarray(padded).transform(
            (CANVAS, CANVAS), Image.Transform.AFFINE, (cos, sin, x0, -sin, cos, y0), Image.Resampling.BICUBIC
        )
        posed[row] = np.asarray(image)
    return posed


def _coloured(coverage: Pixels, draws: Floats) -> Pixels:
    """Ink on paper, light on dark or dark on light.

    Args:
        coverage: (n, h, w) uint8, 255 where there is ink.
        draws: (n, 7) in [0, 1): channels of the dark colour, of the light one, and which is the ink.

    Returns:
        (n, h, w, 3) uint8.
    """
    levels = (LEVELS * draws[:, :6]).astype(np.uint16)
    dark, light = levels[:, :3], 255 - levels[:, 3:]
    inked_dark = draws[:, 6:] < 0.5  # noqa: PLR2004 - half of the images
    ink, paper = np.where(inked_dark, dark, light), np.where(inked_dark, light, dark)
    share = coverage[..., None].astype(np.uint16)  # (n, h, w, 1)
    # whole numbers, rounded: 255 * 255 + 127 fits into 16 bits, and no machine rounds them otherwise
    mixed = (share * ink[:, None, None] + (255 - share) * paper[:, None, None] + 127) // 255
    return mixed.astype(np.uint8)
