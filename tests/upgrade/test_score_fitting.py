"""Scores that make one ranking of two models' rows: what is fitted, and what is chosen."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import situation_of, synthetic_evidence, unit

from csd_core.records.ranking import Identity, Logistic, Offset, Quantile
from csd_core.retrieval.metrics import recall_over
from csd_core.upgrade import scores
from csd_core.upgrade.compatibility import parts_after, scores_on, today
from csd_core.upgrade.scores import choose, fit_logistic, fit_offsets, fit_quantiles
from csd_core.upgrade.search.pieces import Nearest
from csd_core.upgrade.strategies import Keep, Merge


def levels(seed=0, queries=400, level=0.3):
    """Two parts that tell right from wrong equally well, the second at a higher level of cosines."""
    random = np.random.default_rng(seed)
    in_first = random.random(queries) < 0.5
    noise = random.normal(0, 0.02, (4, queries))
    right = np.where(np.stack([in_first, ~in_first]), 0.5, -np.inf) + noise[:2]
    wrong = 0.3 + noise[2:]
    right[1] += level
    wrong[1] += level
    near = [
        np.stack([np.where(np.isfinite(one), one, two - 0.1), two], axis=1)
        for one, two in zip(right, wrong, strict=True)
    ]
    return Nearest(
        right=right,
        wrong=wrong,
        cosines=tuple(each.astype(np.float32) for each in near),
        of_class=tuple(np.stack([np.isfinite(one), np.zeros(queries, bool)], axis=1) for one in right),
        counts=np.ones(queries, bool),
        hit_today=np.ones(queries, bool),
        half=np.arange(queries) % 2 == 0,
    )


@pytest.mark.parametrize(("fit", "kind"), [(fit_offsets, Offset), (fit_logistic, Logistic), (fit_quantiles, Quantile)])
def test_every_kind_undoes_a_difference_of_level(fit, kind):
    nearest = levels()
    assert nearest.merits([Identity(), Identity()]).mean() < 0.1
    maps = fit(nearest, [False, True])
    assert isinstance(maps[0], kind)
    assert nearest.merits(maps).mean() > 0.95


def test_an_offset_is_the_difference_of_the_levels():
    first, second = fit_offsets(levels(), [False, True])
    assert first.offset == pytest.approx(0.3, abs=0.06)
    assert second == Identity()


def test_where_cosines_serve_as_well_nothing_is_added():
    assert choose(levels(level=0.0), native=[False, True]) == [Identity(), Identity()]
    assert [each.kind for each in choose(levels(), native=[False, True])] == ["offset", "identity"]


def test_a_part_that_shows_no_right_row_has_no_logistic_map():
    nearest = levels()
    none = tuple(np.zeros_like(each) for each in nearest.of_class)
    blind = Nearest(**{name: getattr(nearest, name) for name in Nearest.__slots__} | {"of_class": none})
    assert fit_logistic(blind, [False, True]) is None


def raised(seen):
    """The same evidence with one more component that every vector of the candidate shares, so that cosines are high."""
    candidate = np.concatenate([seen.candidate, np.full((len(seen.candidate), 1), 3.0)], axis=1)
    champion = np.concatenate([seen.champion, np.zeros((len(seen.champion), 1))], axis=1)

    vectors = unit(champion)[seen.old]
    return replace(
        seen,
        candidate=unit(candidate),
        active={"m1": unit(champion)},
        stored=replace(seen.stored, vectors=vectors),
    )


def hits(seen, plan):
    asked = seen.labels[seen.asked]
    return recall_over(
        parts_after(seen, plan), query_labels=asked, gallery_labels=seen.labels, k=(1,), own=seen.asked
    ).at(1)


def test_rows_of_a_higher_level_do_not_hide_the_others():
    seen = raised(synthetic_evidence(rows=200, noise=0.3))
    (fitted,) = scores_on(seen, situation_of(seen))([Merge().plan(situation_of(seen))])
    raw = hits(seen, fitted.scored(tuple(each.model_copy(update={"score": Identity()}) for each in fitted.scoring)))
    assert raw < 0.7
    assert hits(seen, fitted) > raw + 0.2
    assert {each.query_model for each in fitted.scoring} == {"m1", "m2"}


def test_scores_do_not_depend_on_the_order_of_items():
    seen = raised(synthetic_evidence(rows=120, noise=0.3))
    order = np.random.default_rng(5).permutation(len(seen.labels))
    place = np.cumsum(seen.old) - 1

    other = replace(
        seen,
        labels=seen.labels[order],
        tasks=seen.tasks[order],
        splits=seen.splits[order],
        old=seen.old[order],
        stored=seen.stored.take(place[order][seen.old[order]]),
        positions=np.arange(len(seen.positions)),
        active={"m1": seen.champion[order]},
        candidate=seen.candidate[order],
    )
    plans = [scores_on(each, situation_of(each))([Merge().plan(situation_of(each))]) for each in (seen, other)]
    by_model = [{each.embedded_by: each.score for each in plan.scoring} for (plan,) in plans]
    assert by_model[0] == by_model[1]


def test_where_rows_of_a_provenance_are_not_measured_cosines_are_scores():
    seen = raised(synthetic_evidence(rows=120, noise=0.3))
    stored = seen.stored
    hidden = replace(
        stored,
        ids=np.char.add("hidden-", stored.ids),
        embedded_by=np.full(len(stored), "m0"),
        spaces=np.full(len(stored), "m0"),
        searchable_spaces=("m0",),
    )
    whole = stored.joined(hidden, query_model="m1", searchable_spaces=("m0", "m1"))
    situation = replace(situation_of(seen), gallery=whole)
    (plan,) = scores_on(seen, situation)([Merge().plan(situation)])
    assert {group.embedded_by: group.score for group in plan.scoring} == dict.fromkeys(("m0", "m1", "m2"), Identity())


def test_queries_that_cannot_hit_choose_nothing():
    nearest = levels()
    blind = Nearest(**{name: getattr(nearest, name) for name in Nearest.__slots__} | {"counts": nearest.counts & False})
    assert choose(blind, native=[False, True]) == [Identity(), Identity()]


def test_a_gallery_of_one_kind_gets_no_scores():
    seen = synthetic_evidence()
    everything = seen.asking(seen.asked)
    assert today(everything) is not None
    (plan,) = scores.with_scores([Keep().plan(situation_of(seen))], seen, None, seen.stored)
    assert plan.scoring == ()
