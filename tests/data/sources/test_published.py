import gzip
import hashlib
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from csd_core.data.canonical import load_source, write_source
from csd_core.data.sources import fashion_mnist as fashion_source
from csd_core.data.sources import registry
from csd_core.data.sources.arrays import Part
from csd_core.data.sources.digits import open_digits
from csd_core.data.sources.fashion_mnist import CLASSES, PUBLISHED, find_fashion_mnist, open_fashion_mnist, parse_idx
from csd_core.params.sources import DigitsSource, FashionMnistSource, FolderSource
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

INSTALLED = Path("/usr/share/datasets/fashion-mnist")


def idx(array):
    """The idx format, written by hand."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def archives(tmp_path):
    """Tiny archives in the published format: their arrays, checksums and folder."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "fashion"
    folder.mkdir()
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (10, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8),
    }
    checksums = {}
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        checksums[name] = hashlib.sha256(idx(array)).hexdigest()
    return arrays, checksums, folder


def ingest(source, target, size):
    form = ImageForm(size=size, channels=1, resize="squash")
    write_source(target, source, name="set", form=form, max_rejected=0, complaints=target.with_suffix(".parquet"))
    return load_source(target)


def test_digits_come_whole_on_the_scale_of_bytes(tmp_path):
    found = ingest(open_digits(None), tmp_path / "set", 8)
    bunch = load_digits()
    assert found.record.classes == tuple(map(str, range(10)))
    assert set(found.source_splits) == {""}
    assert found.labels.tolist() == [str(number) for number in bunch.target]
    assert found.paths[:2].tolist() == ["digits/0000000", "digits/0000001"]
    np.testing.assert_array_equal(found.images[..., 0], np.rint(bunch.images * 255 / 16))


def test_a_limit_keeps_the_first_of_each_class(tmp_path):
    found = ingest(open_digits(3), tmp_path / "set", 8)
    labels = load_digits().target
    first = sorted(row for number in range(10) for row in np.flatnonzero(labels == number)[:3])
    assert found.labels.tolist() == [str(labels[row]) for row in first]


def test_other_digits_than_the_published_are_refused():
    with pytest.raises(DataError, match=r"scikit-learn's digits: sha256 is [0-9a-f]{12}…, the published one 0000"):
        open_digits(None, checksum="0" * 64)


def test_a_class_with_fewer_images_than_the_limit_gives_all_it_has():
    part = Part(
        name="p", source_split=None, images=np.zeros((5, 1, 1, 1), np.uint8), labels=np.array(["b", "a", "b", "b", "a"])
    )
    assert part.first_per_class(2).labels.tolist() == ["b", "a", "b", "a"]
    assert part.first_per_class(9).labels.tolist() == part.labels.tolist()
    assert part.first_per_class(None) is part


