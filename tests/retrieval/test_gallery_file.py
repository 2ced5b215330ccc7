import hashlib
import json

import numpy as np
import pytest

from csd_core.retrieval import gallery as in_memory
from csd_core.retrieval import gallery_file
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.gallery_file import GalleryFile
from csd_core.system.errors import ArtifactError

ROWS = 1000


@pytest.fixture
def gallery():
    number = np.arange(ROWS)
    vectors = np.random.default_rng(0).standard_normal((ROWS, 8)).astype(np.float32)
    models = np.array(["a" * 64, "b" * 64])[number % 2]
    return Gallery(
        ids=np.array([hashlib.sha256(f"ä{each}".encode()).hexdigest() for each in number]),
        labels=np.array(["Äpfel", "b"])[number % 2],
        tasks=np.array(["t1", "t2"])[number // 600],
        splits=np.full(ROWS, "train"),
        embedded_by=models,
        adapters=np.where(number % 4 == 1, "c" * 64, ""),
        spaces=np.where(number % 4 == 1, "a" * 64, models),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        query_model="a" * 64,
        searchable_spaces=("a" * 64, "b" * 64),
    )


@pytest.fixture
def stored(gallery, tmp_path):
    gallery.save(tmp_path / "g")
    return GalleryFile.load(tmp_path / "g")


def digest_at_once(gallery):
    """As it was before it was taken in pieces: of everything in one text."""
    found = hashlib.sha256()
    for column in ("ids", "labels", "tasks", "splits", "embedded_by", "adapters", "spaces"):
        found.update(json.dumps(getattr(gallery, column).tolist(), ensure_ascii=False).encode())
    found.update(json.dumps([gallery.query_model, gallery.searchable_spaces]).encode())
    found.update(gallery.vectors.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("rows", [1, 7, ROWS, 2 * ROWS])
def test_the_digest_is_the_same_however_many_rows_are_read_at_a_time(gallery, stored, monkeypatch, rows):
    for module in (in_memory, gallery_file):
        monkeypatch.setattr(module, "CHUNK", rows)
    assert stored.digest == gallery.digest == digest_at_once(gallery)
    assert digest_at_once(Gallery.empty()) == Gallery.empty().digest


def test_its_parts_are_its_rows_in_order(gallery, stored, monkeypatch):
    monkeypatch.setattr(gallery_file, "CHUNK", 300)
    parts = list(stored.parts())
    assert [len(each) for each in parts] == [300, 300, 300, 100]
    for column in ("ids", "labels", "tasks", "splits", "embedded_by", "adapters", "spaces", "vectors"):
        np.testing.assert_array_equal(
            np.concatenate([getattr(each, column) for each in parts]), getattr(gallery, column)
        )


def test_it_names_the_provenances_and_their_spaces(stored):
    own, kept, mapped = Provenance("a" * 64, ""), Provenance("b" * 64, ""), Provenance("b" * 64, "c" * 64)
    assert stored.kinds() == {(own, "a" * 64), (kept, "b" * 64), (mapped, "a" * 64)}


def test_it_holds_less_than_120_bytes_a_row_beside_the_vectors(stored):
    assert stored.columns.nbytes < 120 * ROWS
    assert isinstance(stored.vectors, np.memmap)


def test_files_of_different_galleries_are_refused(gallery, tmp_path):
    gallery.save(tmp_path / "g")
    gallery.take(np.arange(10)).save(tmp_path / "other")
    (tmp_path / "other" / "vectors.npy").replace(tmp_path / "g" / "vectors.npy")
    with pytest.raises(ArtifactError, match=r"the record has 1000 rows, rows\.parquet 1000, vectors\.npy 10; make"):
        GalleryFile.load(tmp_path / "g")
