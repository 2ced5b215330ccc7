import numpy as np
import pytest
from worlds import UPGRADE, bent, mean_cosine, rotation, unit, unit_vectors

from csd_core.upgrade.mapping.maps import PairSums, fit_drift, linear_maps, local_maps


def both(source, target):
    """Sums with and without means."""
    plain = PairSums.of(source, target)
    return plain, plain.centred(source, target)


def shifted(count, dimension, seed=0):
    """Unit vectors with a large mean, as after a ReLU."""
    return unit(np.abs(unit_vectors(count, dimension, seed)) + 0.2)


# --- rotations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [False, True])
def test_procrustes_finds_a_rotation_exactly_whatever_the_vectors(centred):
    source = shifted(300, 8)
    fitted = both(source, unit(source @ rotation(8)))[centred].procrustes()
    np.testing.assert_allclose(fitted.linear, rotation(8), atol=1e-5)
    unseen = unit_vectors(50, 8, seed=9)
    np.testing.assert_allclose(fitted(unseen), unseen @ rotation(8), atol=1e-5)


def test_no_rotation_comes_nearer_than_procrustes():
    source, target = unit_vectors(60, 5), bent(unit_vectors(60, 5))
    best = PairSums.of(source, target).procrustes().linear
    np.testing.assert_allclose(best @ best.T, np.eye(5), atol=1e-5)
    skew = np.random.default_rng(0).standard_normal((20, 5, 5)) * 0.05
    turns = [np.linalg.qr(np.eye(5) + each - each.T)[0] for each in skew]
    turns = [turn * np.sign(np.diag(turn)) for turn in turns]

    def distance(turn):
        return float(((source @ turn - target) ** 2).sum())

    assert all(distance(best) < distance(best @ turn) for turn in turns)


def test_a_rotation_into_more_dimensions_keeps_every_cosine():
    source = unit_vectors(100, 5)
    inside = rotation(8)[:5]
    fitted = PairSums.of(source, unit(source @ inside)).procrustes()
    np.testing.assert_allclose(fitted.linear, inside, atol=1e-5)
    back = PairSums.of(unit(source @ inside), source).procrustes()
    np.testing.assert_allclose(back(fitted(source)), source, atol=1e-5)


@pytest.mark.parametrize("method", ["procrustes", "ridge", "cca"])
def test_a_map_without_means_keeps_the_targets_mean_and_spread(method):
    source, target = shifted(300, 8), bent(shifted(300, 8))
    sums = both(source, target)[1]
    fitted = {"procrustes": sums.procrustes, "ridge": lambda: sums.ridge(1.0), "cca": lambda: sums.cca(3)}[method]()
    moved = fitted.moved(source)
    np.testing.assert_allclose(moved.mean(axis=0), target.mean(axis=0), atol=1e-5)
    assert moved.var(axis=0).sum() == pytest.approx(target.var(axis=0).sum(), rel=1e-4)


# --- ridge ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [4, 6, 9])
@pytest.mark.parametrize("penalty", [0.001, 0.1, 1.0])
def test_the_ridge_solves_the_normal_equations(penalty, dimension):
    source, target = unit_vectors(50, 6), unit_vectors(50, dimension, seed=5)
    x, y = source.astype(float), target.astype(float)
    scale = penalty * np.trace(x.T @ x) / 6
    expected = np.linalg.solve(x.T @ x + scale * np.eye(6), x.T @ y)
    np.testing.assert_allclose(PairSums.of(source, target).ridge(penalty).linear, expected, atol=1e-5)


def test_the_ridge_without_means_is_that_of_centred_vectors_scaled():
    source, target = shifted(50, 6), shifted(50, 4, seed=5)
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    linear = np.linalg.solve(x.T @ x + 0.1 * np.trace(x.T @ x) / 6 * np.eye(6), x.T @ y)
    fitted = both(source, target)[1].ridge(0.1)
    np.testing.assert_allclose(fitted.linear, linear * np.linalg.norm(y) / np.linalg.norm(x @ linear), atol=1e-4)


def test_no_nearby_map_does_better_than_the_ridge():
    source, target = unit_vectors(50, 4), unit_vectors(50, 4, seed=5)
    penalty = 0.1 * float((source.astype(float) ** 2).sum()) / 4

    def loss(linear):
        return float(((source @ linear - target) ** 2).sum() + penalty * (linear**2).sum())

    best = PairSums.of(source, target).ridge(0.1).linear.astype(float)
    nudges = np.random.default_rng(0).standard_normal((20, 4, 4)) * 0.01
    assert all(loss(best) < loss(best + nudge) for nudge in nudges)


def test_a_known_linear_map_is_recovered():
    source = unit_vectors(400, 8)
    found = PairSums.of(source, unit(source @ rotation(8))).ridge(1e-6)
    np.testing.assert_allclose(found.linear, rotation(8), atol=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_fewer_images_than_dimensions_and_dead_dimensions_still_give_sound_maps(ridge):
    source = unit_vectors(10, 16)
    source[:, 3] = 0
    source = unit(source)
    target = unit(source @ rotation(16))
    assert mean_cosine(PairSums.of(source, target).ridge(ridge)(source), target) > 0.99
    settings = UPGRADE.adapter.model_copy(update={"ridge": [ridge]})
    for proposal in (*linear_maps(source, target, settings), *local_maps(source, target, settings)):
        mapped = proposal.fitted(unit_vectors(30, 16, seed=9))
        np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)


def test_a_single_image_gives_maps_that_hold_no_infinity():
    one, other = unit_vectors(1, 6), unit_vectors(1, 4, seed=1)
    for proposal in linear_maps(one, other, UPGRADE.adapter):
        assert np.isfinite(proposal.fitted(unit_vectors(5, 6))).all()


