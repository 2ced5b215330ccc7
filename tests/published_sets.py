"""Small archives in the published formats of CIFAR and CUB-200-2011, their bytes written by hand."""

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from csd_core.data.sources.cifar import CifarSet
from csd_core.data.sources.cub import CUB200, CubSet


def pack(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> str:
    """Write a .tar.gz of files, or of headers made elsewhere; its sha256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(root: Path, members: dict[str, bytes]) -> None:
    """Write the same files below a folder."""
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def cifar_record(labels, image):
    """Labels, then the planes: image (32, 32, 3)."""
    return bytes(labels) + b"".join(image[:, :, channel].tobytes() for channel in range(3))


def cifar(published: CifarSet, rows: int = 4, *, classes: int | None = None, seed: int = 0):
    """A set of random images with as many rows in each file.

    Returns:
        Members by path in the archive; images (n, 32, 32, 3) and numbers (n,) of each file; what is published of it.
    """
    draw = np.random.default_rng(seed)
    members, truth = {}, {}
    for batch in (*published.train, *published.test):
        images = draw.integers(0, 256, (rows, 32, 32, 3), np.uint8)
        numbers = (np.arange(rows) + seed) % (classes or published.labels[-1].number)
        coarse = [[number % 20] for number in numbers] if len(published.labels) == 2 else [[]] * rows
        content = b"".join(
            cifar_record([*first, number], image) for first, number, image in zip(coarse, numbers, images, strict=True)
        )
        members[f"{published.archive.folder}/{batch.name}"] = content
        truth[batch.name] = (images, numbers)
    for labels in published.labels:
        names = "".join(f"{labels.names[0]}{number:03}\n" for number in range(labels.number)) + "\n"
        members[f"{published.archive.folder}/{labels.names}"] = names.encode()
    return members, truth, cifar_published(published, members)


def cifar_published(published: CifarSet, members: dict[str, bytes]) -> CifarSet:
    """The same set, with the sizes and checksums of these members."""

    def of(batch):
        content = members[f"{published.archive.folder}/{batch.name}"]
        return batch._replace(rows=len(content) // published.record, sha256=hashlib.sha256(content).hexdigest())

    return dataclasses.replace(published, train=tuple(map(of, published.train)), test=tuple(map(of, published.test)))


def known_as(published, sha256: str):
    """A set whose archive has another checksum."""
    return dataclasses.replace(published, archive=dataclasses.replace(published.archive, sha256=sha256))


def photo(position: int, size=(40, 30), square=(10, 5, 12, 8)) -> bytes:
    """A JPEG: dark, with a bright rectangle at (left, top, width, height); both differ by position."""
    image = Image.new("RGB", size, (5 * position,) * 3)
    left, top, width, height = square
    image.paste((250 - position,) * 3, (left, top, left + width, top + height))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def cub(classes: int = 2, per_class: int = 4) -> tuple[dict[str, bytes], CubSet]:
    """Photos that all differ, every other one of the training set; members by path, and what is published of them."""
    top = CUB200.archive.folder
    names = [f"{number + 1:03}.Bird_{number}" for number in range(classes)]
    members: dict[str, bytes] = {f"{top}/README": b"about", "attributes.txt": b"1 beak"}
    images, labels, sets, boxes = [], [], [], []
    for position in range(classes * per_class):
        number, image = 1 + position, f"{names[position // per_class]}/Bird_{position:04}.jpg"
        images.append(f"{number} {image}")
        labels.append(f"{number} {position // per_class + 1}")
        sets.append(f"{number} {position % 2}")
        boxes.append(f"{number} 10.0 5.0 12.0 8.0")
        members[f"{top}/images/{image}"] = photo(position)
    for name, lines in (
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("train_test_split.txt", sets),
        ("bounding_boxes.txt", boxes),
        ("classes.txt", [f"{number} {name}" for number, name in enumerate(names, start=1)]),
    ):
        members[f"{top}/{name}"] = ("\n".join(lines) + "\n").encode()
    return members, dataclasses.replace(CUB200, images=classes * per_class, classes=classes)
