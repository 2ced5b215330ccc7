"""Many ways searched at once give what each way gives when it is searched alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from worlds import UPGRADE, synthetic_evidence

from csd_core.records.ranking import Identity, Logistic, Offset
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.metrics import TIE, map_over, recall_over
from csd_core.retrieval.parts import Part
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.check import check
from csd_core.upgrade.compatibility import compare, scores_on
from csd_core.upgrade.search import nearest, outcomes, ranks
from csd_core.upgrade.search.layout import Layout, Scope
from csd_core.upgrade.search.pieces import NEAREST, find_nearest
from csd_core.upgrade.search.precision import precisions
from csd_core.upgrade.search.ranks import recalls
from csd_core.upgrade.search.ways import Piece, Source, Way
from csd_core.upgrade.strategies import Adapt, Backfill, Keep, Merge, PartialBackfill

K = (1, 5, 10)
MAPS = (Identity(), Offset(offset=0.125), Offset(offset=-0.25), Logistic(slope=2.0, offset=0.5))


def random_ways(seen, seed):
    """Ways whose rows come from either model at random, with scores of any kind."""
    rng = np.random.default_rng(seed)
    ways = []
    for _ in range(4):
        source = rng.integers(0, 3, len(seen.labels))
        known = (("m1", Source(model="m1")), ("m2", Source(model="m2")), ("m2", Source(model="m1")))
        pieces = (
            Piece(
                provenance=Provenance(by.model, ""),
                rows=np.flatnonzero(source == number),
                source=by,
                query_model=model,
                score=MAPS[rng.integers(len(MAPS))],
            )
            for number, (model, by) in enumerate(known)
        )
        ways.append(Way(pieces=tuple(piece for piece in pieces if len(piece.rows))))
    return ways


def random_scopes(seen, seed):
    rng = np.random.default_rng(seed + 1)
    count, asked = len(seen.labels), len(seen.asked)
    everything = Scope(rows=np.ones(count, np.bool_), queries=np.ones(asked, np.bool_))
    some = [Scope(rows=rng.random(count) < 0.6, queries=rng.random(asked) < 0.4) for _ in range(2)]
    return [everything, *some, replace(everything, queries=np.zeros(asked, np.bool_))]


def alone(seen, way, scope):
    """The same by one search of the scope's rows for its queries."""
    place = np.where(scope.rows, np.cumsum(scope.rows) - 1, -1)
    parts = [
        Part(
            queries=part.queries[scope.queries],
            rows=part.rows[scope.rows[part.positions]],
            positions=place[part.positions[scope.rows[part.positions]]],
            score=part.score,
        )
        for part in seen.parts(way)
    ]
    asked = seen.asked[scope.queries]
    return recall_over(
        parts,
        query_labels=seen.labels[asked],
        gallery_labels=seen.labels[scope.rows],
        k=K,
        own=seen.groups_of(asked),
        groups=seen.groups_of(np.flatnonzero(scope.rows)),
    )


