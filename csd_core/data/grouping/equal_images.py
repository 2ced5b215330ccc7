"""Different pictures whose images are equal in one form: how many there are, and in which form they would differ."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from csd_core.data.containers import JPEG
from csd_core.data.decode import decode
from csd_core.data.sources.decoding import WORKERS
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

BACKGROUNDS = ("grey", "checker", "white", "black")
"""Those that have names, the one first that is advised where several serve."""
LARGER = 8
"""Times the size at which pictures are compared that are equal at a small one, as far as LARGEST."""
LARGEST = 1024
"""Pixels."""
LOOKED_AT = 1000
"""Pairs of files that are compared at most."""


class Pair(NamedTuple):
    """Two files of a folder whose images are equal in its form.

    Attributes:
        left_out: Relative to the folder.
        taken: The same.
    """

    left_out: str
    taken: str


class Loss(NamedTuple):
    """Pictures that one trait of the form made equal.

    Attributes:
        trait: Of the form.
        pairs: Files that differ without it.
        remedy: The background on which most of them differ; None where it is the size or the channels.
    """

    trait: Literal["background", "size"]
    pairs: tuple[Pair, ...]
    remedy: str | None


def equal_by_background(files: Iterable[Path], form: ImageForm) -> dict[str, int]:
    """Count, for each background, the images that equal an earlier one though their files differ.

    Files that cannot be decoded count nowhere, nor do copies that are equal byte by byte.

    Args:
        files: Of images.
        form: Of all else but the background.
    """
    forms = [form.model_copy(update={"background": background}) for background in BACKGROUNDS]
    contents: set[str] = set()
    images: list[set[str]] = [set() for _ in forms]
    usable = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for content, digests in pool.map(lambda file: _digests(file, forms), files):
            if not digests or content in contents:  # unusable, or a copy of the file
                continue
            usable += 1
            contents.add(content)
            for known, digest in zip(images, digests, strict=True):
                known.add(digest)
    return {background: usable - len(known) for background, known in zip(BACKGROUNDS, images, strict=True)}


def losses(root: Path, pairs: Sequence[Pair], form: ImageForm) -> list[Loss]:
    """Look why images of different files are equal; pairs that are the same picture at any size are no loss.

    Args:
        root: The folder.
        pairs: The first LOOKED_AT of them are looked at.
        form: In which they are equal.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda pair: _tells_apart(root, pair, form), pairs[:LOOKED_AT]))
    by_background = tuple(pair for pair, names in zip(pairs, found, strict=False) if names and names != ("size",))
    by_size = tuple(pair for pair, names in zip(pairs, found, strict=False) if names == ("size",))
    best = Counter(name for names in found for name in names if name != "size").most_common(1)
    lost = []
    if by_background:
        lost.append(Loss("background", by_background, best[0][0]))
    if by_size:
        lost.append(Loss("size", by_size, None))
    return lost


def told(lost: Loss, form: ImageForm) -> str:
    """Return one line: what was lost, and what to write in params.yaml."""
    first = lost.pairs[0]
    count = len(lost.pairs)
    which = f"{count:,} image{'s' * (count > 1)} left out though their files show something else"
    example = f"such as {first.left_out}, which equals {first.taken}"
    if lost.trait == "background":
        return (
            f"{which}, {example}: transparency lies on {form.background}, and there they are equal; write "
            f"images.background: {lost.remedy}"
        )
    grey = ", or images.channels: 3 if they differ in colour" if form.channels == 1 else ""
    return (
        f"{which}, {example}: at {form.size} x {form.size} x {form.channels} pixels they are equal; if they should be "
        f"told apart, raise images.pixels{grey}"
    )


def _digests(file: Path, forms: Sequence[ImageForm]) -> tuple[str, list[str]]:
    """Return sha256 of a file and of its pixels in each form, which are none if it is unusable."""
    try:
        with file.open("rb") as stream:
            is_jpeg = stream.read(len(JPEG)) == JPEG  # has no transparency
            stream.seek(0)
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        seen = [_pixels(file, form) for form in (forms[:1] if is_jpeg else forms)]
    except (DataError, OSError):
        return "", []
    return content, seen * len(forms) if is_jpeg else seen


def _tells_apart(root: Path, pair: Pair, form: ImageForm) -> tuple[str, ...]:
    """Return the backgrounds on which two images differ; ("size",) if they do at a larger size alone."""
    first, second = (root / path for path in pair)
    try:
        if _content(first) == _content(second):
            return ()
        others = (form.model_copy(update={"background": name}) for name in BACKGROUNDS if name != form.background)
        apart = tuple(other.background for other in others if _pixels(first, other) != _pixels(second, other))
        larger = form.model_copy(update={"size": max(form.size, min(LARGEST, LARGER * form.size)), "channels": 3})
        return apart or (("size",) if _pixels(first, larger) != _pixels(second, larger) else ())
    except (DataError, OSError):  # they could be read before, so somebody is at work in the folder
        return ()


def _content(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pixels(file: Path, form: ImageForm) -> str:
    return hashlib.sha256(decode(file, form).data).hexdigest()
