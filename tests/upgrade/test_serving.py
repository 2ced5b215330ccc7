import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_core.retrieval.metrics import TIE, recall_at
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.mixed_gallery import Calibration, simulate

SHARES = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def around_centres(draw, labels, *, noise, dimension=8):
    """Vectors (N, D) near one centre for each class."""
    centres = draw.normal(size=(labels.max() + 1, dimension))
    return unit(centres[labels] + noise * draw.normal(size=(len(labels), dimension)))


class Upgrade:
    """Items of a gallery before and after, a worse model and a better one, and other items to calibrate on."""

    def __init__(self, seed=0, *, items=120, classes=6, new_classes=2, dimension_old=8):
        draw = np.random.default_rng(seed)
        self.labels = np.concatenate([np.arange(classes), draw.integers(0, classes, items - classes)])
        self.old = self.labels < classes - new_classes
        other = draw.integers(0, classes, 200)
        both = np.concatenate([self.labels, other])
        queries_old = around_centres(draw, both, noise=0.9, dimension=dimension_old)
        queries_new = around_centres(draw, both, noise=0.7)
        self.queries_old, self.queries_new = queries_old[:items], queries_new[:items]
        # what is stored is not quite what the champion would make today: rows of earlier generations
        self.rows_old = unit(self.queries_old + 0.1 * draw.normal(size=self.queries_old.shape))
        self.order = draw.permutation(np.flatnonzero(self.old))
        self.calibration_old = Calibration.fit(queries=queries_old[items:], rows=queries_old[items:], labels=other)
        self.calibration_new = Calibration.fit(queries=queries_new[items:], rows=queries_new[items:], labels=other)

    def simulate(self, shares=SHARES, **changed):
        arguments = {
            "queries_old": self.queries_old,
            "queries_new": self.queries_new,
            "rows_old": self.rows_old,
            "rows_new": self.queries_new,
            "labels": self.labels,
            "old": self.old,
            "order": self.order,
            "shares": shares,
            "calibration_old": self.calibration_old,
            "calibration_new": self.calibration_new,
        }
        return simulate(**(arguments | changed))

    def backfilled(self):
        return self_recall(self.queries_new, self.queries_new, self.labels)


def self_recall(queries, rows, labels):
    own = np.arange(len(rows))
    return recall_at(queries, rows, query_labels=labels, gallery_labels=labels, k=(1,), self_index=own).at(1)


def by_loop(upgrade, share):
    """Naive and merged Recall@1, a query and a row at a time."""
    embedded = set(upgrade.order[: int(np.rint(share * len(upgrade.order)))].tolist())
    naive, merged = [], []
    for query, label in enumerate(upgrade.labels):
        scores = []
        for row, of_row in enumerate(upgrade.labels):
            if row == query:
                continue
            is_new = row in embedded or not upgrade.old[row]
            margin = float(TIE) if of_row == label else 0.0
            vector = upgrade.queries_new[row] if is_new else upgrade.rows_old[row]
            cosine = float(upgrade.queries_new[query] @ vector) - margin
            if is_new:
                calibrated = float(upgrade.calibration_new(cosine))
            else:
                calibrated = float(
                    upgrade.calibration_old(float(upgrade.queries_old[query] @ upgrade.rows_old[row]) - margin)
                )
            scores.append((of_row == label, cosine, calibrated))
        if any(right for right, _, _ in scores):
            for column, hits in ((1, naive), (2, merged)):
                right = max(score[column] for score in scores if score[0])
                wrong = max(score[column] for score in scores if not score[0])
                hits.append(right > wrong)
    return np.mean(naive), np.mean(merged)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_ways_to_search_agree_with_a_readable_loop(seed):
    upgrade = Upgrade(seed)
    for point in upgrade.simulate():
        naive, merged = by_loop(upgrade, point.share)
        assert (point.naive, point.merged) == pytest.approx((naive, merged))


