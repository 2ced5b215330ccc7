"""Two query models over one gallery: what stays, what must move before a third model, and what is measured."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import DIMENSION, TASKS, UPGRADE

from csd_core.records.ranking import Identity
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.check import check
from csd_core.upgrade.compatibility import compare, recalls_under, scores_on
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.strategies import Backfill, Keep, Merge, NoGallery


@pytest.fixture
def merged(world):
    """t1 by model 1, t2 by model 2, each searched by its own model's queries."""
    world.step(1, NoGallery())
    turn(world, 2)
    return world


def turn(world, number, *, adapters=None, dimension=DIMENSION, settings=UPGRADE):
    """A model takes the gallery over by merging, with the scores that the check would fit; returns the plan."""
    task, candidate = TASKS[number - 1], world.model(number, dimension=dimension)
    evaluation = world.evaluation(task, candidate, split="select")
    situation = world.situation(candidate, adapters, settings=settings)
    (plan,) = scores_on(evaluation, situation)([Merge().plan(situation)])
    return world.take_over(candidate, world.path(number, dimension=dimension), plan, task=task, adapters=adapters)


def test_no_stored_row_is_touched_and_each_is_searched_by_its_own_model(world):
    world.step(1, NoGallery())
    before = world.gallery
    plan = turn(world, 2)
    first, second = world.model(1).digest, world.model(2).digest
    assert not plan.embed.any()
    assert not plan.mapped(before).any()
    np.testing.assert_array_equal(world.gallery.vectors[: len(before)], before.vectors)
    assert world.gallery.query_models == (second, first)
    assert {(each.embedded_by, each.query_model) for each in world.gallery.scoring} == {
        (first, first),
        (second, second),
    }
    assert set(world.lineage.models) == {first, second}


def test_a_merged_gallery_is_saved_with_its_scores_and_read_again(merged, tmp_path):
    merged.gallery.save(tmp_path / "gallery")
    again = Gallery.load(tmp_path / "gallery")
    assert again.scoring == merged.gallery.scoring
    assert again.digest == merged.gallery.digest
    assert again.digest != replace(merged.gallery, scoring=()).digest


def test_before_a_third_model_would_enter_the_oldest_rows_are_mapped(merged):
    third = merged.model(3)
    adapters = merged.adapters("t3", third)
    plan = turn(merged, 3, adapters=adapters)
    first, second = merged.model(1).digest, merged.model(2).digest
    assert (plan.embed.sum(), len(plan.adapters)) == (0, 1)
    assert merged.gallery.query_models == (third.digest, second)
    (mapped,) = [each for each in merged.gallery.groups() if each.embedded_by == first]
    assert mapped.chain == (adapters.chosen[Provenance(first, "")].digest,)
    assert merged.gallery.searched_by(mapped).query_model == third.digest
    rows = merged.gallery.groups()[mapped]
    assert set(merged.gallery.spaces[rows]) == {third.digest}


def test_or_re_embedded_where_no_adapter_can_map_them(merged):
    plan = turn(merged, 3, adapters=CandidateAdapters.none())
    assert plan.embed.sum() == 48
    assert Provenance(merged.model(1).digest, "") not in merged.gallery.groups()


def test_three_models_may_stay_where_that_is_allowed(merged):
    settings = UPGRADE.model_copy(update={"max_query_models": 3})
    plan = turn(merged, 3, settings=settings)
    assert not plan.embed.any()
    assert merged.gallery.query_models == tuple(merged.model(number).digest for number in (3, 2, 1))


def test_the_newest_query_model_comes_first_whatever_rows_lie_first(merged):
    settings = UPGRADE.model_copy(update={"max_query_models": 3})
    turn(merged, 3, settings=settings)
    turn(merged, 4, settings=settings)  # re-embeds the rows of the first model, which lie first
    assert merged.gallery.embedded_by[0] == merged.model(4).digest
    assert merged.gallery.query_models == tuple(merged.model(number).digest for number in (4, 3, 2))


def test_the_next_candidate_of_a_gallery_of_two_dimensions_is_measured_in_every_way(world):
    world.step(1, NoGallery())
    wider = DIMENSION + 3
    turn(world, 2, dimension=wider)
    candidate = world.model(3, dimension=wider)
    adapters = world.adapters("t3", candidate, folder="third")
    situation = world.situation(candidate, adapters)
    report = check(
        "t3",
        gate=world.evaluation("t3", candidate),
        select=world.evaluation("t3", candidate, split="select"),
        situation=situation,
        champion=world.gallery.query_model,
        pending=(),
        best_own_gallery={},
    )
    assert [each.name for each in report.alternatives if not each.possible] == ["keep"]
    assert report.cross_test is None
    assert {curve.order for curve in report.partial.curves} >= {"residual"}


def test_one_query_model_leaves_nothing_to_merge(merged):
    settings = UPGRADE.model_copy(update={"max_query_models": 1})
    situation = merged.situation(merged.model(3), settings=settings)
    assert Merge().why_not(situation) == "upgrade.max_query_models allows one query model"


def test_the_status_quo_of_a_merged_gallery_is_searched_by_both_models(merged):
    candidate = merged.model(3)
    seen = merged.evaluation("t3", candidate)
    situation = merged.situation(candidate)
    scored = scores_on(seen, situation)
    quo, (keep, merge, backfill) = compare(seen, situation, (Keep(), Merge(), Backfill()), scored)
    assert (keep.query_models, merge.query_models, backfill.query_models) == (1, 2, 1)
    blind = replace(seen, stored=replace(seen.stored, scoring=()))
    raw, _ = compare(blind, situation, (), scores_on(blind, situation))
    assert quo.overall.at[1] >= raw.overall.at[1]


def test_a_model_of_another_dimension_can_merge_and_narrower_rows_end_in_zeros(world):
    world.step(1, NoGallery())
    wider = DIMENSION + 3
    turn(world, 2, dimension=wider)
    gallery = world.gallery
    old = Provenance(world.model(1).digest, "")
    assert gallery.vectors.shape[1] == wider
    assert gallery.dimension_of(old) == DIMENSION
    assert not gallery.vectors[gallery.groups()[old], DIMENSION:].any()
    candidate = world.model(3, dimension=wider)
    seen = world.evaluation("t3", candidate)
    situation = world.situation(candidate)
    assert Keep().why_not(situation) is not None
    assert recalls_under(seen, scores_on(seen, situation)([Merge().plan(situation)]))[0] > 0.5


def test_rows_that_a_narrower_model_joins_are_padded_only_in_a_merged_gallery(world):
    world.step(1, NoGallery())
    narrower = world.model(2, dimension=DIMENSION - 2)
    with pytest.raises(CompatibilityError, match="new rows have 6 dimensions, the gallery 8"):
        world.gallery.joined(
            Gallery.embedded(
                ids=np.array(["new"]),
                labels=np.array(["a"]),
                tasks=np.array(["t2"]),
                splits=np.array(["gate"]),
                vectors=np.eye(1, DIMENSION - 2, dtype=np.float32),
                model=narrower.digest,
            ),
            query_model=narrower.digest,
            searchable_spaces=(*world.gallery.searchable_spaces, narrower.digest),
        )
    turn(world, 2, dimension=DIMENSION - 2)
    assert world.gallery.vectors.shape[1] == DIMENSION
    assert {group.dimension for group in world.gallery.scoring} == {DIMENSION, DIMENSION - 2}
    assert all(isinstance(group.score, Identity) or group.score.kind for group in world.gallery.scoring)
