from typing import get_args

import numpy as np
import pytest
from threadpoolctl import threadpool_limits
from worlds import DIMENSION, TASKS, UPGRADE, World, bent, mean_cosine, unit, unit_vectors

from csd_core.params.upgrade import AdapterMethod
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import recall_at
from csd_core.upgrade.mapping.adaptation import NOISE, fit_mlp
from csd_core.upgrade.mapping.maps import PairSums
from csd_core.upgrade.strategies import NoGallery

SETTINGS = UPGRADE.adapter.model_copy(update={"mlp_width": 32, "mlp_epochs": 60, "mlp_lr": 5e-3})


# --- the residual network ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [8, 5, 11])
def test_the_network_beats_the_linear_map_where_the_drift_is_not_linear(dimension):
    source, unseen = unit_vectors(600, 8), unit_vectors(200, 8, seed=8)
    linear = PairSums.of(source, bent(source, dimension)).ridge(1e-3)
    network = fit_mlp(source, bent(source, dimension), linear, settings=SETTINGS, seed=1)
    by_linear, by_network = (mean_cosine(fitted(unseen), bent(unseen, dimension)) for fitted in (linear, network))
    assert by_network > by_linear + 0.02


def test_a_network_is_the_same_for_the_same_seed_and_another_for_another():
    source = unit_vectors(100, 6)
    linear = PairSums.of(source, bent(source)).ridge(1e-3)
    one, same, other = (
        fit_mlp(source, bent(source), linear, settings=UPGRADE.adapter, seed=seed).hidden for seed in (1, 1, 2)
    )
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one[0], other[0])


def test_a_network_does_not_depend_on_how_many_threads_there_are():
    source = unit_vectors(300, 16)
    linear = PairSums.of(source, bent(source)).ridge(1e-3)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(fit_mlp(source, bent(source), linear, settings=UPGRADE.adapter, seed=1).hidden)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
    assert [each.shape for each in found[0]] == [(16, 8), (8,), (8, 16), (16,)]


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
        assert [offer.method for offer in fit.kept] == list(get_args(AdapterMethod))
        assert fit.images == 24
        assert fit.chosen in [offer.digest for offer in fit.kept]


def test_an_adapter_is_fitted_on_the_new_images_as_the_old_rows_were_made(mixed, to_the_fourth):
    pool, candidate = mixed.pool("t4"), mixed.model(4)
    learned = np.flatnonzero((pool.tasks == "t4") & (pool.splits == "train"))
    images = pool.images(learned)
    for fit, (provenance, adapter) in zip(
        to_the_fourth.record.fits, to_the_fourth.by_method("ridge").items(), strict=True
    ):
        (offer,) = (each for each in fit.kept if each.method == "ridge")
        source, target = mixed.lineage.embed_as(provenance, device="cpu", threads=1)(images), candidate(images)
        sums = PairSums.of(source, target)
        expected = (sums.centred(source, target) if offer.centred else sums).ridge(offer.strength)
        rows = mixed.gallery.vectors[mixed.gallery.groups()[provenance]]
        np.testing.assert_allclose(adapter(rows), expected(rows), atol=1e-5)


def test_what_is_said_of_an_offer_is_measured_on_select(served):
    candidate = served.model(2)
    adapters = served.adapters("t2", candidate)
    pool = served.pool("t2")
    old, new = (np.flatnonzero(pool.tasks == task) for task in ("t1", "t2"))
    items = np.concatenate([old, new])
    asked = np.flatnonzero(pool.splits[items] == "select")
    stored = served.gallery.vectors[[int(np.flatnonzero(served.gallery.ids == each)[0]) for each in pool.ids[old]]]
    (fit,) = adapters.record.fits
    for offer in fit.kept:
        ((_, adapter),) = adapters.by_method(offer.method).items()
        rows = np.concatenate([adapter(stored), pool.embed(new, candidate)])
        recall = recall_at(
            pool.embed(items[asked], candidate),
            rows,
            query_labels=pool.labels[items[asked]],
            gallery_labels=pool.labels[items],
            own=asked,
        )
        assert offer.select_recall == recall.at(1)
        images = pool.images(new[pool.splits[new] == "select"])
        expected = mean_cosine(adapter(served.model(1)(images)), candidate(images))
        assert offer.select_cosine == pytest.approx(expected, abs=1e-6)


