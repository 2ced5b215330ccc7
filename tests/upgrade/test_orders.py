import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import unit

from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.upgrade.backfill import orders
from csd_core.upgrade.backfill.orders import NEAREST, order_rows
from csd_core.upgrade.mapping.adapters import Anchors

ORDERS = ("random", "class", "class-mean", "residual")


def gallery(seed=0, rows=60, dimension=5):
    """Two generations of three classes."""
    rng = np.random.default_rng(seed)
    models = np.where(np.arange(rows) % 3 == 0, "m1", "m2")
    column = np.full(rows, "x")
    return Gallery(
        ids=np.array([f"i{number:03}" for number in rng.permutation(rows)]),
        labels=np.array(["b", "a", "c"])[rng.integers(0, 3, rows)],
        tasks=column,
        splits=column,
        embedded_by=models,
        adapters=np.full(rows, ""),
        spaces=models,
        vectors=unit(rng.standard_normal((rows, dimension))),
        query_model="m2",
        searchable_spaces=("m1", "m2"),
    )


def anchors(seed=0, count=40, dimension=5, of=("m1", "m2")):
    rng = np.random.default_rng([seed, 7])
    return {
        Provenance(model, ""): Anchors(
            vectors=unit(rng.standard_normal((count, dimension))), residuals=rng.random(count).astype(np.float32)
        )
        for model in of
    }


def ids_in_order(order, rows, known, seed=3):
    return rows.ids[order_rows(order, rows, anchors=known, seed=seed)].tolist()


@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_an_order_names_every_row_once_and_does_not_depend_on_how_they_lie(order, seed):
    rows, known = gallery(seed), anchors(seed)
    shuffled = rows.take(np.random.default_rng(seed + 1).permutation(len(rows)))
    found = ids_in_order(order, rows, known)
    assert sorted(found) == sorted(rows.ids.tolist())
    assert ids_in_order(order, shuffled, known) == found


@pytest.mark.parametrize("order", ORDERS)
def test_an_empty_gallery_has_an_empty_order(order):
    assert order_rows(order, Gallery.empty(), anchors={}, seed=0).tolist() == []


def test_a_random_order_follows_its_seed():
    rows = gallery()
    assert ids_in_order("random", rows, {}, seed=1) != ids_in_order("random", rows, {}, seed=2)
    assert ids_in_order("random", rows, {}, seed=1) == ids_in_order("random", rows, {}, seed=1)


def test_class_by_class_leaves_no_class_half_done_before_the_next_starts():
    rows = gallery()
    labels = rows.labels[order_rows("class", rows, anchors={}, seed=1)]
    changes = np.flatnonzero(labels[1:] != labels[:-1])
    assert len(changes) == len(set(labels)) - 1
    assert {
        tuple(dict.fromkeys(rows.labels[order_rows("class", rows, anchors={}, seed=seed)].tolist()))
        for seed in range(20)
    } > {("a", "b", "c")}


def test_farthest_from_the_mean_of_class_and_space_comes_first():
    rows = gallery()
    cosine = {}
    for row in range(len(rows)):
        peers = [
            rows.vectors[each].astype(float)
            for each in range(len(rows))
            if (rows.labels[each], rows.spaces[each]) == (rows.labels[row], rows.spaces[row])
        ]
        mean = sum(peers) / np.linalg.norm(sum(peers))
        cosine[str(rows.ids[row])] = round(float(rows.vectors[row] @ mean), 6)
    assert ids_in_order("class-mean", rows, {}) == sorted(cosine, key=lambda each: (cosine[each], each))


@pytest.mark.parametrize("count", [2, NEAREST, 40])
def test_the_largest_residual_of_the_nearest_anchors_comes_first(count, monkeypatch):
    rows, known = gallery(), anchors(count=count)
    monkeypatch.setattr(orders, "BLOCK_BYTES", 7 * 4 * count)
    expected = {}
    for row in range(len(rows)):
        mine = known[Provenance(str(rows.embedded_by[row]), "")]
        nearest = sorted(range(count), key=lambda each: -float(rows.vectors[row] @ mine.vectors[each]))[:NEAREST]
        expected[str(rows.ids[row])] = float(np.mean([mine.residuals[each] for each in nearest]))
    found = ids_in_order("residual", rows, known)
    values = [expected[each] for each in found]
    assert all(values[i] >= values[i + 1] - 2e-6 for i in range(len(values) - 1))


def test_rows_without_an_adapter_come_before_all_others_by_id():
    rows = gallery()
    found = ids_in_order("residual", rows, anchors(of=("m2",)))
    without = sorted(rows.ids[rows.embedded_by == "m1"].tolist())
    assert found[: len(without)] == without
