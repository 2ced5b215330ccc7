from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.system.errors import ArtifactError, CompatibilityError


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


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array"])
def test_damaged_vectors_are_one_line(tmp_path, content):
    gallery().save(tmp_path / "g")
    (tmp_path / "g" / "vectors.npy").write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged gallery .* make it again") as caught:
        Gallery.load(tmp_path / "g")
    assert "\n" not in str(caught.value)


def test_a_gallery_without_a_column_is_damaged(tmp_path):
    gallery().save(tmp_path / "g")
    rows = tmp_path / "g" / "rows.parquet"
    pq.write_table(pq.read_table(rows).drop_columns(["adapters"]), rows)
    with pytest.raises(ArtifactError, match="damaged gallery .*adapters"):
        Gallery.load(tmp_path / "g")


# --- provenance -------------------------------------------------------------------------------------------------------


def test_a_chain_of_adapters_grows_at_its_end():
    made = Provenance("m1", "")
    assert made.chain == ()
    assert made.mapped_by("a1") == Provenance("m1", "a1")
    assert made.mapped_by("a1").mapped_by("a2") == Provenance("m1", "a1,a2")
    assert made.mapped_by("a1").mapped_by("a2").chain == ("a1", "a2")


def generations(kinds):
    """A gallery whose rows have these (model, chain) kinds."""
    models, chains = (np.array([kind[part] for kind in kinds], np.str_) for part in (0, 1))
    plain = gallery([f"i{number}" for number in range(len(kinds))], dimension=max(1, len(kinds)))
    return replace(plain, embedded_by=models, adapters=chains)


@given(st.lists(st.tuples(st.sampled_from(["m1", "m2", "m3"]), st.sampled_from(["", "a1", "a1,a2"])), max_size=12))
def test_groups_equal_a_loop_over_rows(kinds):
    expected: dict[tuple[str, str], list[int]] = {}
    for row, kind in enumerate(kinds):
        expected.setdefault(kind, []).append(row)
    found = generations(kinds).groups() if kinds else Gallery.empty().groups()
    assert list(found) == [Provenance(*kind) for kind in expected]
    assert [rows.tolist() for rows in found.values()] == list(expected.values())


def test_some_rows_are_searched_by_the_same_model():
    whole = generations([("m1", ""), ("m2", "a1"), ("m1", "a1"), ("m2", "")])
    some = whole.take(np.array([3, 1]))
    assert some.ids.tolist() == ["i3", "i1"]
    assert list(some.groups()) == [Provenance("m2", ""), Provenance("m2", "a1")]
    np.testing.assert_array_equal(some.vectors, whole.vectors[[3, 1]])
    assert (some.query_model, some.searchable_spaces) == (whole.query_model, whole.searchable_spaces)
    assert len(whole.take(np.empty(0, np.intp)).groups()) == 0


def test_the_digest_sees_the_chain_and_the_spaces_that_may_be_searched():
    plain = gallery()
    assert plain.digest != replace(plain, adapters=np.array(["", "", "a1"])).digest
    assert plain.digest != replace(plain, searchable_spaces=("m1", "m0")).digest
    assert plain.digest != replace(plain, query_model="m2").digest


def test_provenance_is_saved_and_loaded(tmp_path):
    some = generations([("m1", "a1,a2"), ("m2", ""), ("m1", "")])
    some.save(tmp_path / "g")
    assert list(Gallery.load(tmp_path / "g").groups()) == list(some.groups())
