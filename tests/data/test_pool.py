from dataclasses import replace

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


def test_groups_are_numbered_over_all_shards_and_without_a_rule_each_item_is_alone(pool, make_set, tmp_path):
    assert pool.groups.tolist() == list(range(33))
    assert all(shard.groups is None for shard in pool.shards)
    shares = SplitShares(seed=1, select=0.2, gate=0.2, test=0.2, group="([0-9])$")
    task = Task(previous="init", recipe="first", source="set", classes=None)
    later = make_set(["t4"] * 30, first=300)
    found = cut_shard(later, task, shares, name="t4", earlier=np.empty(0, np.str_))
    digests = {write_shard(tmp_path / each, later, cut, task="t4").digest for each, cut in named(found)}
    assert len(digests) == 2
    groups = ItemPool(shards=[*pool.shards, load_shard(tmp_path / "t4")]).groups
    assert len(set(groups.tolist())) == 33 + 10
    last = [path[-1] for path in later.paths[found.rows].tolist()]
    assert all(
        (groups[33 + one] == groups[33 + two]) == (last[one] == last[two]) for one in range(30) for two in range(30)
    )


def named(found):
    """The shard as it was cut, and without the names of its groups."""
    return [("t4", found), ("plain", replace(found, groups=None))]