def test_in_blocks_of_a_few_queries_the_figures_are_the_same(monkeypatch):
    upgrade = Upgrade()
    whole = upgrade.simulate()
    monkeypatch.setattr("csd_core.upgrade.mixed_gallery.block_length", lambda _: 7)
    assert upgrade.simulate() == whole


def test_before_the_first_row_naive_is_keeping_the_stored_vectors():
    upgrade = Upgrade()
    mixed = np.where(upgrade.old[:, None], upgrade.rows_old, upgrade.queries_new)
    assert upgrade.simulate([0.0])[0].naive == self_recall(upgrade.queries_new, mixed, upgrade.labels)


def test_before_the_first_row_merged_is_the_champions_own_search_where_no_item_is_new():
    upgrade = Upgrade(new_classes=0)
    assert upgrade.old.all()
    assert upgrade.simulate([0.0])[0].merged == self_recall(upgrade.queries_old, upgrade.rows_old, upgrade.labels)


@pytest.mark.parametrize("new_classes", [0, 2, 6])
def test_after_the_last_row_both_are_the_full_backfill(new_classes):
    upgrade = Upgrade(new_classes=new_classes)
    assert 0 < upgrade.backfilled() < 1
    done = upgrade.simulate([1.0])[0]
    assert (done.naive, done.merged) == (upgrade.backfilled(), upgrade.backfilled())


def test_merging_stays_near_the_champion_where_the_naive_mixture_collapses():
    upgrade = Upgrade(items=400, new_classes=0)  # two spaces that have nothing in common
    before = self_recall(upgrade.queries_old, upgrade.rows_old, upgrade.labels)
    start, half = upgrade.simulate([0.0, 0.5])
    assert start.naive < before - 0.3
    assert half.merged > before - 0.02


def test_the_most_useful_first_is_what_order_means():
    upgrade = Upgrade(items=400, new_classes=0)
    hard = upgrade.labels == 0
    upgrade.rows_old[hard] *= -1  # rows that the champion cannot find
    first = np.argsort(~hard, kind="stable")
    share = [hard.sum() / len(hard)]
    assert upgrade.simulate(share, order=first)[0].merged > upgrade.simulate(share, order=first[::-1])[0].merged


def test_another_dimension_can_be_merged_but_not_mixed():
    upgrade = Upgrade(dimension_old=5, new_classes=0)
    points = upgrade.simulate()
    assert [point.naive for point in points] == [None] * len(SHARES)
    assert points[0].merged == self_recall(upgrade.queries_old, upgrade.rows_old, upgrade.labels)
    assert points[-1].merged == upgrade.backfilled()


def test_stored_vectors_of_new_items_are_never_read():
    upgrade = Upgrade()
    before = upgrade.simulate()
    upgrade.rows_old[~upgrade.old] = np.nan
    assert upgrade.simulate() == before


def test_points_come_in_the_order_of_the_shares_asked_for():
    upgrade = Upgrade()
    forwards = upgrade.simulate(SHARES)
    assert [point.share for point in forwards] == SHARES
    assert upgrade.simulate(SHARES[::-1]) == forwards[::-1]


def test_a_tie_between_a_right_and_a_wrong_row_counts_against_us():
    vectors = unit(np.array([[1, 0], [1, 0.2], [1, 0.2]]))
    scale = Calibration(cosines=np.array([-1.01, 1.01]), shares=np.array([0.0, 1.0]))
    arguments = {"queries_old": vectors, "queries_new": vectors, "rows_old": vectors, "rows_new": vectors}
    (point,) = simulate(
        **arguments,
        labels=["a", "a", "b"],
        old=[False, True, True],
        order=[1, 2],
        shares=[0.5],
        calibration_old=scale,
        calibration_new=scale,
    )
    # item 0 finds rows 1 (right) and 2 (wrong) equally near, item 1 its double (wrong); "b" is alone in its class
    assert (point.naive, point.merged) == (0, 0)