def test_fashion_mnist_keeps_its_sets(archives, tmp_path):
    arrays, checksums, folder = archives
    found = ingest(open_fashion_mnist(folder, None, checksums=checksums), tmp_path / "set", 28)
    assert found.paths[[0, 9, 10, 29]].tolist() == ["test/0000000", "test/0000009", "train/0000000", "train/0000019"]
    assert found.source_splits.tolist() == ["test"] * 10 + ["train"] * 20
    np.testing.assert_array_equal(found.images[:10, ..., 0], arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(found.images[10:, ..., 0], arrays["train-images-idx3-ubyte"])
    assert found.labels[:10].tolist() == list(CLASSES)
    assert found.labels[10:].tolist() == [*CLASSES, *CLASSES]


def test_a_label_that_the_set_does_not_have_is_refused(archives):
    _, checksums, folder = archives
    name, labels = "train-labels-idx1-ubyte", np.full(20, 10, np.uint8)
    (folder / f"{name}.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(DataError, match="train has label 10, the set has 0 to 9"):
        open_fashion_mnist(folder, None, checksums={**checksums, name: hashlib.sha256(idx(labels)).hexdigest()})


def test_fashion_mnist_is_limited_in_each_set_and_takes_any_form(archives, tmp_path):
    _, checksums, folder = archives
    found = ingest(open_fashion_mnist(folder, 1, checksums=checksums), tmp_path / "set", 16)
    assert found.images.shape == (20, 16, 16, 1)
    assert (found.source_splits == "test").sum() == 10


def test_fashion_mnist_is_found_where_torchvision_puts_it(archives, tmp_path):
    _, checksums, folder = archives
    (tmp_path / "root" / "FashionMNIST").mkdir(parents=True)
    folder.rename(tmp_path / "root" / "FashionMNIST" / "raw")
    assert len(open_fashion_mnist(tmp_path / "root", None, checksums=checksums)) == 30


def test_a_missing_file_is_named_with_the_folder_and_the_ways_to_get_it(archives):
    _, checksums, folder = archives
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        open_fashion_mnist(folder, None, checksums=checksums)
    message = str(caught.value)
    assert f"{folder} lacks t10k-labels-idx1-ubyte.gz;" in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "download: true" in message


def test_an_archive_that_is_not_the_published_one_is_refused(archives):
    _, _, folder = archives
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz: sha256 is .* the published one 5b4141f0afba"):
        open_fashion_mnist(folder, None)


def test_a_damaged_archive_is_refused(archives):
    _, checksums, folder = archives
    path = folder / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not gzip", whole[:20] + b"\xff" * 200 + whole[220:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not a whole gzip file .*; fetch it again"):
            open_fashion_mnist(folder, None, checksums=checksums)


def test_images_and_labels_must_be_as_many(archives):
    _, checksums, folder = archives
    fewer = idx(np.zeros(9, np.uint8))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(fewer))
    checksums["t10k-labels-idx1-ubyte"] = hashlib.sha256(fewer).hexdigest()
    with pytest.raises(DataError, match=r"t10k images are \(10, 28, 28\), labels \(9,\)"):
        open_fashion_mnist(folder, None, checksums=checksums)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (0, 4)])
def test_idx_files_are_arrays_of_any_shape(shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(parse_idx(idx(array), what="file"), array)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "begins with , not as an idx file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "begins with 00 00 0d 01"),
        (b"\x00\x00\x08\x00", r"has 0 values for shape \(\)"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x01", r"has 0 values for shape \(\)"),
        (idx(np.zeros((2, 2), np.uint8))[:-1], r"has 3 values for shape \(2, 2\)"),
        (idx(np.zeros((2, 2), np.uint8)) + b"\x00", r"has 5 values for shape \(2, 2\)"),
    ],
)
def test_what_is_not_a_whole_idx_file_is_refused(content, complaint):
    with pytest.raises(DataError, match=f"^file: {complaint}"):
        parse_idx(content, what="file")


@pytest.mark.skipif(find_fashion_mnist(INSTALLED) is None, reason="dataset-fashion-mnist is not installed")
def test_the_installed_fashion_mnist_is_the_published_one():
    source = open_fashion_mnist(INSTALLED, None)
    assert [part.images.shape for part in source.parts] == [(10_000, 28, 28, 1), (60_000, 28, 28, 1)]
    for part in source.parts:
        assert np.unique(part.labels, return_counts=True)[1].tolist() == [len(part.images) // 10] * 10


def test_parameters_open_the_source_they_name(archives, tmp_path, monkeypatch):
    _, checksums, _ = archives
    monkeypatch.setattr(fashion_source, "open_fashion_mnist", partial(open_fashion_mnist, checksums=checksums))
    (tmp_path / "photos").mkdir()
    opened = [
        registry.open_source(settings, root=tmp_path)
        for settings in (
            DigitsSource(kind="digits", limit_per_class=1),
            FashionMnistSource(kind="fashion-mnist", path="fashion", download=False, limit_per_class=None),
            FolderSource(path="photos", layout="classes"),
        )
    ]
    assert [source.kind for source in opened] == ["digits", "fashion-mnist", "imagefolder"]
    assert [len(source) for source in opened] == [10, 30, 0]
    assert set(checksums) == set(PUBLISHED)
