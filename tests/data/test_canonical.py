import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest

from csd_core.data.canonical import load_source, read_rejected, write_source
from csd_core.data.sources.protocol import Batch, Rejection
from csd_core.records.stages import ImageForm
from csd_core.system.errors import ArtifactError, DataError

FORM = ImageForm(size=2, channels=1, resize="squash")


@dataclass
class Listed:
    """A source of (path, label, source split, grey level) in batches of two; a level of None is a bad file."""

    items: list
    kind = "imagefolder"
    notes = ()

    def __len__(self):
        return len(self.items)

    def batches(self, form, thumbnails=None):  # noqa: ARG002 - a source without originals
        for start in range(0, len(self.items), 2):
            part = self.items[start : start + 2]
            good = [item for item in part if item[3] is not None]
            images = np.array([item[3] for item in good], np.uint8).reshape(-1, 1, 1, 1)
            yield Batch(
                images=np.tile(images, (1, form.size, form.size, 1)),
                labels=tuple(item[1] for item in good),
                source_splits=tuple(item[2] for item in good),
                paths=tuple(item[0] for item in good),
                rejected=tuple(Rejection(item[0], "is bad") for item in part if item[3] is None),
            )


def ingest(folder, items, *, max_rejected=0, advance=lambda _: None):
    return write_source(
        folder / "set",
        Listed(items),
        name="mine",
        form=FORM,
        max_rejected=max_rejected,
        complaints=folder / "rejected-mine.parquet",
        advance=advance,
    )


def test_a_set_is_read_as_it_was_written(tmp_path):
    told = []
    record = ingest(
        tmp_path,
        [("a/1", "b 10", "test", 1), ("a/2", "b 9", None, 2), ("a/3", "é🐈", "train", 3), ("a/4", "x", None, None)],
        max_rejected=1,
        advance=told.append,
    )
    found = load_source(tmp_path / "set")
    assert found.record == record
    assert (record.images, record.rejected, record.duplicates) == (3, 1, 0)
    assert record.classes == ("b 9", "b 10", "é🐈")
    assert isinstance(found.images, np.memmap)
    assert found.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert found.ids.tolist() == [hashlib.sha256(bytes([level] * 4)).hexdigest() for level in (1, 2, 3)]
    assert found.labels.tolist() == ["b 10", "b 9", "é🐈"]
    assert found.source_splits.tolist() == ["test", "", "train"]
    assert found.paths.tolist() == ["a/1", "a/2", "a/3"]
    assert sum(told) == 4


def test_of_equal_images_the_first_path_stays_and_the_others_are_listed_with_the_reason(tmp_path):
    items = [("a", "x", None, 1), ("b", "x", None, 1), ("c", "y", None, 1), ("d", "y", None, 2)]
    record = ingest(tmp_path, items, max_rejected=1)
    assert (record.images, record.duplicates, record.rejected) == (2, 2, 0)
    assert load_source(tmp_path / "set").paths.tolist() == ["a", "d"]
    assert pq.read_table(tmp_path / "set" / "rejected.parquet").to_pylist() == [
        {"path": "b", "reason": "duplicate of a"},
        {
            "path": "c",
            "reason": 'duplicate of a, which is of class "x": the same image cannot be in two classes',
        },
    ]


def test_equal_sources_give_equal_bytes(tmp_path):
    items = [("a", "x", None, 1), ("b", "x", "test", 2), ("c", "y", None, None)]
    for name in ("one", "two"):
        ingest(tmp_path / name, items, max_rejected=1)
    for file in ("images.npy", "items.parquet", "rejected.parquet", "source.json"):
        assert (tmp_path / "one" / "set" / file).read_bytes() == (tmp_path / "two" / "set" / file).read_bytes()


def test_as_many_bad_files_as_are_allowed_are_listed_and_one_more_stops_the_run(tmp_path):
    items = [("0", "x", None, 1), *((f"{number}", "x", None, None) for number in range(1, 8))]
    assert ingest(tmp_path / "enough", items, max_rejected=7).rejected == 7
    with pytest.raises(DataError, match=r"source mine: 7 files are unusable, data.max_rejected allows 6") as caught:
        ingest(tmp_path / "many", items, max_rejected=6)
    assert "1 is bad; 2 is bad; 3 is bad; 4 is bad; 5 is bad; and 2 more" in str(caught.value)
    complaints = tmp_path / "many" / "rejected-mine.parquet"
    assert "`csd sources rejected mine` lists all" in str(caught.value)
    assert pq.read_table(complaints)["path"].to_pylist() == list("1234567")
    assert not (tmp_path / "many" / "set").exists()

    ingest(tmp_path / "many", items, max_rejected=7)
    assert not complaints.exists()


def test_a_source_without_a_usable_image_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"source mine: no usable image; add images to it"):
        ingest(tmp_path, [])
    with pytest.raises(DataError, match="source mine: no usable image: a is bad"):
        ingest(tmp_path, [("a", "x", None, None)], max_rejected=5)


def test_a_source_out_of_order_is_a_mistake_of_its_author(tmp_path):
    with pytest.raises(ValueError, match="a comes after b"):
        ingest(tmp_path, [("b", "x", None, 1), ("a", "x", None, 2)])


def test_a_set_whose_files_do_not_belong_together_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"source.json: missing"):
        load_source(tmp_path / "set")
    ingest(tmp_path, [("a", "x", None, 1), ("b", "x", None, 2)])
    ingest(tmp_path / "other", [("a", "x", None, 1)])
    (tmp_path / "other" / "set" / "images.npy").replace(tmp_path / "set" / "images.npy")
    with pytest.raises(ArtifactError, match="the record counts 2 images, images.npy has 1, items.parquet 2"):
        load_source(tmp_path / "set")


def test_a_copy_in_another_class_counts_as_unusable_and_one_within_its_class_does_not(tmp_path):
    items = [("a", "x", None, 1), ("b", "x", None, 1), ("c", "y", None, 1), ("d", "y", None, None)]
    ingest(tmp_path, items, max_rejected=2)
    kinds = {each.path: each.kind for each in read_rejected(tmp_path / "set" / "rejected.parquet")}
    assert kinds == {"b": "copy", "c": "conflict", "d": "unusable"}
    with pytest.raises(DataError, match=r"2 files are unusable \(1 are copies of an image in another class\)"):
        ingest(tmp_path / "again", items, max_rejected=1)
    kinds = {each.path: each.kind for each in read_rejected(tmp_path / "again" / "rejected-mine.parquet")}
    assert kinds == {"c": "conflict", "d": "unusable"}