def grouped(seen, seed):
    """The same with groups of about three items of a class; of an even seed each item is on its own."""
    if seed % 2 == 0:
        return seen
    drawn = np.random.default_rng(seed).integers(0, 1 + len(seen.labels) // 15, len(seen.labels))
    pairs = np.char.add(np.char.add(seen.labels, "-"), drawn.astype(np.str_))
    return replace(seen, groups=np.unique(pairs, return_inverse=True)[1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(6, 90), queries=st.integers(1, 90))
def test_every_way_has_the_ranks_of_a_search_of_its_own(seed, rows, queries):
    seen = grouped(synthetic_evidence(seed=seed, rows=rows), seed)
    seen = seen.asking(np.random.default_rng(seed).permutation(rows)[:queries])
    ways, scopes = random_ways(seen, seed), random_scopes(seen, seed)
    for way, found in zip(ways, recalls(Layout.of(seen, ways, scopes), K), strict=True):
        for scope, recall in zip(scopes, found, strict=True):
            expected = alone(seen, way, scope)
            np.testing.assert_array_equal(recall.rank, expected.rank)
            np.testing.assert_array_equal(recall.possible, expected.possible)
            assert recall.k == K


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(6, 90))
def test_every_way_has_the_precision_of_a_search_of_its_own(seed, rows):
    seen = grouped(synthetic_evidence(seed=seed, rows=rows), seed)
    ways, own = random_ways(seen, seed), seen.groups_of(np.arange(rows))
    some = np.flatnonzero(np.random.default_rng(seed).random(rows) < 0.5)
    for way, found in zip(ways, precisions(Layout.of(seen, ways, []), some, ways=range(len(ways))), strict=True):
        expected = map_over(seen.parts(way), query_labels=seen.labels, gallery_labels=seen.labels, own=own, groups=own)
        np.testing.assert_allclose(found, expected[some], rtol=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(6, 60))
def test_groups_of_one_give_what_is_measured_without_groups_to_the_bit(seed, rows):
    seen = synthetic_evidence(seed=seed, rows=rows)
    ways = random_ways(seen, seed)
    numbered = replace(seen, groups=np.random.default_rng(seed).permutation(rows) + 7)
    (plain, _), (grouped_, _) = (outcomes.measure(each, ways) for each in (seen, numbered))
    for one, other in zip(plain, grouped_, strict=True):
        assert one.measurement == other.measurement
        np.testing.assert_array_equal(one.recall.rank, other.recall.rank)
    pieces = [tuple(replace(piece, score=Identity()) for piece in way.pieces) for way in ways]
    today = outcomes.search(seen, ways[:1])[0]
    for one, other in zip(*(find_nearest(each, pieces, today) for each in (seen, numbered)), strict=True):
        assert [one.right.tobytes(), one.wrong.tobytes()] == [other.right.tobytes(), other.wrong.tobytes()]
        assert [each.tobytes() for each in one.cosines] == [each.tobytes() for each in other.cosines]


def test_neither_threads_nor_blocks_nor_tiles_change_a_figure(monkeypatch, mixed, to_the_fourth):
    candidate = mixed.model(4)
    seen, situation = mixed.evaluation("t4", candidate), mixed.situation(candidate, to_the_fourth)
    strategies = (Keep(), Adapt(), Merge(), PartialBackfill(share=0.3, order="class", rest="adapt"), Backfill())

    scored = scores_on(seen, situation)  # fitted once, for the last bit of a cosine decides how it is rounded

    def found():
        return compare(seen, situation, strategies, scored)

    expected = found()
    for module, sizes in ((ranks, (7, 5)), (nearest, (3, 4))):
        monkeypatch.setattr(module, "BLOCK_QUERIES", sizes[0])
        monkeypatch.setattr(module, "TILE_ROWS", sizes[1])
    monkeypatch.setattr(ranks, "CLASS_ROWS", 3)
    with threadpool_limits(3, user_api="blas"):
        assert found() == expected


def test_a_row_that_a_models_queries_cannot_search_is_refused():
    seen = synthetic_evidence()
    wider = replace(seen, candidate=np.eye(80, 9, dtype=np.float32))
    rows = Piece(provenance=Provenance("m1", ""), rows=np.arange(80), source=Source(model="m1"), query_model="m2")
    with pytest.raises(CompatibilityError, match="queries have 9 dimensions, the gallery 6"):
        Layout.of(wider, [Way(pieces=(rows,))], [])


def test_map_is_measured_on_fewer_queries_and_the_record_says_so(monkeypatch):
    seen = synthetic_evidence()
    way = seen.way_before()
    (whole,), _ = outcomes.measure(seen, [way])
    assert whole.measurement.map_queries is None
    monkeypatch.setattr(outcomes, "PRECISION_QUERIES", 20)
    (fewer,), _ = outcomes.measure(seen, [way])
    assert fewer.measurement.map_queries == 20
    asks = outcomes.fewer_queries(seen, 20)
    expected = map_over(seen.parts(way), query_labels=seen.labels, gallery_labels=seen.labels, own=np.arange(80))[asks]
    assert fewer.measurement.overall.map_at_r == pytest.approx(expected.mean())
    assert fewer.measurement.overall.at == whole.measurement.overall.at


def test_a_check_asks_as_many_queries_as_upgrade_max_queries_allows_and_says_of_how_many(mixed, to_the_fourth):
    candidate = mixed.model(4)

    def report(most):
        settings = UPGRADE.model_copy(update={"max_queries": most})
        return check(
            "t4",
            gate=mixed.evaluation("t4", candidate),
            select=mixed.evaluation("t4", candidate, split="select"),
            situation=mixed.situation(candidate, to_the_fourth, settings=settings),
            champion=mixed.gallery.query_model,
            pending=(),
            best_own_gallery={},
        )

    every, enough, fewer = report(None), report(48), report(15)
    assert every == enough
    assert (every.sampled_of, every.status_quo.overall.queries) == (None, 48)
    assert (fewer.sampled_of, fewer.status_quo.overall.queries) == (48, 15)
    assert fewer.rehearsal.status_quo.overall.queries == 15
    assert {each.measured.overall.queries for each in fewer.alternatives if each.measured} == {15}


def test_the_same_items_are_sampled_in_any_order_of_items():
    seen = synthetic_evidence()
    order = np.random.default_rng(3).permutation(80)
    other = seen.asking(order)
    np.testing.assert_array_equal(
        np.sort(outcomes.with_fewer_queries(seen, 9).asked), np.sort(outcomes.with_fewer_queries(other, 9).asked)
    )


def by_cosine(way):
    return [replace(piece, score=Identity()) for piece in way.pieces]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(6, 90), tile=st.integers(1, 40), block=st.integers(1, 40))
def test_the_nearest_rows_of_each_piece_are_those_of_a_search_of_its_own(seed, rows, tile, block):
    seen = synthetic_evidence(seed=seed, rows=rows)
    ways = random_ways(seen, seed)
    quo = outcomes.search(seen, [seen.way_before()])[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "TILE_ROWS", tile)
        patch.setattr(nearest, "BLOCK_QUERIES", block)
        found = find_nearest(seen, [by_cosine(way) for way in ways], quo)
    for way, each in zip(ways, found, strict=True):
        for number, piece in enumerate(way.pieces):
            (part,) = seen.parts(Way(pieces=(piece,)))
            similar = part.queries @ part.rows.T
            similar[part.positions == seen.asked[:, None]] = -np.inf
            of_class = seen.labels[part.positions] == seen.labels[seen.asked][:, None]
            right = np.where(of_class, similar, -np.inf).max(axis=1)
            wrong = np.where(of_class, -np.inf, similar).max(axis=1)
            np.testing.assert_allclose(each.right[number], right - TIE, atol=2e-6)
            np.testing.assert_allclose(each.wrong[number], wrong, atol=2e-6)
            order = np.argsort(-similar, axis=1)
            ranked, size = np.take_along_axis(similar, order, axis=1), min(NEAREST, len(piece.rows))
            np.testing.assert_allclose(each.cosines[number], ranked[:, :size], atol=2e-6)
            with np.errstate(invalid="ignore"):
                apart = np.diff(ranked, axis=1, prepend=np.inf, append=-np.inf) < -4e-6  # rounding swaps the others
            clear = (apart[:, :-1] & apart[:, 1:] & np.isfinite(ranked))[:, :size]
            expected = np.take_along_axis(of_class, order, axis=1)[:, :size]
            np.testing.assert_array_equal(each.of_class[number][clear], expected[clear])
