import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from csd_core.data.canonical import load_source, write_source
from csd_core.data.decode import decode
from csd_core.data.sources.folder import open_folder
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError
from csd_core.system.names import UNUSABLE_NAME

FORM = ImageForm(size=4, channels=3, resize="squash")


def put(path, level=None, file_format="PNG"):
    """An image file; of one grey level, or of noise that depends on its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(str(path.relative_to(path.parents[1])).encode())
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(noise) if level is None else Image.new("L", (6, 6), level)
    image.save(path, file_format)


def ingest(source, target, *, max_rejected=100):
    return write_source(
        target, source, name="mine", form=FORM, max_rejected=max_rejected, complaints=target.with_suffix(".parquet")
    )


def reasons(target):
    return {row["path"]: row["reason"] for row in pq.read_table(target / "rejected.parquet").to_pylist()}


def test_a_tree_as_it_is_found_on_a_disk_is_taken_in_and_every_oddity_is_named(tmp_path):
    root = tmp_path / "photos"
    put(root / "cat 2" / "one.png")
    put(root / "cat 2" / "deeper" / "two.webp", file_format="WEBP")
    put(root / "cat 2" / "copy.bmp", level=9, file_format="BMP")
    put(root / "cat 2" / "original.png", level=9)
    put(root / "cat 10" / "only.jpg", file_format="JPEG")
    put(root / "dog" / "a cat in truth.gif", level=9, file_format="GIF")
    put(root / "dog" / "ünï 🐈.png")
    put(root / unicodedata.normalize("NFD", "hérisson") / "1.png")
    (root / "empty").mkdir()
    (root / "dog" / "zero.png").touch()
    (root / "dog" / "text.jpg").write_text("not an image")
    whole = (root / "cat 10" / "only.jpg").read_bytes()
    (root / "dog" / "half.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (root / "dog" / "Thumbs.db").write_text("Windows")
    (root / "dog" / ".DS_Store").write_text("macOS")
    (root / ".cache").mkdir()
    (root / "__MACOSX").mkdir()
    (root / "README.txt").write_text("my cats")

    source = open_folder(root, "classes")
    assert source.notes == ('class "empty" has no files; it is left out',)
    assert len(source) == 12
    record = ingest(source, tmp_path / "set")

    found = load_source(tmp_path / "set")
    assert record.classes == ("cat 2", "cat 10", "dog", "hérisson")
    assert unicodedata.is_normalized("NFC", "".join(record.classes))
    assert dict(zip(*np.unique(found.labels, return_counts=True), strict=True)) == {
        "cat 2": 3,
        "cat 10": 1,
        "dog": 1,
        "hérisson": 1,
    }
    assert set(found.source_splits) == {""}
    assert "dog/ünï 🐈.png" in found.paths
    for path, image in zip(found.paths, found.images, strict=True):
        np.testing.assert_array_equal(image, decode(root / path, FORM))
    told = reasons(tmp_path / "set")
    assert told.pop("dog/half.jpg").startswith("is damaged: ")
    assert told == {
        "README.txt": "is in no class folder",
        "cat 2/original.png": "duplicate of cat 2/copy.bmp",
        "dog/a cat in truth.gif": 'duplicate of cat 2/copy.bmp, which is of class "cat 2": the same image cannot be in '
        "two classes",
        "dog/text.jpg": "is not an image of a known format",
        "dog/zero.png": "is empty (0 bytes)",
    }
    assert (record.rejected, record.duplicates) == (4, 2)


def test_two_spellings_of_one_class_name_are_one_class(tmp_path):
    for number, form in enumerate(("NFC", "NFD")):
        put(tmp_path / "photos" / unicodedata.normalize(form, "é") / f"{number}.png")
    record = ingest(open_folder(tmp_path / "photos", "classes"), tmp_path / "set")
    assert (record.classes, record.images) == (("é",), 2)


def test_links_are_followed_to_files_only(tmp_path):
    root = tmp_path / "photos"
    put(root / "cat" / "1.png")
    put(tmp_path / "elsewhere" / "2.png")
    (root / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    (root / "cat" / "nowhere.png").symlink_to(root / "absent.png")
    (root / "linked class").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "cat" / "pipe.png")
    source = open_folder(root, "classes")
    assert [file.path for file in source.files] == ["cat/1.png", "cat/linked.png"]
    link = "is a link to a folder, which is not followed; copy the folder here"
    nowhere = "is a link to nothing, or in a circle; remove it"
    assert dict(source.rejected) == {
        "cat/loop": link,
        "cat/nowhere.png": nowhere,
        "cat/pipe.png": "is no plain file; remove it",
        "cat/self": nowhere,
        "linked class": link,
    }


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes UTF-8 names only")
def test_a_name_that_is_not_utf8_is_rejected_in_print(tmp_path):
    root = tmp_path / "photos"
    put(root / "cat" / "1.png")
    (root / "cat" / os.fsdecode(b"\xe9.png")).write_bytes(b"x")
    source = open_folder(root, "classes")
    assert source.rejected == (("cat/\\udce9.png", UNUSABLE_NAME),)
    assert ingest(source, tmp_path / "set").images == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_class_folder_that_may_not_be_read_is_rejected(tmp_path):
    put(tmp_path / "photos" / "cat" / "1.png")
    (tmp_path / "photos" / "dog").mkdir(mode=0)
    assert open_folder(tmp_path / "photos", "classes").rejected == (("dog", "cannot be read: Permission denied"),)


def test_a_folder_that_vanishes_meanwhile_is_rejected(tmp_path, monkeypatch):
    put(tmp_path / "photos" / "cat" / "1.png")
    put(tmp_path / "photos" / "dog" / "1.png")
    listed = os.scandir

    def vanish(path):
        if Path(path).name == "dog":
            raise FileNotFoundError(2, "No such file or directory")
        return listed(path)

    monkeypatch.setattr(os, "scandir", vanish)
    source = open_folder(tmp_path / "photos", "classes")
    assert source.rejected == (("dog", "cannot be read: No such file or directory"),)
    assert [file.label for file in source.files] == ["cat"]


def test_the_sets_of_a_train_test_layout_are_kept(tmp_path):
    root = tmp_path / "photos"
    for path in ("train/cat/1.png", "train/dog/1.png", "test/cat/2.png"):
        put(root / path)
    put(root / "extra" / "1.png")
    put(root / "train" / "cat" / "seen in test.png", level=5)
    put(root / "test" / "cat" / "3.png", level=5)
    ingest(open_folder(root, "train-test"), tmp_path / "set")
    found = load_source(tmp_path / "set")
    assert dict(zip(found.paths.tolist(), found.source_splits.tolist(), strict=True)) == {
        "test/cat/2.png": "test",
        "test/cat/3.png": "test",
        "train/cat/1.png": "train",
        "train/dog/1.png": "train",
    }
    assert reasons(tmp_path / "set") == {
        "extra": "is not in its place: expected a folder train or test",
        "train/cat/seen in test.png": "duplicate of test/cat/3.png",
    }


def test_a_train_test_layout_may_lack_test_but_not_train(tmp_path):
    put(tmp_path / "photos" / "train" / "cat" / "1.png")
    assert len(open_folder(tmp_path / "photos", "train-test")) == 1
    with pytest.raises(DataError, match=r"train: has no folder train; layout train-test needs it"):
        open_folder(tmp_path / "photos" / "train", "train-test")


def test_classes_called_train_and_test_are_asked_about(tmp_path):
    put(tmp_path / "photos" / "train" / "cat" / "1.png")
    put(tmp_path / "photos" / "test" / "cat" / "1.png")
    assert "write layout: train-test" in open_folder(tmp_path / "photos", "classes").notes[0]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent: there is no such folder; put a folder of images"):
        open_folder(tmp_path / "absent", "classes")


def test_many_files_come_in_the_order_of_their_paths_a_few_batches_at_a_time(tmp_path, monkeypatch):
    for number in range(40):
        put(tmp_path / "photos" / f"class {number % 3}" / f"{number}.png")
    (tmp_path / "photos" / "class 1" / "bad.png").touch()
    monkeypatch.setattr("csd_core.data.sources.protocol.BATCH_IMAGES", 3)
    monkeypatch.setattr("csd_core.data.sources.decoding.WORKERS", 2)
    source = open_folder(tmp_path / "photos", "classes")
    batches = list(source.batches(FORM))
    assert max(len(batch.paths) for batch in batches) == 3
    paths = [path for batch in batches for path in batch.paths]
    assert paths == sorted(paths)
    assert len(paths) == 40
    assert [row.path for batch in batches for row in batch.rejected] == ["class 1/bad.png"]


def test_a_reader_that_stops_early_leaves_no_work_behind(tmp_path, monkeypatch):
    for number in range(40):
        put(tmp_path / "photos" / "cat" / f"{number}.png")
    monkeypatch.setattr("csd_core.data.sources.protocol.BATCH_IMAGES", 1)
    decoded = []

    def count(file, form, box):
        decoded.append(file)
        return decode(file, form, box)

    monkeypatch.setattr("csd_core.data.sources.decoding.decode", count)
    monkeypatch.setattr("csd_core.data.sources.decoding.WORKERS", 1)
    batches = open_folder(tmp_path / "photos", "classes").batches(FORM)
    next(batches)
    next(batches)
    batches.close()
    assert 1 <= len(decoded) <= 4
