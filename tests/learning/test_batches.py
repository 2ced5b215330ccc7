import numpy as np
import pytest
import torch

from csd_core.data.pool import ItemPool
from csd_core.learning.batches import LabelledImages, batch_sizes, epoch_batches
from csd_core.learning.seeding import keyed_generator
from csd_core.system.errors import DataError, TrainingError

CLASSES = ("0", "1", "2", "3", "4")


@pytest.fixture
def pool(digits_shard, tmp_path):
    """Two shards, of which the second is memory-mapped."""
    first, second = digits_shard("a", [0, 1, 2]), digits_shard("b", [3, 4])
    np.save(tmp_path / "images.npy", second.images)
    object.__setattr__(second, "images", np.load(tmp_path / "images.npy", mmap_mode="r"))
    return ItemPool(shards=[first, second])


def of(pool, *, max_in_memory_mb):
    return LabelledImages.of(pool, "train", classes=CLASSES, max_in_memory_mb=max_in_memory_mb)


def test_a_set_in_memory_and_one_on_disk_give_the_same_batches_to_the_byte(pool):
    held, mapped = of(pool, max_in_memory_mb=1), of(pool, max_in_memory_mb=0)
    assert held.in_memory is not None
    assert mapped.in_memory is None
    for epoch in range(2):
        pairs = zip(
            epoch_batches(held, batch_size=32, generator=keyed_generator(epoch)),
            epoch_batches(mapped, batch_size=32, generator=keyed_generator(epoch)),
            strict=True,
        )
        for (images, targets), (mapped_images, mapped_targets) in pairs:
            assert torch.equal(images, mapped_images)
            assert torch.equal(targets, mapped_targets)


@pytest.mark.parametrize("max_in_memory_mb", [0, 1])
def test_images_and_targets_are_those_of_the_items_asked_for(pool, max_in_memory_mb):
    images = of(pool, max_in_memory_mb=max_in_memory_mb)
    positions = torch.tensor([140, 3, 99, 3])
    for image, target, position in zip(
        images.take(positions), images.targets[positions], positions.tolist(), strict=True
    ):
        row = pool.rows("train")[position]
        assert np.array_equal(image.numpy(), pool.images(np.array([row]))[0])
        assert CLASSES[target] == pool.labels[row]


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(pool):
    images = of(pool, max_in_memory_mb=1)
    orders = []
    for epoch in range(2):
        batches = list(epoch_batches(images, batch_size=32, generator=keyed_generator(epoch)))
        assert [len(targets) for _, targets in batches] == [32, 32, 32, 32, 22]
        orders.append(torch.cat([targets for _, targets in batches]))
    assert torch.equal(orders[0].bincount(), images.targets.bincount())
    assert not torch.equal(orders[0], orders[1])


@pytest.mark.parametrize(("count", "sizes"), [(64, [32, 32]), (65, [32, 32]), (66, [32, 32, 2]), (31, [31]), (2, [2])])
def test_a_last_batch_of_one_image_alone_is_left_out(count, sizes):
    assert batch_sizes(count, 32) == sizes


@pytest.mark.parametrize("count", [0, 1])
def test_a_stage_with_fewer_than_two_images_is_refused(count):
    with pytest.raises(TrainingError, match=rf"{count} training image\(s\): a stage needs at least 2"):
        batch_sizes(count, 32)


def test_an_item_of_an_unlisted_class_is_refused(pool):
    with pytest.raises(DataError, match="class 4 has train images but no column"):
        LabelledImages.of(pool, "train", classes=CLASSES[:4], max_in_memory_mb=1)


def test_a_split_without_items_is_empty(pool):
    assert len(LabelledImages.of(pool, "gate", classes=CLASSES, max_in_memory_mb=1)) == 0