def test_queries_alone_in_their_class_do_not_count():
    upgrade = Upgrade()
    labels = upgrade.labels.copy()
    labels[:3] = [100, 101, 102]
    counted = by_loop(upgrade_with(upgrade, labels), 0.5)
    point = upgrade.simulate([0.5], labels=labels)[0]
    assert (point.naive, point.merged) == pytest.approx(counted)


def upgrade_with(upgrade, labels):
    changed = Upgrade()
    changed.labels, changed.old, changed.order = labels, upgrade.old, upgrade.order
    return changed


@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
@settings(max_examples=40)
def test_the_order_of_items_changes_nothing(seed, share):
    upgrade = Upgrade(seed, items=40)
    shuffled = np.random.default_rng(seed).permutation(len(upgrade.labels))
    back = np.argsort(shuffled)
    assert upgrade.simulate(
        [share],
        queries_old=upgrade.queries_old[shuffled],
        queries_new=upgrade.queries_new[shuffled],
        rows_old=upgrade.rows_old[shuffled],
        rows_new=upgrade.queries_new[shuffled],
        labels=upgrade.labels[shuffled],
        old=upgrade.old[shuffled],
        order=back[upgrade.order],
    ) == upgrade.simulate([share])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"order": [0, 0]}, "give each old row once"),
        ({"old": [True]}, "give each old row once"),
        ({"shares": [0.5, 1.2]}, r"shares are \[0.5, 1.2\], each must lie between 0 and 1"),
        ({"shares": [float("nan")]}, "each must lie between 0 and 1"),
        ({"labels": ["a"]}, "with one label"),
        ({"rows_new": np.ones((3, 8), np.float32)}, "a row of the same space"),
        ({"queries_old": np.ones(4, np.float32)}, "queries: an array of 4 entries is no matrix"),
        ({"rows_old": np.full((120, 8), np.nan, np.float32)}, "rows: [0-9]+ of [0-9]+ vectors are not finite"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(CompatibilityError, match=message):
        Upgrade().simulate(**changed)


def test_a_calibrated_cosine_is_the_share_of_items_whose_nearest_wrong_row_is_farther():
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 4, 50)
    vectors = around_centres(draw, labels, noise=0.5)
    scale = Calibration.fit(queries=vectors, rows=vectors, labels=labels)
    nearest_wrong = np.where(labels[:, None] == labels, -np.inf, vectors @ vectors.T).max(axis=1)
    for cosine in nearest_wrong:
        assert scale(cosine + 1e-6) == pytest.approx((nearest_wrong <= cosine).sum() / 51, abs=1e-3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40)
def test_calibration_keeps_the_order_of_cosines(seed):
    draw = np.random.default_rng(seed)
    labels = np.arange(20) % 3
    vectors = around_centres(draw, labels, noise=draw.choice([0.0, 0.1, 3.0]))
    scale = Calibration.fit(queries=vectors, rows=vectors, labels=labels)
    assert (np.diff(scale(np.linspace(-1.002, 1.002, 500))) > 0).all()
    assert scale(-np.inf) == -np.inf


def test_equal_spaces_have_equal_scales_whatever_their_spread():
    draw = np.random.default_rng(5)
    labels = np.arange(60) % 5
    vectors = around_centres(draw, labels, noise=0.4)
    narrow = unit(np.concatenate([0.2 * vectors, np.ones((60, 1))], axis=1))  # the same angles' order, all near 1
    wide_scale = Calibration.fit(queries=vectors, rows=vectors, labels=labels)
    narrow_scale = Calibration.fit(queries=narrow, rows=narrow, labels=labels)
    cosines = vectors[0] @ vectors[1:].T
    np.testing.assert_allclose(wide_scale(cosines), narrow_scale(narrow[0] @ narrow[1:].T), atol=0.02)


@pytest.mark.parametrize("labels", [[], ["a", "a", "a"]])
def test_items_of_one_class_calibrate_nothing(labels):
    vectors = unit(np.ones((len(labels), 4)))
    with pytest.raises(CompatibilityError, match=f"on {len(labels)} items of .* classes: give at least two classes"):
        Calibration.fit(queries=vectors, rows=vectors, labels=labels)
