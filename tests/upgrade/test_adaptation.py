import numpy as np
import onnx
import pytest
from threadpoolctl import threadpool_limits
from worlds import TASKS, UPGRADE, World, unit

from csd_core.params.upgrade import AdapterParams
from csd_core.retrieval.adapter import Adapter, AdapterMetadata
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import recall_at
from csd_core.upgrade.adaptation import Fitted, fit_mlp, fit_ridge, write_adapter
from csd_core.upgrade.strategies import NoGallery

SETTINGS = AdapterParams(max_images=1000, ridge=1e-3, mlp_width=32, mlp_epochs=60, mlp_lr=5e-3)


def unit_vectors(count, dimension, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, dimension)))


def rotation(dimension, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, dimension)))[0]


def bent(source, seed=2):
    """A drift that no linear map undoes."""
    rng = np.random.default_rng(seed)
    dimension = source.shape[1]
    hidden = np.maximum(source @ rng.standard_normal((dimension, 12)), 0)
    return unit(0.5 * source @ rotation(dimension) + 0.5 * hidden @ rng.standard_normal((12, dimension)))


def saved(fitted, folder, *, method="ridge", name="adapter.onnx"):
    file = folder / name
    dimension = len(fitted.linear)
    write_adapter(fitted, file, AdapterMetadata(source="s", target="t", method=method, dimension=dimension))
    return Adapter.load(file, threads=1)


def mapped_by_hand(fitted, row):
    """One vector through an adapter, component by component."""
    size = len(row)
    moved = [sum(float(row[i]) * float(fitted.linear[i, j]) for i in range(size)) for j in range(size)]
    if fitted.hidden is not None:
        w1, b1, w2, b2 = (each.astype(float) for each in fitted.hidden)
        hidden = [max(0.0, sum(float(row[i]) * w1[i, h] for i in range(size)) + b1[h]) for h in range(len(b1))]
        moved = [moved[j] + sum(hidden[h] * w2[h, j] for h in range(len(b1))) + b2[j] for j in range(size)]
    length = sum(value * value for value in moved) ** 0.5
    return [value / length for value in moved]


def mean_cosine(one, other):
    return float(np.einsum("nd,nd->n", one, other).mean())


# --- the linear map ---------------------------------------------------------------------------------------------------


def test_the_ridge_is_the_minimum_that_a_loop_over_columns_finds():
    source, target = unit_vectors(50, 6), unit_vectors(50, 6, seed=5)
    penalty = 0.1 * np.mean([sum(float(value) ** 2 for value in column) for column in source.T])
    rooted = np.vstack([source.astype(float), np.sqrt(penalty) * np.eye(6)])
    columns = [
        np.linalg.lstsq(rooted, np.append(target[:, column].astype(float), np.zeros(6)), rcond=None)[0]
        for column in range(6)
    ]
    np.testing.assert_allclose(fit_ridge(source, target, ridge=0.1).linear, np.transpose(columns), atol=1e-5)


def test_no_nearby_map_does_better_than_the_ridge():
    source, target = unit_vectors(50, 4), unit_vectors(50, 4, seed=5)
    penalty = 0.1 * float((source.astype(float) ** 2).sum()) / 4

    def loss(linear):
        return float(((source @ linear - target) ** 2).sum() + penalty * (linear**2).sum())

    best = fit_ridge(source, target, ridge=0.1).linear.astype(float)
    nudges = np.random.default_rng(0).standard_normal((20, 4, 4)) * 0.01
    assert all(loss(best) < loss(best + nudge) for nudge in nudges)


