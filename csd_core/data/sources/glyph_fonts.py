"""The fonts that glyphs are rendered from: which they are, where they lie, and one of them open.

Each family is one file of a Debian package. The list is closed, so that what else a machine has installed changes no
image. A file is known by its sha256; another version of it is taken too, and said so.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from csd_core.system.errors import DataError

FOLDERS = (
    Path("~/.local/share/fonts"),
    Path("~/.fonts"),
    Path("/usr/local/share/fonts"),
    Path("/usr/share/fonts"),
    Path("~/Library/Fonts"),
    Path("/Library/Fonts"),
    Path("~/AppData/Local/Microsoft/Windows/Fonts"),
    Path("C:/Windows/Fonts"),
)
"""Where Linux, macOS and Windows keep fonts, a person's own first."""

EM = 64
"""Pixels of the em square in which glyphs are drawn."""

_DIGEST = 16
_NO_CHARACTER = "\uffff"
"""A code point that stands for no character: fonts draw it as .notdef, as they do every character they lack."""

Mask = npt.NDArray[np.uint8]


class Family(NamedTuple):
    """A font family by its regular style."""

    name: str
    """Part of its items' paths."""
    file: str
    """The file's name, wherever it lies."""
    package: str
    """Debian's package with the file."""
    sha256: str
    """The first 16 hex digits of the file in Debian 12."""


