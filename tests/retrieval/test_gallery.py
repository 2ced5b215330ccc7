import numpy as np
import pytest

from csd_core.errors import ArtifactError, CompatibilityError
from csd_core.retrieval.gallery import Gallery


def gallery(names=("ä", "b", "c"), *, model="m1", dimension=4):
    vectors = np.eye(dimension, dtype=np.float32)[: len(names)]
    column = np.array(["x"] * len(names))
    return Gallery.embedded(
        ids=np.array(names), labels=column, tasks=column, splits=column, vectors=vectors, model=model
    )


def test_what_is_saved_is_loaded_again(tmp_path):
    saved = gallery()
    saved.save(tmp_path / "g")
    loaded = Gallery.load(tmp_path / "g")
    assert loaded.ids.tolist() == ["ä", "b", "c"]
    assert loaded.digest == saved.digest
    np.testing.assert_array_equal(loaded.vectors, saved.vectors)


def test_an_empty_gallery_is_saved_and_loaded(tmp_path):
    Gallery.empty().save(tmp_path / "g")
    assert len(Gallery.load(tmp_path / "g")) == 0


def test_equal_galleries_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        gallery().save(tmp_path / name)
    for file in ("rows.parquet", "vectors.npy", "gallery.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_digest_sees_vectors_and_provenance():
    plain = gallery()
    assert plain.digest != gallery(model="m2").digest
    assert plain.digest != gallery(("ä", "b")).digest


def test_vectors_that_are_not_unit_length_are_refused():
    column = np.array(["x"])
    with pytest.raises(CompatibilityError, match="1 vectors are not of unit length, such as that of item x"):
        Gallery.embedded(
            ids=column, labels=column, tasks=column, splits=column, vectors=np.full((1, 4), 0.9, np.float32), model="m"
        )


def test_vectors_that_are_no_numbers_are_refused():
    column = np.array(["x"])
    with pytest.raises(CompatibilityError, match="not of unit length"):
        Gallery.embedded(
            ids=column,
            labels=column,
            tasks=column,
            splits=column,
            vectors=np.full((1, 4), np.nan, np.float32),
            model="m",
        )


def test_an_item_has_one_row():
    with pytest.raises(ArtifactError, match="an id occurs twice"):
        gallery(("a", "a"))


def test_columns_have_one_length():
    column = np.array(["x"])
    with pytest.raises(ArtifactError, match="all must be equal"):
        Gallery.embedded(
            ids=column,
            labels=column,
            tasks=column,
            splits=column,
            vectors=np.eye(4, dtype=np.float32)[:2],
            model="m",
        )


def test_a_space_that_may_not_be_searched_is_refused():
    with pytest.raises(CompatibilityError, match="space of m1 cannot be searched by model m2; backfill"):
        gallery().joined(gallery(("d",), model="m2"), query_model="m2", searchable_spaces=("m2",))


def test_rows_of_another_dimension_are_refused():
    with pytest.raises(CompatibilityError, match="new rows have 5 dimensions, the gallery 4"):
        gallery().joined(gallery(("d",), dimension=5), query_model="m1", searchable_spaces=("m1",))


def test_joining_with_nothing_keeps_what_is_there():
    some = gallery()
    for one, other in ((some, Gallery.empty()), (Gallery.empty(), some)):
        joined = one.joined(other, query_model="m1", searchable_spaces=("m1",))
        assert joined.ids.tolist() == some.ids.tolist()


def test_a_missing_or_damaged_gallery_says_so(tmp_path):
    with pytest.raises(ArtifactError, match="missing; run `csd run`"):
        Gallery.load(tmp_path / "nowhere")
    gallery().save(tmp_path / "g")
    (tmp_path / "g" / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="damaged gallery"):
        Gallery.load(tmp_path / "g")
