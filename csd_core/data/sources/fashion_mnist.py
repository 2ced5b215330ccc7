"""Fashion-MNIST (Xiao, Rasul & Vollgraf, arXiv 1708.07747): four gzipped idx files of 28x28 grey images.

The idx format (LeCun's MNIST page): two zero bytes, 0x08 for unsigned bytes, the number of axes, each axis as a
big-endian 32-bit integer, then the values.
"""

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from csd_core.data.sources.arrays import ArraySource, Part, verify
from csd_core.system.errors import DataError

PUBLISHED = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""sha256 of each file unpacked: distributors compress again, so the .gz files differ."""

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""The published names of the labels 0 to 9."""

TORCHVISION_FOLDER = Path("FashionMNIST", "raw")
"""Where torchvision puts them below its root."""


def find_fashion_mnist(folder: Path) -> Path | None:
    """Return the folder with all four .gz files: `folder`, or where torchvision puts them below it; None if neither."""
    candidates = (folder, folder / TORCHVISION_FOLDER)
    return next((each for each in candidates if all((each / f"{name}.gz").is_file() for name in PUBLISHED)), None)


def open_fashion_mnist(
    folder: Path, limit_per_class: int | None, *, checksums: Mapping[str, str] = PUBLISHED
) -> ArraySource:
    """Return the set from a folder with the published .gz files; its 10,000 test images stay test.

    Raises:
        DataError: if a file is missing, damaged or not the published one.
    """
    found = find_fashion_mnist(folder)
    if found is None:
        raise DataError(
            f"fashion-mnist: {folder} lacks {_missing(folder)}; on Debian or Ubuntu `apt-get install "
            "dataset-fashion-mnist` puts the four files into /usr/share/datasets/fashion-mnist (set the source's path "
            "to it), or set its `download: true` to fetch them through torchvision"
        )
    parts = []
    sets: tuple[tuple[Literal["train", "test"], str], ...] = (("test", "t10k"), ("train", "train"))
    for name, prefix in sets:
        images = read_idx(found, f"{prefix}-images-idx3-ubyte", checksums)
        labels = read_idx(found, f"{prefix}-labels-idx1-ubyte", checksums)
        if images.ndim != 3 or labels.shape != images.shape[:1]:  # noqa: PLR2004 - N, h, w
            raise DataError(f"{found}: {prefix} images are {images.shape}, labels {labels.shape}; fetch the set again")
        if labels.max(initial=0) >= len(CLASSES):
            raise DataError(f"{found}: {prefix} has label {labels.max()}, the set has 0 to 9; fetch the set again")
        part = Part(name=name, source_split=name, images=images[..., None], labels=np.array(CLASSES)[labels])
        parts.append(part.first_per_class(limit_per_class))
    return ArraySource(kind="fashion-mnist", parts=tuple(parts))


def read_idx(folder: Path, name: str, checksums: Mapping[str, str]) -> npt.NDArray[np.uint8]:
    """Return the array in NAME.gz.

    Raises:
        DataError: if the file is cut short or damaged, its sha256 is another, or it is not idx.
    """
    path = folder / f"{name}.gz"
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); fetch it again") from None
    verify(content, what=str(path), expected=checksums[name])
    return parse_idx(content, what=str(path))


def parse_idx(content: bytes, *, what: str) -> npt.NDArray[np.uint8]:
    """Return an idx file of unsigned bytes as an array.

    Raises:
        DataError: if it is not one.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":  # noqa: PLR2004 - the magic number's length
        raise DataError(f"{what}: begins with {content[:4].hex(' ')}, not as an idx file of bytes (00 00 08)")
    axes = content[3]
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * axes], ">u4").tolist()) if len(content) >= 4 + 4 * axes else ()
    values = np.frombuffer(content, np.uint8, offset=min(len(content), 4 + 4 * axes))
    if not shape or values.size != np.prod(shape):
        raise DataError(f"{what}: has {values.size} values for shape {shape}; fetch it again")
    return values.reshape(shape)


def _missing(folder: Path) -> str:
    return ", ".join(f"{name}.gz" for name in PUBLISHED if not (folder / f"{name}.gz").is_file())