TRAIN_FAMILIES = (
    Family("agave", "agave-r-autohinted.ttf", "fonts-agave", "b3c4262cb7185e07"),
    Family("babel-unicode", "BABELreg.ttf", "fonts-linex", "7e7ee990b6dcc30a"),
    Family("c059", "C059-Roman.otf", "fonts-urw-base35", "e00cc7b88f0cf25a"),
    Family("cantarell", "Cantarell-Regular.otf", "fonts-cantarell", "c4d47d7fbd618632"),
    Family("carlito", "Carlito-Regular.ttf", "fonts-crosextra-carlito", "b4ff23ba370cc95a"),
    Family("clear-sans", "ClearSans-Regular.ttf", "fonts-clear-sans", "bb811af889b6a398"),
    Family("cmu-bright", "cmunbmr.ttf", "fonts-cmu", "afd2e0156e329cbd"),
    Family("cmu-concrete", "cmunorm.ttf", "fonts-cmu", "2941925fdf93c749"),
    Family("cmu-sans-serif", "cmunss.ttf", "fonts-cmu", "e0760f13b32ff4ed"),
    Family("cmu-sans-serif-condensed", "cmunssdc.ttf", "fonts-cmu", "347b36e691d0ecc8"),
    Family("cmu-serif", "cmunrm.ttf", "fonts-cmu", "cf2b28d1f36b680b"),
    Family("cmu-typewriter-text", "cmuntt.ttf", "fonts-cmu", "408c037330446e5f"),
    Family("dejavu-sans", "DejaVuSans.ttf", "fonts-dejavu-core", "abdc775b21b1bc47"),
    Family("dejavu-sans-mono", "DejaVuSansMono.ttf", "fonts-dejavu-core", "0f5db4f1749979d9"),
    Family("dejavu-serif", "DejaVuSerif.ttf", "fonts-dejavu-core", "13e61509f5c81d7c"),
    Family("eb-garamond", "EBGaramond12-Regular.otf", "fonts-ebgaramond", "4ee3bdb3a6618e74"),
    Family("fantasque-sans-mono", "FantasqueSansMono-Regular.ttf", "fonts-fantasque-sans", "5fa1f36afb103561"),
    Family("freemono", "FreeMono.ttf", "fonts-freefont-ttf", "1175cc31865a2a1b"),
    Family("freesans", "FreeSans.ttf", "fonts-freefont-ttf", "0b602f2825b30f9f"),
    Family("freeserif", "FreeSerif.ttf", "fonts-freefont-ttf", "12ee050384c99c97"),
    Family("go", "Go-Regular.ttf", "fonts-go", "dd02d2f04dbc9f63"),
    Family("go-mono", "Go-Mono.ttf", "fonts-go", "19ecaf9dab2b499c"),
    Family("inter", "Inter-Regular.otf", "fonts-inter", "a7e791e8f5a0fb02"),
    Family("jetbrains-mono", "JetBrainsMono-Regular.ttf", "fonts-jetbrains-mono", "a3014fb90ae8ddfb"),
    Family("jura", "Jura-Regular.otf", "fonts-jura", "54ee2a9d8d95163c"),
    Family("liberation-mono", "LiberationMono-Regular.ttf", "fonts-liberation2", "6b3809450cf6253b"),
    Family("liberation-sans", "LiberationSans-Regular.ttf", "fonts-liberation2", "8d91388f1d3604b3"),
    Family("liberation-serif", "LiberationSerif-Regular.ttf", "fonts-liberation2", "29d12439831b7f59"),
    Family("monoid", "Monoid-Regular.ttf", "fonts-monoid", "66ab3e80ce2b2d55"),
    Family("nimbus-mono-ps", "NimbusMonoPS-Regular.otf", "fonts-urw-base35", "4f225ca8e13acb16"),
    Family("nimbus-roman", "NimbusRoman-Regular.otf", "fonts-urw-base35", "fd41669443616a7a"),
    Family("nimbus-sans", "NimbusSans-Regular.otf", "fonts-urw-base35", "7c25be4d78155523"),
    Family("nimbus-sans-narrow", "NimbusSansNarrow-Regular.otf", "fonts-urw-base35", "0111cf7c05377c4f"),
    Family("noto-sans-mono", "NotoSansMono-Regular.ttf", "fonts-noto-mono", "6b692c4b6d15ccf5"),
    Family("open-sans", "OpenSans-Regular.ttf", "fonts-open-sans", "e64e508b2aa2880f"),
    Family("p052", "P052-Roman.otf", "fonts-urw-base35", "f054a7389d8d0e9f"),
    Family("roboto", "Roboto-Regular.ttf", "fonts-roboto-unhinted", "797e35f7f5d6020a"),
    Family("roboto-condensed", "RobotoCondensed-Regular.ttf", "fonts-roboto-unhinted", "936069d5e46da383"),
    Family("roboto-slab", "RobotoSlab-Regular.otf", "fonts-roboto-slab", "1ab154c4863f88a2"),
    Family("setofont", "setofont.ttf", "fonts-seto", "af54468357473617"),
    Family("stix", "STIXGeneral-Regular.otf", "fonts-stix", "5add3f3f2bd7fd89"),
    Family("symbola", "Symbola_hint.ttf", "fonts-symbola", "af8bd8cc9c808272"),
    Family("urw-bookman", "URWBookman-Light.otf", "fonts-urw-base35", "7b1bc8e6a16cef53"),
    Family("urw-gothic", "URWGothic-Book.otf", "fonts-urw-base35", "04318316cee29950"),
    Family("vl-gothic", "VL-Gothic-Regular.ttf", "fonts-vlgothic", "cccbbd1a22856600"),
)
"""Families of training images, by name."""

TEST_FAMILIES = (
    Family("anonymous-pro", "Anonymous Pro.ttf", "fonts-anonymous-pro", "6a3502f45cd580a7"),
    Family("caslon", "CaslonRoman.ttf", "fonts-georgewilliams", "db55e7581f8ddacf"),
    Family("comfortaa", "Comfortaa-Regular.ttf", "fonts-comfortaa", "7aeecaf4c799f24f"),
    Family("fira-code", "FiraCode-Regular.ttf", "fonts-firacode", "bb7f3fc4bd68bbbb"),
    Family("gentium-plus", "GentiumPlus-Regular.ttf", "fonts-sil-gentiumplus", "845e06bb4673a908"),
    Family("linux-biolinum", "LinBiolinum_R.otf", "fonts-linuxlibertine", "f3cf97ba8cc3a511"),
    Family("linux-libertine", "LinLibertine_R.otf", "fonts-linuxlibertine", "057bbfa1ac76133c"),
    Family("manrope", "Manrope-Regular.ttf", "fonts-manrope", "15515d2f4622d1d6"),
    Family("old-standard", "OldStandard-Regular.ttf", "fonts-oldstandard", "74916923e4f0c26a"),
    Family("play", "Play-Regular.otf", "fonts-play", "03ea406a830b8fb3"),
    Family("tuffy", "Tuffy.ttf", "fonts-tuffy", "b97cd5005278b24a"),
    Family("vollkorn", "Vollkorn-Regular.ttf", "fonts-vollkorn", "33c0e4742dbf693d"),
)
"""Families of test images, by name. Relatives (one designer's families, revivals of one typeface) are on one side."""


