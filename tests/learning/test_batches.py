from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csd_core.data.pool import ItemPool
from csd_core.learning.batches import LabelledImages, batch_sizes, class_weights, epoch_batches
from csd_core.learning.distributed.group import ProcessGroup
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


def uneven(pool, counts, *, remembered=0):
    """So many images of each class, in order."""
    rows = pool.rows("train")
    chosen = [rows[pool.labels[rows] == label][:count] for label, count in counts.items()]
    return LabelledImages.at(pool, np.concatenate(chosen), classes=CLASSES, max_in_memory_mb=1, remembered=remembered)


def targets_of(images, *, batch_size, per_class, epoch=0):
    batches = epoch_batches(images, batch_size=batch_size, per_class=per_class, generator=keyed_generator(epoch))
    return [targets for _, targets in batches]


@given(per_class=st.integers(2, 6), classes=st.integers(2, 7), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_balanced_batch_has_so_many_images_of_so_many_classes(pool, per_class, classes, seed):
    images = of(pool, max_in_memory_mb=1)
    *full, last = targets_of(images, batch_size=classes * per_class, per_class=per_class, epoch=seed)
    for targets in full:
        counts = targets.bincount()
        assert counts.sum() == classes * per_class
        assert (counts % per_class == 0).all()
        assert (counts > 0).sum() == min(classes, 5)  # each once before any comes again
        assert counts.max() - counts[counts > 0].min() <= per_class
    assert sum(map(len, full)) + len(last) == images.per_epoch


def test_balanced_batches_show_every_class_alike_often_and_every_image_of_one_before_any_again(pool):
    images = uneven(pool, {"0": 30, "1": 3, "2": 17, "3": 30, "4": 20})
    batches = list(epoch_batches(images, batch_size=20, per_class=4, generator=keyed_generator(1)))
    assert [len(targets) for _, targets in batches] == [20] * 5
    targets = torch.cat([targets for _, targets in batches])
    assert targets.bincount().tolist() == [20] * 5
    shown = Counter(image.numpy().tobytes() for batch, _ in batches for image in batch)
    per_image = [shown[image.numpy().tobytes()] for image in images.take(torch.arange(len(images)))]
    for label in range(5):
        turns = [turn for turn, target in zip(per_image, images.targets.tolist(), strict=True) if target == label]
        assert max(turns) - min(turns) <= 1
    other = torch.cat(targets_of(images, batch_size=20, per_class=4, epoch=2))
    assert not torch.equal(targets, other)


@pytest.mark.parametrize("kept", [1, 5, 30])
def test_with_a_memory_every_other_class_of_a_balanced_batch_is_an_old_one(pool, kept):
    images = remembering(pool, kept=kept)
    for targets in targets_of(images, batch_size=16, per_class=4)[:-1]:
        groups = targets.view(4, 4)
        assert (groups == groups[:, :1]).all()
        assert (groups[:, 0] < 3).tolist() == [False, True, False, True]
        assert (targets.bincount(minlength=5)[3:] == 4).all()  # both new classes


def test_the_shares_of_processes_are_the_balanced_batch(pool):
    images = of(pool, max_in_memory_mb=1)
    options = {"batch_size": 24, "per_class": 4}
    whole = list(epoch_batches(images, **options, generator=keyed_generator(1)))
    teams = [
        epoch_batches(images, **options, generator=keyed_generator(1), ranks=ProcessGroup(rank=rank, count=3))
        for rank in range(3)
    ]
    for (expected, targets), *shares in zip(whole, *teams, strict=True):
        assert torch.equal(torch.cat([share for share, _ in shares]), expected)
        assert all(torch.equal(theirs, targets) for _, theirs in shares)


def test_weights_make_every_class_count_alike_and_are_one_in_the_mean(pool):
    counts = {"0": 30, "1": 3, "3": 12}
    weights = class_weights(uneven(pool, counts), 5)
    shown = torch.tensor([30.0, 3.0, 0.0, 12.0, 0.0])
    torch.testing.assert_close(weights * shown, torch.tensor([15.0, 15.0, 0.0, 15.0, 0.0]))
    assert weights[[2, 4]].tolist() == [1.0, 1.0]


def test_weights_count_an_image_of_the_memory_as_often_as_it_is_shown(pool):
    images = uneven(pool, {"3": 20, "4": 10, "0": 4, "1": 2}, remembered=6)
    shown = torch.tensor([20.0, 10.0, 0.0, 20.0, 10.0])  # the memory's six are gone through five times
    torch.testing.assert_close(class_weights(images, 5) * shown, torch.tensor([15.0, 15.0, 0.0, 15.0, 15.0]))


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
