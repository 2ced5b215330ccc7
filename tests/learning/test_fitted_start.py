"""Start weights that are given: the projection that they lack is fitted, and they compete with the epochs."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_training import changed

from csd_core.learning.embedding import embed, recall_at_1
from csd_core.learning.fitted_start import SHRINKAGE, directions
from csd_core.learning.networks.network import new_network
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.training import train


def moments(features, labels, classes):
    sums = np.stack([features[labels == label].sum(axis=0) for label in range(classes)])
    return features.T @ features, sums, np.bincount(labels, minlength=classes)


def cosines(vectors):
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors @ vectors.T / np.outer(lengths, lengths)


@pytest.mark.parametrize(("dimension", "images"), [(3, 60), (8, 60), (20, 60), (8, 5)])
def test_the_directions_are_those_of_whitening_within_classes_and_of_principal_components(dimension, images):
    rng = np.random.default_rng(dimension)
    labels = np.arange(images) % 4
    features = rng.standard_normal((4, 12))[labels] + rng.standard_normal((images, 12)) * np.linspace(0.1, 3, 12) + 1
    within = np.mean(
        [np.outer(each, each) for each in features - np.stack([features[labels == n].mean(0) for n in labels])], axis=0
    )
    within += SHRINKAGE * np.trace(within) / 12 * np.eye(12)
    white = features @ np.linalg.inv(np.linalg.cholesky(within)).T
    left, values, _ = np.linalg.svd(white, full_matrices=False)
    kept = min(dimension, 12, images)
    found = directions(*moments(features, labels, 6), dimension=dimension)
    assert found.shape == (dimension, 12)
    assert not found[kept:].any()
    np.testing.assert_allclose(cosines(features @ found.T), cosines(left[:, :kept] * values[:kept]), atol=1e-8)
    assert all(row[np.abs(row).argmax()] > 0 for row in found[:kept])


def test_classes_of_one_image_each_still_give_directions():
    features = np.random.default_rng(0).standard_normal((5, 7))
    found = directions(*moments(features, np.arange(5), 5), dimension=3)
    assert np.isfinite(found).all()
    assert np.linalg.matrix_rank(found) == 3


@pytest.fixture
def given(network, training, first_data, tmp_path):
    """Training from a file that has a backbone and no projection; and that backbone."""
    start = tmp_path / "start.safetensors"
    plain = network.model_copy(update={"dimension": 16, "head": "linear"})
    model = new_network(plain, channels=1, pixels=8, classes=3, generator=keyed_generator(5)).eval()
    save_file({name: each.contiguous() for name, each in model.backbone.state_dict().items()}, start)
    recipe = training.model_copy(update={"network": plain.model_copy(update={"weights": str(start)})})
    return recipe, start, model


def test_a_projection_is_fitted_to_the_images_and_keeps_the_length_of_features(given, first_data, cpu, tmp_path):
    recipe, start, drawn = given
    model = train(
        first_data,
        changed(recipe, "first", epochs=0),
        champion=None,
        device=cpu,
        work=tmp_path / "a",
        start_weights=start,
    )
    select = first_data.select
    before, after = (
        recall_at_1(embed(each, select), select.targets.numpy(), select.groups) for each in (drawn, model.network)
    )
    assert after == model.record.select_recall > before
    images = first_data.train.take(torch.arange(len(first_data.train)))
    with torch.no_grad():
        lengths = [each.pooled(images).square().sum(dim=1).mean() for each in (drawn, model.network)]
    torch.testing.assert_close(lengths[1], lengths[0], rtol=0.3, atol=0)  # another draw


def test_an_epoch_must_find_more_than_the_start_weights(given, first_data, cpu, tmp_path):
    recipe, start, _ = given
    still = changed(recipe, "first", epochs=2, frozen=1.0)
    models = [
        train(first_data, each, champion=None, device=cpu, work=tmp_path / str(number), start_weights=start)
        for number, each in enumerate(
            [changed(recipe, "first", epochs=0), changed(still, "first", optimizer={"lr": 1e-12}), recipe]
        )
    ]
    as_it_is, unmoved, learned = models
    assert unmoved.record.best_epoch == 0
    assert unmoved.record.select_recall == as_it_is.record.select_recall
    for name, tensor in as_it_is.network.state_dict().items():
        assert torch.equal(tensor, unmoved.network.state_dict()[name])
    assert learned.record.best_epoch > 0
    assert learned.record.select_recall > as_it_is.record.select_recall