def test_a_known_linear_map_is_recovered():
    source = unit_vectors(400, 8)
    found = fit_ridge(source, unit(source @ rotation(8)), ridge=1e-6)
    np.testing.assert_allclose(found.linear, rotation(8), atol=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_fewer_images_than_dimensions_and_dead_dimensions_still_give_a_sound_map(tmp_path, ridge):
    source = unit_vectors(10, 16)
    source[:, 3] = 0
    source = unit(source)
    target = unit(source @ rotation(16))
    adapter = saved(fit_ridge(source, target, ridge=ridge), tmp_path)
    assert mean_cosine(adapter(source), target) > 0.99
    np.testing.assert_allclose(np.linalg.norm(adapter(unit_vectors(30, 16, seed=9)), axis=1), 1, atol=1e-5)


# --- the residual network ---------------------------------------------------------------------------------------------


def test_the_network_beats_the_linear_map_where_the_drift_is_not_linear(tmp_path):
    source, unseen = unit_vectors(600, 8), unit_vectors(200, 8, seed=8)
    linear = fit_ridge(source, bent(source), ridge=1e-3)
    network = fit_mlp(source, bent(source), linear, settings=SETTINGS, seed=1)
    by_linear, by_network = (
        mean_cosine(saved(fitted, tmp_path, name=name)(unseen), bent(unseen))
        for fitted, name in ((linear, "l.onnx"), (network, "n.onnx"))
    )
    assert by_network > by_linear + 0.02


def test_a_network_is_the_same_for_the_same_seed_and_another_for_another():
    source = unit_vectors(100, 6)
    linear = fit_ridge(source, bent(source), ridge=1e-3)
    one, same, other = (
        fit_mlp(source, bent(source), linear, settings=UPGRADE.adapter, seed=seed).hidden for seed in (1, 1, 2)
    )
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one[0], other[0])


def test_a_network_does_not_depend_on_how_many_threads_there_are():
    source = unit_vectors(300, 16)
    linear = fit_ridge(source, bent(source), ridge=1e-3)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(fit_mlp(source, bent(source), linear, settings=UPGRADE.adapter, seed=1).hidden)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
    assert [each.shape for each in found[0]] == [(16, 8), (8,), (8, 16), (16,)]


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
def test_the_file_computes_what_a_loop_computes(tmp_path, residual):
    source = unit_vectors(60, 5)
    fitted = fit_ridge(source, bent(source), ridge=1e-3)
    if residual:
        fitted = fit_mlp(source, bent(source), fitted, settings=UPGRADE.adapter, seed=1)
    adapter = saved(fitted, tmp_path, method="mlp" if residual else "ridge")
    expected = [mapped_by_hand(fitted, row) for row in source]
    np.testing.assert_allclose(adapter(source), expected, atol=1e-6)


def test_equal_weights_give_equal_bytes_and_the_metadata_survive(tmp_path):
    fitted = fit_ridge(unit_vectors(60, 5), unit_vectors(60, 5, seed=3), ridge=1e-3)
    one, other = saved(fitted, tmp_path, name="one.onnx"), saved(fitted, tmp_path, name="other.onnx")
    assert one.digest == other.digest
    assert one.metadata == AdapterMetadata(source="s", target="t", method="ridge", dimension=5)
    assert saved(fitted, tmp_path, method="mlp", name="third.onnx").digest != one.digest
    model = onnx.load(tmp_path / "one.onnx")
    assert [each.version for each in model.opset_import] == [18]
    assert model.ir_version == 10


def test_a_vector_that_maps_to_nothing_is_no_number_problem(tmp_path):
    nothing = saved(Fitted(linear=np.zeros((4, 4), np.float32), hidden=None), tmp_path)
    np.testing.assert_array_equal(nothing(unit_vectors(3, 4)), np.zeros((3, 4)))


# --- the adapters of a candidate --------------------------------------------------------------------------------------


@pytest.fixture
def served(world):
    world.step(1, NoGallery())
    return world


def test_one_fit_for_each_provenance_each_with_its_own_source_space(mixed, to_the_fourth):
    record = to_the_fourth.record
    assert [Provenance(fit.embedded_by, fit.adapters) for fit in record.fits] == list(mixed.gallery.groups())
    spaces = [str(mixed.gallery.spaces[rows[0]]) for rows in mixed.gallery.groups().values()]
    assert [each.metadata.source for each in to_the_fourth.chosen.values()] == spaces
    assert {each.metadata.target for each in to_the_fourth.chosen.values()} == {mixed.model(4).digest}
    assert record.why_not is None
    for fit in record.fits:
        assert [offer.method for offer in fit.offers] == ["ridge", "mlp"]
        assert fit.images == 24
        assert fit.chosen in [offer.digest for offer in fit.offers]


