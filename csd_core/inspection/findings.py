"""What is in a folder of images, counted by the code that ingest runs, so that both say the same of every file.

N images are taken: usable, and no copy of an earlier one.
"""

import time
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csd_core.data.canonical import Intake, left_out
from csd_core.data.classes import natural_key
from csd_core.data.grouping.equal_images import Loss, Pair, losses
from csd_core.data.grouping.near_duplicates import connected, near_pairs, perceptual_hashes
from csd_core.data.sources.folder import ImageFolder, open_folder
from csd_core.data.sources.protocol import Rejection
from csd_core.inspection.fitting import fitting_form
from csd_core.inspection.headers import Headers, read_headers
from csd_core.inspection.layout import Found, recognise
from csd_core.records.stages import ImageForm
from csd_core.system.console import progress
from csd_core.system.errors import DataError

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """A folder as csd would take it.

    Attributes:
        root: The folder.
        top: Its layout, and hints.
        form: In which images are stored, and compared here.
        source: Its files.
        seconds: That decoding took.
        headers: Of its files.
        taken: What ingest would take, and what it would leave out.
        grey: No image has colour.
        mean: Of each channel of the stored pixels, 0 to 1.
        std: Of each channel of the stored pixels, 0 to 1.
        lost: Different pictures that the form makes equal.
        pairs: (P, 2) positions of near-duplicates among the N images, ascending.
        groups: (N,) numbers of the groups that these connect.
    """

    root: Path
    top: Found
    form: ImageForm
    source: ImageFolder
    seconds: float
    headers: Headers
    taken: Intake
    grey: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    lost: tuple[Loss, ...]
    pairs: Positions
    groups: Positions

    def __len__(self) -> int:
        """N."""
        return len(self.taken.ids)

    @property
    def classes(self) -> dict[str, int]:
        """Class name -> images, in natural order."""
        counts = Counter(self.taken.labels)
        return {label: counts[label] for label in sorted(counts, key=natural_key)}

    @property
    def unusable(self) -> list[Rejection]:
        """Files without an image, by path."""
        return sorted(self.taken.rejected)

    def crossing(self, values: list[str]) -> Positions:
        """Return (p, 2) near-duplicates whose values, one for each image, differ."""
        left, right = np.array(values, np.str_)[self.pairs].T
        return self.pairs[np.flatnonzero(left != right)]

    @property
    def across_classes(self) -> Positions:
        """(p, 2) near-duplicates of different classes."""
        return self.crossing(self.taken.labels)

    @property
    def across_sets(self) -> Positions:
        """(p, 2) near-duplicates of which one is in the source's test set, the other not."""
        return self.crossing([split or "" for split in self.taken.source_splits])

    @property
    def in_groups(self) -> int:
        """Images that have a near-duplicate."""
        return int((np.bincount(self.groups)[self.groups] > 1).sum())

    @property
    def largest_group(self) -> int:
        """Images in the largest group."""
        return int(np.bincount(self.groups).max())

    @property
    def spellings(self) -> dict[str, list[str]]:
        """Class -> the names of its folders, of classes whose name is spelt in several Unicode forms."""
        depth = 1 if self.top.layout == "train-test" else 0
        found: dict[str, set[str]] = {}
        for file in self.source.files:
            found.setdefault(file.label, set()).add(file.path.split("/")[depth])
        return {label: sorted(names) for label, names in found.items() if len(names) > 1}


def look_through(root: Path, form: ImageForm | None = None) -> Findings:
    """Look at every image of a folder.

    Args:
        root: The folder.
        form: Of stored images; None chooses one that fits.

    Raises:
        DataError: if there is no image in it.
    """
    top = recognise(root)
    source = open_folder(root, top.layout)
    hint = f" ({top.hints[0]})" if top.hints else ""
    if not source.files:
        why = f": {source.rejected[0].path} {source.rejected[0].reason}" if source.rejected and not hint else ""
        raise DataError(f"{root}: no image in a class folder{why}{hint}; put a folder of images for each class there")
    headers = read_headers([root / file.path for file in source.files])
    fitted = fitting_form(headers) if form is None and len(headers.sizes) else form
    chosen = fitted or ImageForm(size=8, channels=3, resize="pad", background="grey")
    taken, pixels, hashes, seconds = _take(source, chosen)
    if not taken.ids:
        first = min(taken.rejected)
        raise DataError(
            f"{root}: none of its {len(source)} files is an image that can be read: {first.path} {first.reason}"
        )
    if form is None and pixels.grey:  # a grey image has the same value in each channel, so the items are the same
        chosen = chosen.model_copy(update={"channels": 1})
    pairs = near_pairs(hashes)
    copies = map(left_out, (*taken.duplicates, *taken.conflicts))
    equal = [Pair(each.path, each.original) for each in copies if each.original is not None]
    return Findings(
        root=root,
        top=top,
        form=chosen,
        source=source,
        seconds=seconds,
        headers=headers,
        taken=taken,
        grey=pixels.grey,
        mean=pixels.mean(chosen.channels),
        std=pixels.std(chosen.channels),
        lost=tuple(losses(root, equal, chosen)),
        pairs=pairs,
        groups=connected(len(hashes), pairs),
    )


class _Pixels:
    """Sums over the pixels of all images, by channel."""

    def __init__(self, channels: int) -> None:
        self.grey = True
        self._count = 0
        self._sums = np.zeros((2, channels))

    def add(self, images: npt.NDArray[np.uint8]) -> None:
        """Count in images (n, H, W, C)."""
        self.grey = self.grey and bool((images == images[..., :1]).all())
        values = images.reshape(-1, images.shape[-1]) / 255
        self._count += len(values)
        self._sums += values.sum(axis=0), (values**2).sum(axis=0)

    def mean(self, channels: int) -> tuple[float, ...]:
        """Return the mean of the first channels, rounded."""
        return tuple(round(float(each), 3) for each in (self._sums[0] / self._count)[:channels])

    def std(self, channels: int) -> tuple[float, ...]:
        """Return the standard deviation of the first channels, rounded; no less than a level."""
        mean, square = self._sums / self._count
        return tuple(round(float(each), 3) for each in np.sqrt(np.maximum(square - mean**2, 1 / 255**2))[:channels])


def _take(source: ImageFolder, form: ImageForm) -> tuple[Intake, _Pixels, npt.NDArray[np.uint64], float]:
    """Return what ingest would take, sums of its pixels, its perceptual hashes, and the seconds of decoding."""
    taken, pixels, hashes = Intake(), _Pixels(form.channels), [np.empty(0, np.uint64)]
    started, spent = time.monotonic(), 0.0
    with progress(f"inspect {source.root}", total=len(source), unit="files") as meter:
        for batch in source.batches(form):
            images = batch.images[taken.take(batch)]
            looked = time.monotonic()
            if len(images):
                pixels.add(images)
                hashes.append(perceptual_hashes(images))
            spent += time.monotonic() - looked
            meter.advance(len(batch.paths) + len(batch.rejected))
    return taken, pixels, np.concatenate(hashes), time.monotonic() - started - spent


def twins(classes: Mapping[str, int]) -> list[list[str]]:
    """Return class names that differ in case, spaces, hyphens, underscores or compatible characters only."""
    found: dict[str, list[str]] = {}
    for label in classes:
        plain = unicodedata.normalize("NFKC", label).casefold()
        found.setdefault("".join(each for each in plain if each not in " -_"), []).append(label)
    return [names for names in found.values() if len(names) > 1]