def test_the_best_on_select_is_chosen_and_of_equals_the_simpler(mixed, to_the_fourth):
    order = list(get_args(AdapterMethod))
    for fit in to_the_fourth.record.fits:
        assert [offer.method for offer in fit.offers] == sorted((each.method for each in fit.offers), key=order.index)
        recalls = [round(offer.select_recall / NOISE) for offer in fit.offers]
        assert fit.offers[recalls.index(max(recalls))].digest == fit.chosen
        for method in order:
            mine = [offer for offer in fit.offers if offer.method == method]
            recalls = [round(offer.select_recall / NOISE) for offer in mine]
            assert [offer for offer in mine if offer.digest] == [mine[recalls.index(max(recalls))]]


def test_a_rotation_is_chosen_where_the_candidate_is_one(served):
    """Every map but the last finds it; the simplest is taken, although others score as well."""
    first, candidate = served.model(1), served.model(2)

    class Turned:
        digest, metadata = candidate.digest, candidate.metadata

        def __call__(self, images, **_):
            return first(images)[:, ::-1].copy()

    (fit,) = served.adapters("t2", Turned(), folder="turned").record.fits
    assert fit.offers[0].digest == fit.chosen
    assert (fit.offers[0].method, fit.offers[0].centred) == ("procrustes", False)
    assert fit.offers[0].select_cosine == pytest.approx(1, abs=1e-6)


def test_the_network_is_chosen_where_the_drift_is_not_linear(tmp_path, linear_embedder):
    world = World(tmp_path, linear_embedder, images=120)
    world.step(1, NoGallery())
    first, candidate = world.model(1), world.model(2)
    middle = first(world.shards[1].images).mean(axis=0)

    class Folded:
        digest, metadata = candidate.digest, candidate.metadata

        def __call__(self, images, **_):
            return unit(np.abs(first(images) - middle))

    settings = UPGRADE.model_copy(update={"adapter": SETTINGS})
    adapters = world.adapters("t2", Folded(), settings=settings, labelled=False)
    (fit,) = adapters.record.fits
    assert fit.offers[-1].select_cosine > max(offer.select_cosine for offer in fit.offers[:-1])
    assert fit.chosen == fit.offers[-1].digest
    assert [each.metadata.method for each in adapters.chosen.values()] == ["mlp"]


def test_no_label_is_needed_to_fit_and_without_any_the_cosine_chooses(served):
    candidate = served.model(2)
    labelled, unlabelled = (served.adapters("t2", candidate, folder=str(each), labelled=each) for each in (True, False))
    (fit,), (same) = labelled.record.fits, unlabelled.record.fits[0]
    assert [offer.select_recall for offer in same.offers] == [None] * len(fit.offers)
    closed = [[each.select_cosine for each in one.offers if each.method != "mlp"] for one in (fit, same)]
    assert closed[0] == closed[1]  # the network stands on the best linear map, which is chosen
    cosines = [round(offer.select_cosine, 4) for offer in same.offers]
    assert same.offers[cosines.index(max(cosines))].digest == same.chosen
    for one, other in zip(fit.offers[:-1], same.offers[:-1], strict=True):
        assert one.digest is None or other.digest in (None, one.digest)


def test_a_wider_candidate_has_adapters_too(served):
    candidate = served.model(2, dimension=DIMENSION + 3)
    adapters = served.adapters("t2", candidate)
    assert {offer.method for offer in adapters.record.fits[0].offers} == {*get_args(AdapterMethod)} - {"drift"}
    ((_, adapter),) = adapters.chosen.items()
    assert (adapter.metadata.source_dimension, adapter.metadata.dimension) == (DIMENSION, DIMENSION + 3)
    mapped = adapter(served.gallery.vectors)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)
    assert max(offer.select_cosine for offer in adapters.record.fits[0].offers) > 0.95


def test_equal_inputs_give_equal_bytes_of_all_files(served):
    candidate = served.model(2)
    folders = [served.adapters("t2", candidate, folder=name).folder for name in ("one", "two")]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    assert len(names[0]) == 9  # the record, the best adapter of six methods, anchors and residuals of the chosen one
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