# --- canonical directions ---------------------------------------------------------------------------------------------


def test_canonical_directions_are_those_of_the_generalised_eigenproblem():
    rng = np.random.default_rng(0)
    source = unit(rng.standard_normal((4000, 6)))
    target = unit(source[:, :4] @ rng.standard_normal((4, 5)) + 0.7 * rng.standard_normal((4000, 5)))
    x, y = (each - each.mean(axis=0) for each in (source.astype(float), target.astype(float)))
    xx, yy, xy = x.T @ x, y.T @ y, x.T @ y
    squares = np.sort(np.linalg.eigvals(np.linalg.solve(xx, xy) @ np.linalg.solve(yy, xy.T)).real)[::-1]
    moved = both(source, target)[1].cca(2).moved(source).astype(float)
    moved -= moved.mean(axis=0)
    assert np.linalg.matrix_rank(moved, tol=1e-3) == 2
    basis = np.linalg.svd(moved, full_matrices=False)[0][:, :2]
    own = np.linalg.svd(y, full_matrices=False)[0]
    found = np.linalg.svd(basis.T @ own, compute_uv=False)
    np.testing.assert_allclose(found, np.sqrt(squares[:2]), atol=2e-3)


def test_all_canonical_directions_of_a_linear_map_are_the_map():
    source = unit_vectors(500, 6)
    found = both(source, unit(source @ rotation(6)))[1].cca(6)
    np.testing.assert_allclose(found.linear, rotation(6), atol=2e-3)


# --- nearly orthogonal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [5, 8, 11])
def test_a_looser_tolerance_fits_better_and_is_not_exceeded_by_much(dimension):
    source = shifted(400, 8)
    target = bent(source, dimension)
    sums = both(source, target)[1]
    small = min(8, dimension)
    errors, lengths = [], []
    for tolerance, fitted in sums.orthogonal([0.05, 0.2, 0.5]):
        w = fitted.linear.astype(float)
        lengths.append(np.linalg.norm((w @ w.T if dimension > 8 else w.T @ w) - np.eye(small)) / small**0.5)
        errors.append(float(((fitted.moved(source) - target) ** 2).sum(axis=1).mean()))
        assert lengths[-1] < tolerance + 0.05
    assert errors == sorted(errors, reverse=True)
    assert lengths == sorted(lengths)
    assert errors[0] > errors[-1] * 1.01


def test_no_nearby_map_within_the_tolerance_does_better():
    source = shifted(400, 5)
    target = bent(source)
    sums = both(source, target)[1]
    ((_, fitted),) = sums.orthogonal([0.1])
    x, y = (each - each.mean(axis=0, dtype=float) for each in (source, target))

    def loss(w):
        excess = np.linalg.norm(w.T @ w - np.eye(5)) - 0.1 * 5**0.5
        return float(((x @ w - y) ** 2).sum(axis=1).mean()) + max(0.0, excess) ** 2

    best = fitted.linear.astype(float)
    nudges = np.random.default_rng(0).standard_normal((50, 5, 5)) * 0.01
    assert all(loss(best) < loss(best + nudge) for nudge in nudges)


# --- local drift ------------------------------------------------------------------------------------------------------


def test_local_drift_is_what_a_loop_over_the_images_adds():
    source, target = unit_vectors(30, 4), bent(unit_vectors(30, 4))
    fitted = fit_drift(source, target, temperature=0.1, anchors=100)
    asked = unit_vectors(7, 4, seed=3)
    for row, mapped in zip(asked, fitted(asked), strict=True):
        shares = [np.exp(float(row @ each) / 0.1) for each in source]
        moved = row.astype(float)
        for share, before, after in zip(shares, source, target, strict=True):
            moved = moved + share / sum(shares) * (after - before)
        np.testing.assert_allclose(mapped, moved / np.linalg.norm(moved), atol=1e-5)


def test_a_local_map_keeps_at_most_so_many_images_evenly_drawn():
    source, target = unit_vectors(30, 4), bent(unit_vectors(30, 4))
    few = fit_drift(source, target, temperature=0.1, anchors=10)
    some = np.linspace(0, 29, 10).round().astype(int)
    assert few.neighbours[0].shape == (4, 10)
    np.testing.assert_array_equal(few.neighbours[1], target[some] - source[some])


def test_there_is_no_local_map_between_dimensions():
    assert not list(local_maps(unit_vectors(30, 4), unit_vectors(30, 5), UPGRADE.adapter))


# --- all of them ------------------------------------------------------------------------------------------------------


def test_every_strength_is_on_offer_once_and_the_simpler_first():
    source, target = unit_vectors(40, 8), bent(unit_vectors(40, 8), 6)
    settings = UPGRADE.adapter.model_copy(
        update={"ridge": [0.01, 1.0], "cca": [3, 50, 100], "orthogonal": [0.4, 0.1], "drift": [0.1, 0.4]}
    )
    offers = [(each.method, each.strength, each.centred) for each in linear_maps(source, target, settings)]
    ridges = [("ridge", 1.0), ("ridge", 0.01)]
    assert offers == [
        *(
            (method, strength, centred)
            for centred in (False, True)
            for method, strength in [("procrustes", None), *ridges]
        ),
        *(("cca", strength, True) for strength in (3, 6)),
        *(("orthogonal", strength, True) for strength in (0.1, 0.4)),
    ]
    assert [each.strength for each in local_maps(source, source, settings)] == [0.4, 0.1]
    assert [
        each.method
        for each in linear_maps(
            source, target, settings.model_copy(update={key: [] for key in ("ridge", "cca", "orthogonal")})
        )
    ] == ["procrustes"] * 2
