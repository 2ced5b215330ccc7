"""Mixed galleries: three generations in one, and what each plan does to every row of it."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import DIMENSION, upgrade_with

from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.strategies import Adapt, Backfill, Keep, NoGallery, PartialBackfill

EVERY_WAY = [
    Keep(),
    Adapt(),
    *(PartialBackfill(share=0.3, order=order, rest="adapt") for order in ("random", "class", "class-mean", "residual")),
    PartialBackfill(share=0.3, order="random", rest="keep"),
    Backfill(),
]
NAMES = [f"{way.name}-{getattr(way, 'order', '')}-{getattr(way, 'rest', '')}" for way in EVERY_WAY]


@pytest.fixture
def fourth(mixed, to_the_fourth):
    """The fourth model and its adapters to the mixed gallery."""
    return mixed.model(4), to_the_fourth


def test_a_chain_of_upgrades_leaves_rows_of_three_generations(mixed):
    first, second, third = (mixed.model(number).digest for number in (1, 2, 3))
    mapped, kept, fresh = mixed.gallery.groups()
    assert (mapped.embedded_by, len(mapped.chain)) == (first, 1)
    assert kept == Provenance(second, "")
    assert fresh == Provenance(third, "")
    assert mixed.gallery.searchable_spaces == (second, third)
    assert set(mixed.gallery.spaces) == {second, third}


def test_adapt_maps_each_row_by_its_own_provenance_and_chains_grow(mixed, fourth):
    candidate, adapters = fourth
    old = mixed.gallery
    after = Adapt().plan(mixed.situation(candidate, adapters)).apply(old, mixed.embed_by(candidate, "t4"))
    assert set(after.spaces) == {candidate.digest}
    assert after.searchable_spaces == (candidate.digest,)
    for row in range(len(old)):
        before = Provenance(str(old.embedded_by[row]), str(old.adapters[row]))
        adapter = adapters.chosen[before]
        assert Provenance(str(after.embedded_by[row]), str(after.adapters[row])) == before.mapped_by(adapter.digest)
        np.testing.assert_array_equal(after.vectors[row], adapter(old.vectors[row : row + 1])[0])
    assert [len(each.chain) for each in after.groups()] == [2, 1, 1]


def test_the_retained_lineage_embeds_images_as_the_rows_are_stored(mixed, fourth):
    candidate, adapters = fourth
    images = {str(name): image for shard in mixed.shards for name, image in zip(shard.ids, shard.images, strict=True)}
    half = PartialBackfill(share=0.3, order="random", rest="adapt")
    mixed.step(4, half, adapters=adapters)
    groups = mixed.gallery.groups()
    assert len(groups) == 4
    for provenance, rows in groups.items():
        embed = mixed.lineage.embed_as(provenance, device="cpu", threads=1)
        again = embed(np.stack([images[str(name)] for name in mixed.gallery.ids[rows]]))
        cosines = np.einsum("nd,nd->n", again, mixed.gallery.vectors[rows])
        assert cosines.min() > 1 - 1e-5
        assert candidate.digest in mixed.lineage.models


def served_vectors(seen, way):
    """(N, W) vectors as a way serves them; narrower ones end in zeros."""
    held = [(piece.rows, *seen.vectors(piece.source)) for piece in way.pieces]
    served = np.zeros((len(seen.labels), max(vectors.shape[1] for _, vectors, _ in held)), np.float32)
    for rows, vectors, place in held:
        served[rows, : vectors.shape[1]] = vectors[place[rows]]
    return served


@pytest.mark.parametrize("way", EVERY_WAY, ids=NAMES)
def test_what_is_measured_is_what_is_applied(mixed, fourth, way):
    candidate, adapters = fourth
    plan = way.plan(mixed.situation(candidate, adapters))
    applied = plan.apply(mixed.gallery, mixed.embed_by(candidate, "t4"))
    seen = mixed.evaluation("t4", candidate)
    way = seen.way_after(plan)
    served = served_vectors(seen, way)
    np.testing.assert_array_equal(served[seen.old], applied.vectors[seen.positions])
    np.testing.assert_array_equal(served[~seen.old], seen.candidate[~seen.old])
    assert seen.old.sum() == len(mixed.gallery)
    native = Provenance(candidate.digest, "")
    for piece in way.pieces:
        provenance, rows = piece.provenance, piece.rows
        old = rows[seen.old[rows]]
        mine = applied.take(seen.positions[np.cumsum(seen.old)[old] - 1])
        assert set(mine.groups()) <= {provenance}
        assert provenance == native or len(old) == len(rows)
    np.testing.assert_array_equal(seen.labels[seen.old], applied.labels[seen.positions])


@pytest.mark.parametrize("way", EVERY_WAY, ids=NAMES)
def test_every_row_is_embedded_anew_mapped_or_left_and_only_that(mixed, fourth, way):
    candidate, adapters = fourth
    plan = way.plan(mixed.situation(candidate, adapters))
    old = mixed.gallery
    after = plan.apply(old, mixed.embed_by(candidate, "t4"))
    mapped = plan.mapped(old)
    assert not (mapped & plan.embed).any()
    left = ~(mapped | plan.embed)
    assert left.any() == (way.name == "keep" or getattr(way, "rest", "") == "keep")
    for column in ("ids", "labels", "tasks", "splits"):
        np.testing.assert_array_equal(getattr(after, column), getattr(old, column))
    np.testing.assert_array_equal(after.vectors[left], old.vectors[left])
    assert (after.embedded_by[left] == old.embedded_by[left]).all()
    assert (after.adapters[left] == old.adapters[left]).all()
    assert (after.spaces[left] == old.spaces[left]).all()
    assert set(after.embedded_by[plan.embed].tolist()) <= {candidate.digest}
    assert set(after.adapters[plan.embed].tolist()) <= {""}
    assert (after.spaces[~left] == candidate.digest).all()
    assert after.query_model == candidate.digest


def test_images_are_asked_for_only_where_rows_are_embedded_anew(mixed, fourth):
    candidate, adapters = fourth
    asked = []

    def embed(ids):
        asked.extend(ids.tolist())
        return mixed.embed_by(candidate, "t4")(ids)

    situation = mixed.situation(candidate, adapters)
    Keep().plan(situation).apply(mixed.gallery, embed)
    Adapt().plan(situation).apply(mixed.gallery, embed)
    assert asked == []
    plan = PartialBackfill(share=0.3, order="random", rest="adapt").plan(situation)
    plan.apply(mixed.gallery, embed)
    assert asked == mixed.gallery.ids[plan.embed].tolist()


def test_a_row_whose_adapter_is_not_retained_is_embedded_anew_under_adapt(mixed):
    lost = next(iter(mixed.gallery.groups()))
    mixed.lineage = replace(mixed.lineage, adapters={})
    candidate = mixed.model(4)
    adapters = mixed.adapters("t4", candidate)
    assert lost not in adapters.chosen
    assert len(adapters.chosen) == 2
    plan = Adapt().plan(mixed.situation(candidate, adapters))
    np.testing.assert_array_equal(np.flatnonzero(plan.embed), mixed.gallery.groups()[lost])
    after = plan.apply(mixed.gallery, mixed.embed_by(candidate, "t4"))
    assert set(after.spaces) == {candidate.digest}
    assert (after.embedded_by[plan.embed] == candidate.digest).all()
    # the way to serve them without images is `keep`, which leaves them searchable
    kept = Keep().plan(mixed.situation(candidate, adapters)).apply(mixed.gallery, mixed.embed_by(candidate, "t4"))
    assert kept.groups()[lost].tolist() == mixed.gallery.groups()[lost].tolist()


def test_where_no_model_is_retained_adapt_is_impossible_and_says_so(mixed):
    mixed.lineage = replace(mixed.lineage, models={}, adapters={})
    candidate = mixed.model(4)
    adapters = mixed.adapters("t4", candidate)
    rows = len(mixed.gallery)
    assert Adapt().why_not(mixed.situation(candidate, adapters)) == (
        f"no model of the gallery's {rows} rows is retained"
    )
    partial = PartialBackfill(share=0.5, order="random", rest="adapt")
    assert partial.why_not(mixed.situation(candidate, adapters)) == Adapt().why_not(
        mixed.situation(candidate, adapters)
    )
    assert replace(partial, rest="keep").why_not(mixed.situation(candidate, adapters)) is None


def test_keep_searches_only_spaces_that_could_be_searched_before(mixed, fourth):
    candidate, adapters = fourth
    plan = Keep().plan(mixed.situation(candidate, adapters))
    assert plan.searchable_spaces == (*mixed.gallery.searchable_spaces, candidate.digest)
    forgetful = replace(plan, searchable_spaces=(candidate.digest,))
    with pytest.raises(CompatibilityError, match=r"rows in the space of \w{12} cannot be searched .* backfill them"):
        forgetful.apply(mixed.gallery, mixed.embed_by(candidate, "t4"))


def test_an_adapter_into_another_models_space_is_refused(mixed, fourth):
    candidate, adapters = fourth
    fifth = mixed.model(5)
    astray = mixed.adapters("t4", fifth, folder="astray")
    plan = replace(Adapt().plan(mixed.situation(candidate, adapters)), adapters=astray.chosen)
    with pytest.raises(CompatibilityError, match=f"space of {fifth.digest[:12]} cannot be searched"):
        plan.apply(mixed.gallery, mixed.embed_by(candidate, "t4"))


def test_rows_may_be_mapped_into_another_dimension_where_none_stays(mixed):
    wider = mixed.model(4, dimension=DIMENSION + 3)
    adapters = mixed.adapters("t4", wider, folder="wider")
    situation = mixed.situation(wider, adapters)
    for way in (Adapt(), PartialBackfill(share=0.3, order="random", rest="adapt")):
        assert way.why_not(situation) is None
        plan = way.plan(situation)
        after = plan.apply(mixed.gallery, mixed.embed_by(wider, "t4"))
        assert after.vectors.shape == (len(mixed.gallery), DIMENSION + 3)
        assert set(after.spaces) == {wider.digest}
        for provenance, rows in mixed.gallery.groups().items():
            mapped = rows[~plan.embed[rows]]
            np.testing.assert_array_equal(
                after.vectors[mapped], adapters.chosen[provenance](mixed.gallery.vectors[mapped])
            )
        seen = mixed.evaluation("t4", wider)
        np.testing.assert_array_equal(
            served_vectors(seen, seen.way_after(plan))[seen.old], after.vectors[seen.positions]
        )


def test_a_change_of_dimension_without_adapters_leaves_only_backfill(mixed):
    wider = mixed.model(4, dimension=DIMENSION + 3)
    situation = mixed.situation(wider, settings=upgrade_with(rest="keep"))
    reason = f"the gallery has {DIMENSION} dimensions, the candidate {DIMENSION + 3}"
    partial = PartialBackfill(share=0.5, order="random", rest="keep")
    assert [way.why_not(situation) for way in (Keep(), partial, Backfill())] == [reason] * 2 + [None]
    assert Adapt().why_not(situation) == "no model of the gallery's rows is retained"
    after = Backfill().plan(situation).apply(mixed.gallery, mixed.embed_by(wider, "t4"))
    assert after.vectors.shape == (len(mixed.gallery), DIMENSION + 3)
    assert list(after.groups()) == [Provenance(wider.digest, "")]
    with pytest.raises(CompatibilityError, match="8 dimensions, the candidate 11; backfill every row"):
        partial.plan(situation).apply(mixed.gallery, mixed.embed_by(wider, "t4"))
    with pytest.raises(CompatibilityError, match="8 dimensions, the candidate 11; backfill every row"):
        Keep().plan(situation).apply(mixed.gallery, mixed.embed_by(wider, "t4"))


def test_a_plan_is_for_the_rows_it_was_made_for(mixed, fourth):
    candidate, adapters = fourth
    plan = Adapt().plan(mixed.situation(candidate, adapters))
    fewer = mixed.gallery.take(np.arange(5))
    with pytest.raises(CompatibilityError, match="the plan is for 144 rows, the gallery has 5; plan again"):
        plan.apply(fewer, mixed.embed_by(candidate, "t4"))
    same = plan.of(np.arange(5)).apply(fewer, mixed.embed_by(candidate, "t4"))
    np.testing.assert_array_equal(same.vectors, plan.apply(mixed.gallery, mixed.embed_by(candidate, "t4")).vectors[:5])


def test_an_empty_gallery_is_taken_over_without_an_image():
    class Nothing:
        gallery = Gallery.empty()
        candidate = "m1"

    after = NoGallery().plan(Nothing()).apply(Gallery.empty(), lambda ids: pytest.fail(f"asked for {ids}"))
    assert (len(after), after.query_model, after.searchable_spaces) == (0, "m1", ("m1",))
