import numpy as np
import pytest

from csd_core.data.pool import ItemPool
from csd_core.data.shards import cut_shard, load_shard, write_shard
from csd_core.params.model import SplitShares, Task
from csd_core.system.errors import DataError


@pytest.fixture
def pool(make_set, tmp_path):
    shards = []
    for number, name in enumerate(("t1", "t2", "t3")):
        source = make_set([name] * (10 + number), first=100 * number)
        task = Task(previous="init", recipe="first", source="set", classes=None)
        shares = SplitShares(seed=1, select=0.2, gate=0.2, test=0.2, group=None)
        found = cut_shard(source, task, shares, name=name, earlier=np.empty(0, np.str_))
        write_shard(tmp_path / name, source, found, task=name)
        shards.append(load_shard(tmp_path / name))
    return ItemPool(shards=shards)


def test_shards_lie_one_behind_the_other(pool):
    assert pool.ids.tolist() == [identity for shard in pool.shards for identity in shard.ids]
    assert pool.tasks.tolist() == ["t1"] * 10 + ["t2"] * 11 + ["t3"] * 12
    assert pool.labels.tolist() == pool.tasks.tolist()
    assert pool.rows("gate").tolist() == [row for row, split in enumerate(pool.splits) if split == "gate"]


def test_items_are_found_by_id_and_position_in_any_order(pool):
    order = np.random.default_rng(0).permutation(33)
    np.testing.assert_array_equal(pool.positions(pool.ids[order]), order)
    everything = np.concatenate([shard.images for shard in pool.shards])
    np.testing.assert_array_equal(pool.images(order), everything[order])


def test_an_item_of_no_shard_is_missed(pool):
    with pytest.raises(DataError, match="1 items of the gallery have no image in the shards, such as zz"):
        pool.positions(np.array([pool.ids[0], "zz"]))


def test_embedding_in_chunks_keeps_the_order(pool, monkeypatch):
    monkeypatch.setattr("csd_core.data.pool.CHUNK", 4)
    order = np.random.default_rng(1).permutation(33)

    def embed(images):
        assert len(images) <= 4
        return images.reshape(len(images), 4).astype(np.float32)

    np.testing.assert_array_equal(pool.embed(order, embed), pool.images(order).reshape(33, 4))
    assert pool.embed(order[:0], embed).shape == (0, 4)
