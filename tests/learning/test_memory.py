import numpy as np
import pytest
import torch

from csd_core.data.pool import ItemPool
from csd_core.learning.batches import LabelledImages
from csd_core.learning.memory import choose, herd, nearest_to_mean
from csd_core.learning.networks.network import new_network
from csd_core.learning.seeding import keyed_generator
from csd_core.params.training import Memory

CHOICES = ("random", "herding", "class-mean")


@pytest.fixture
def images(digits_shard):
    pool = ItemPool(shards=[digits_shard("t1", [0, 1]), digits_shard("t2", [2], per_class=8)])
    return LabelledImages.of(pool, "train", classes=("0", "1", "2"), max_in_memory_mb=0)


@pytest.fixture
def champion(network):
    return new_network(network, channels=1, pixels=8, classes=3, generator=keyed_generator("champion"))


@pytest.fixture
def chosen(images, champion, cpu):
    """A function that makes a choice."""

    def make(how, count, *, seed=1):
        memory = Memory(images=count, choose=how)
        return choose(images, memory=memory, network=champion, device=cpu, seed=seed).tolist()

    return make


def unit_vectors(count, *, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("how", CHOICES)
def test_each_class_keeps_as_many_as_asked_for_and_all_where_there_are_fewer(chosen, images, how):
    positions = chosen(how, 10)
    assert len(set(positions)) == len(positions)
    assert images.targets[positions].bincount().tolist() == [10, 10, 6]


@pytest.mark.parametrize("how", CHOICES)
def test_a_smaller_memory_is_part_of_a_larger_one(chosen, how):
    assert set(chosen(how, 3)) < set(chosen(how, 9))


@pytest.mark.parametrize("how", CHOICES)
def test_the_same_images_are_chosen_again(chosen, how):
    assert chosen(how, 5) == chosen(how, 5)


def test_each_way_to_choose_keeps_other_images(chosen):
    assert len({tuple(sorted(chosen(how, 5))) for how in CHOICES}) == len(CHOICES)


def test_the_seed_counts_for_a_choice_at_random_alone(chosen):
    assert chosen("random", 5) != chosen("random", 5, seed=2)
    assert chosen("herding", 5) == chosen("herding", 5, seed=2)


def test_a_choice_at_random_is_free_of_the_other_classes(digits_shard, chosen, images, champion, cpu):
    alone = LabelledImages.of(
        ItemPool(shards=[digits_shard("t1", [1])]), "train", classes=("0", "1"), max_in_memory_mb=0
    )
    kept = choose(alone, memory=Memory(images=5, choose="random"), network=champion, device=cpu, seed=1)
    first = int((images.targets == 0).sum())
    assert (kept + first).tolist() == chosen("random", 5)[5:10]


def test_the_champion_is_left_as_it_is(chosen, champion):
    before = {name: tensor.clone() for name, tensor in champion.state_dict().items()}
    chosen("herding", 5)
    assert champion.training
    assert all(torch.equal(before[name], tensor) for name, tensor in champion.state_dict().items())


@pytest.mark.parametrize("count", [1, 4, 12, 20])
def test_herding_keeps_the_mean_of_the_chosen_near_the_mean_of_all(count):
    vectors = unit_vectors(12)
    mean, expected = vectors.mean(axis=0), []
    for _ in range(min(count, len(vectors))):
        left = [row for row in range(len(vectors)) if row not in expected]
        expected.append(min(left, key=lambda row: np.linalg.norm(np.mean(vectors[[*expected, row]], axis=0) - mean)))
    assert herd(vectors, count).tolist() == expected


@pytest.mark.parametrize("count", [1, 4, 20])
def test_class_mean_keeps_what_is_nearest_to_the_mean(count):
    vectors = unit_vectors(12)
    distances = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
    assert nearest_to_mean(vectors, count).tolist() == sorted(range(12), key=distances.__getitem__)[:count]