def test_an_adapter_is_fitted_on_the_new_images_as_the_old_rows_were_made(mixed, to_the_fourth):
    pool, candidate = mixed.pool("t4"), mixed.model(4)
    learned = np.flatnonzero((pool.tasks == "t4") & (pool.splits == "train"))
    images = pool.images(learned)
    for provenance, adapter in to_the_fourth.by_method("ridge").items():
        source = mixed.lineage.embed_as(provenance, device="cpu", threads=1)(images)
        expected = fit_ridge(source, candidate(images), ridge=UPGRADE.adapter.ridge)
        rows = mixed.gallery.vectors[mixed.gallery.groups()[provenance]]
        np.testing.assert_allclose(adapter(rows), unit(rows @ expected.linear), atol=1e-5)


def test_what_is_said_of_an_offer_is_measured_on_select(served):
    candidate = served.model(2)
    adapters = served.adapters("t2", candidate)
    pool = served.pool("t2")
    old, new = (np.flatnonzero(pool.tasks == task) for task in ("t1", "t2"))
    asked = old[pool.splits[old] == "select"]
    stored = served.gallery.vectors[[int(np.flatnonzero(served.gallery.ids == each)[0]) for each in pool.ids[old]]]
    (fit,) = adapters.record.fits
    for offer in fit.offers:
        ((_, adapter),) = adapters.by_method(offer.method).items()
        rows = np.concatenate([adapter(stored), pool.embed(new, candidate)])
        labels = pool.labels[np.concatenate([old, new])]
        recall = recall_at(
            pool.embed(asked, candidate),
            rows,
            query_labels=pool.labels[asked],
            gallery_labels=labels,
            self_index=np.searchsorted(old, asked),
        )
        assert offer.select_recall == recall.at(1)
        images = pool.images(new[pool.splits[new] == "select"])
        expected = mean_cosine(adapter(served.model(1)(images)), candidate(images))
        assert offer.select_cosine == pytest.approx(expected, abs=1e-6)


def test_the_better_on_select_is_chosen_and_of_equals_the_simpler(mixed, to_the_fourth):
    for fit in to_the_fourth.record.fits:
        ridge, mlp = fit.offers
        better = mlp if mlp.select_recall > ridge.select_recall else ridge
        assert fit.chosen == better.digest


def test_the_network_is_chosen_where_the_drift_is_not_linear(tmp_path, linear_embedder):
    world = World(tmp_path, linear_embedder, images=120)
    world.step(1, NoGallery())
    first, candidate = world.model(1), world.model(2)

    class Bent:
        digest, metadata = candidate.digest, candidate.metadata

        def __call__(self, images, **_):
            return bent(first(images), seed=4)

    settings = UPGRADE.model_copy(update={"adapter": SETTINGS})
    adapters = world.adapters("t2", Bent(), settings=settings)
    (fit,) = adapters.record.fits
    ridge, mlp = fit.offers
    assert mlp.select_recall > ridge.select_recall
    assert fit.chosen == mlp.digest
    assert [each.metadata.method for each in adapters.chosen.values()] == ["mlp"]


def test_without_old_rows_on_select_the_cosine_decides(tmp_path, linear_embedder):
    world = World(tmp_path, linear_embedder)
    world.step(1, NoGallery())
    world.gallery = world.gallery.take(np.flatnonzero(world.gallery.splits != "select"))
    (fit,) = world.adapters("t2", world.model(2)).record.fits
    assert [offer.select_recall for offer in fit.offers] == [None, None]
    ridge, mlp = fit.offers
    better = mlp if round(mlp.select_cosine, 4) > round(ridge.select_cosine, 4) else ridge
    assert fit.chosen == better.digest


def test_equal_inputs_give_equal_bytes_of_all_files(served):
    candidate = served.model(2)
    folders = [served.adapters("t2", candidate, folder=name).folder for name in ("one", "two")]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    assert len(names[0]) == 5  # the record, two adapters, anchors and residuals of the chosen one
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_a_provenance_that_cannot_be_embedded_any_more_has_no_fit(mixed):
    everything = mixed.lineage
    mixed.lineage = Lineage(models=everything.models, adapters={})
    adapters = mixed.adapters("t4", mixed.model(4), folder="without-chain")
    assert [fit.adapters for fit in adapters.record.fits] == ["", ""]
    assert adapters.record.why_not is None
    mixed.lineage = Lineage(models={}, adapters={})
    assert mixed.adapters("t4", mixed.model(4), folder="nothing").record.why_not == (
        "no model of the gallery's 144 rows is retained"
    )
    assert TASKS[3] not in mixed.gallery.tasks
