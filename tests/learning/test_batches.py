from collections import Counter

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


def remembering(pool, *, kept, max_in_memory_mb=1):
    """The images of the second shard, and some of each class of the first."""
    rows = pool.rows("train")
    old, new = rows[pool.tasks[rows] == "a"], rows[pool.tasks[rows] == "b"]
    memory = np.concatenate([old[pool.labels[old] == label][:kept] for label in CLASSES[:3]])
    return LabelledImages.at(
        pool,
        np.concatenate([new, memory]),
        classes=CLASSES,
        max_in_memory_mb=max_in_memory_mb,
        remembered=len(memory),
    )


@pytest.mark.parametrize("kept", [1, 5, 30])
def test_with_a_memory_half_of_every_batch_is_of_old_classes_and_each_new_image_is_shown_once(pool, kept):
    images = remembering(pool, kept=kept)
    old = images.targets < 3
    new = int((~old).sum())
    for epoch in range(3):
        batches = list(epoch_batches(images, batch_size=16, generator=keyed_generator(epoch)))
        assert all(2 * (targets < 3).sum() == len(targets) for _, targets in batches)
        targets = torch.cat([targets for _, targets in batches])
        assert torch.equal(targets[targets >= 3].bincount(), images.targets[~old].bincount())
        shown = Counter(image.numpy().tobytes() for batch, _ in batches for image in batch)
        turns = [shown[image.numpy().tobytes()] for image in images.take(torch.arange(len(images)))]
        assert turns[:new] == [1] * new
        assert sum(turns) == images.per_epoch == 2 * new
        assert max(turns[new:]) - min(turns[new:]) <= 1  # no image of the memory is shown more than others


@pytest.mark.parametrize("kept", [5, 30])
def test_a_memory_on_disk_gives_the_same_batches_and_each_epoch_another_order(pool, kept):
    orders = []
    for epoch, limit in ((0, 0), (0, 1), (1, 1)):
        images = remembering(pool, kept=kept, max_in_memory_mb=limit)
        batches = epoch_batches(images, batch_size=32, generator=keyed_generator(epoch))
        orders.append(torch.cat([batch for batch, _ in batches]))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


@pytest.mark.parametrize(("count", "sizes"), [(64, [32, 32]), (65, [32, 32]), (66, [32, 32, 2]), (31, [31]), (2, [2])])
def test_a_last_batch_of_one_image_alone_is_left_out(count, sizes):
    assert batch_sizes(count, 32) == sizes


@pytest.mark.parametrize("count", [0, 1])
def test_a_stage_with_fewer_than_two_images_is_refused(count):
    with pytest.raises(TrainingError, match=rf"{count} training image\(s\): a stage needs at least 2"):
        batch_sizes(count, 32)


def test_an_item_of_an_unlisted_class_is_refused(pool):
    with pytest.raises(DataError, match="class 4 has images but no column"):
        LabelledImages.of(pool, "train", classes=CLASSES[:4], max_in_memory_mb=1)


def test_a_split_without_items_is_empty(pool):
    assert len(LabelledImages.of(pool, "gate", classes=CLASSES, max_in_memory_mb=1)) == 0