class FontFile(NamedTuple):
    """A family's file on this machine."""

    family: Family
    path: Path
    pinned: bool
    """Whether it is Debian 12's, to the byte."""


def packages(families: Iterable[Family]) -> list[str]:
    """Return the Debian packages with these families, each once."""
    return sorted({family.package for family in families})


def find_fonts(families: Sequence[Family], folders: Iterable[Path] = FOLDERS) -> list[FontFile]:
    """Return the file of each family, in their order.

    Of several files with the name, the one with the family's sha256 is taken; without such a one, the first found.

    Args:
        families: Which.
        folders: Where to look, at any depth; `~` is a person's home, a folder that is missing is passed over.

    Raises:
        DataError: if a family has no file, naming families and packages.
    """
    wanted = {family.file for family in families}
    found: dict[str, list[Path]] = {}
    for path in _files(folders):
        if path.name in wanted:
            found.setdefault(path.name, []).append(path)
    missing = [family for family in families if family.file not in found]
    if missing:
        named = ", ".join(f"{family.name} ({family.file})" for family in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""  # noqa: PLR2004 - those named above
        raise DataError(
            f"glyphs: {len(missing)} of {len(families)} font families are missing: {named}{more}; on Debian or Ubuntu "
            f"`apt-get install --no-install-recommends {' '.join(packages(missing))}`, elsewhere put the files into "
            "your fonts folder"
        )
    return [_choose(family, found[family.file]) for family in families]


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield all files below the folders, in an order that the disk does not choose."""
    for folder in folders:
        # unlike Path's, this one does not fail where there is no home
        for parent, names, files in os.walk(os.path.expanduser(folder)):  # noqa: PTH111
            names.sort()
            yield from (Path(parent, file) for file in sorted(files))


def _choose(family: Family, candidates: Sequence[Path]) -> FontFile:
    """Raises DataError if the first cannot be read."""
    for path in candidates:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}; remove it or install {family.package} again"
            ) from None
        if digest[:_DIGEST] == family.sha256:
            return FontFile(family, path, pinned=True)
    return FontFile(family, candidates[0], pinned=False)


class Face:
    """An open font; it draws what it has and refuses what it lacks.

    Raises:
        DataError: if the file is no font.
    """

    def __init__(self, font: FontFile) -> None:
        self.family = font.family
        self._path = font.path
        try:
            # the basic layout draws a character by itself, whether or not libraqm is there to shape words
            self._font = ImageFont.truetype(font.path, EM, layout_engine=ImageFont.Layout.BASIC)
        except OSError as error:
            raise DataError(f"{font.path}: is not a font ({error}); install {font.family.package} again") from None
        self._missing = self._cropped(_NO_CHARACTER)

    def draw(self, character: str) -> Mask:
        """Return a character as coverage, 255 inside its strokes, cropped to them.

        Args:
            character: One.

        Returns:
            (h, w) uint8.

        Raises:
            DataError: if the font has no such character: an empty box or nothing at all must never become an image.
        """
        mask = self._cropped(character)
        if mask.size == 0 or np.array_equal(mask, self._missing):
            raise DataError(
                f"{self._path}: has no character U+{ord(character):04X}; the family {self.family.name} of Debian's "
                f"{self.family.package} has it: install that"
            )
        return mask

    def _cropped(self, character: str) -> Mask:
        left, top, right, bottom = map(round, self._font.getbbox(character))
        if right <= left or bottom <= top:
            return np.zeros((0, 0), np.uint8)
        image = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=self._font)
        drawn = image.getbbox()
        return np.asarray(image.crop(drawn)) if drawn else np.zeros((0, 0), np.uint8)
