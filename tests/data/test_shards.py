import hashlib
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csd_core.data.grouping.roles import apportion
from csd_core.data.shards import SPLITS, cut_shard, load_shard, write_shard
from csd_core.params.model import SplitShares, Task
from csd_core.system.errors import ArtifactError, DataError

SHARES = SplitShares(seed=1, select=0.15, gate=0.2, test=0.2, group=None)
NONE = np.empty(0, np.str_)


def task(classes=None):
    return Task(previous="init", recipe="first", source="set", classes=classes)


def cut(source, classes=None, shares=SHARES, earlier=NONE):
    return cut_shard(source, task(classes), shares, name="t", earlier=earlier)


def roles(source, found):
    """Id -> role."""
    return dict(zip(source.ids[found.rows].tolist(), found.splits.tolist(), strict=True))


@st.composite
def any_shares(draw):
    """Shares in hundredths whose sum is below 1."""
    select = draw(st.integers(0, 99))
    gate = draw(st.integers(0, 99 - select))
    test = draw(st.integers(0, 99 - select - gate))
    return SplitShares(seed=draw(st.integers(0, 5)), select=select / 100, gate=gate / 100, test=test / 100, group=None)


any_labels = st.lists(st.sampled_from(["2", "10", "cat", "é🐈"]), min_size=1, max_size=60)


@given(st.integers(0, 1000), any_shares())
def test_each_role_gets_its_share_within_one_and_training_is_never_left_empty(items, shares):
    counts = apportion(items, shares)
    assert sum(counts.values()) == items
    assert counts["train"] >= min(1, items)
    ideal = {role: items * Fraction(str(getattr(shares, role))) for role in ("select", "gate", "test")}
    ideal["train"] = items - sum(ideal.values())
    for role, count in counts.items():
        assert abs(count - ideal[role]) < 1, role


def test_shares_are_the_decimals_as_written():
    assert apportion(100, SplitShares(seed=0, select=0.29, gate=0.1, test=0.1, group=None)) == {
        "train": 51,
        "select": 29,
        "gate": 10,
        "test": 10,
    }


def test_of_equal_remainders_the_earlier_role_comes_first():
    assert apportion(2, SplitShares(seed=0, select=0.25, gate=0.25, test=0.25, group=None)) == {
        "train": 1,
        "select": 1,
        "gate": 0,
        "test": 0,
    }


@given(any_labels, any_shares())
def test_the_split_of_every_class_is_complete_disjoint_and_by_its_shares(make_set, labels, shares):
    source = make_set(labels)
    found = cut(source, shares=shares)
    assert sorted(found.rows.tolist()) == list(range(len(labels)))
    for label in set(labels):
        mine = Counter(found.splits[source.labels[found.rows] == label].tolist())
        assert {role: mine[role] for role in SPLITS} == apportion(labels.count(label), shares)


@given(any_labels, any_shares(), st.randoms(use_true_random=False))
def test_the_order_of_the_source_does_not_matter(make_set, labels, shares, random):
    source = make_set(labels)
    found = cut(source, shares=shares)
    order = list(range(len(labels)))
    random.shuffle(order)
    shuffled = type(source)(
        record=source.record,
        images=source.images[order],
        ids=source.ids[order],
        labels=source.labels[order],
        source_splits=source.source_splits[order],
        paths=source.paths[order],
    )
    again = cut(shuffled, shares=shares)
    assert shuffled.ids[again.rows].tolist() == source.ids[found.rows].tolist()
    assert again.splits.tolist() == found.splits.tolist()


@given(any_labels, any_shares())
def test_other_classes_do_not_matter(make_set, labels, shares):
    source = make_set(labels)
    together = roles(source, cut(source, shares=shares))
    for label in set(labels):
        alone = roles(source, cut(source, [label], shares=shares))
        assert alone == {identity: together[identity] for identity in alone}


def test_another_seed_draws_another_split(make_set):
    source = make_set(["a"] * 100)
    other = SHARES.model_copy(update={"seed": 2})
    assert roles(source, cut(source)) != roles(source, cut(source, shares=other))
    assert Counter(cut(source).splits.tolist()) == Counter(cut(source, shares=other).splits.tolist())


def test_classes_come_in_the_order_of_the_task_or_else_in_natural_order(make_set):
    source = make_set(["10", "2", "cat", "2"])
    assert cut(source).classes == ("2", "10", "cat")
    chosen = cut(source, ["cat", "2"])
    assert chosen.classes == ("cat", "2")
    assert source.labels[chosen.rows].tolist() == ["cat", "2", "2"]


def test_a_class_with_one_image_is_trained_on(make_set):
    assert cut(make_set(["a"])).splits.tolist() == ["train"]


def test_the_sources_test_set_stays_test_and_nothing_more_is_taken_for_it(make_set):
    source = make_set(["a"] * 120 + ["b"] * 100, ["test"] * 20 + ["train"] * 100 + [""] * 100)
    found = cut(source)
    label = source.labels[found.rows]
    own_test = source.source_splits[found.rows] == "test"
    assert set(found.splits[own_test]) == {"test"}
    assert Counter(found.splits[label == "a"].tolist()) == {"train": 65, "select": 15, "gate": 20, "test": 20}
    assert "test" not in found.splits[(label == "a") & ~own_test]
    assert Counter(found.splits[label == "b"].tolist()) == {"train": 45, "select": 15, "gate": 20, "test": 20}


def test_a_duplicate_keeps_its_first_split(make_set):
    first = make_set(["a"] * 20)
    batch = make_set(["a"] * 20, first=15)
    found = cut(batch, earlier=first.ids)
    assert found.skipped == 5
    assert not set(batch.ids[found.rows]) & set(first.ids)
    assert len(found.rows) == 15


def test_a_class_that_earlier_tasks_have_whole_is_left_out(make_set):
    first = make_set(["a"] * 5)
    batch = make_set(["a"] * 5 + ["b"] * 5)
    found = cut(batch, earlier=first.ids)
    assert (found.classes, found.emptied, found.skipped) == (("b",), ("a",), 5)
    with pytest.raises(DataError, match="tasks.t: earlier tasks have every image that source set has for it"):
        cut(batch, ["a"], earlier=first.ids)


def test_a_class_whose_training_images_earlier_tasks_have_still_brings_its_test_images(make_set):
    batch = make_set(["a"] * 5, ["train", "train", "train", "test", "test"])
    found = cut(batch, earlier=batch.ids[:3])
    assert found.splits.tolist() == ["test", "test"]


def test_a_class_with_test_images_only_is_refused(make_set):
    with pytest.raises(DataError, match='tasks.t: class "a" of source set has test images only; add training images'):
        cut(make_set(["a", "b"], ["test", "train"]))


def test_an_unknown_class_is_named_with_its_neighbours(make_set):
    source = make_set(["hedgehog", "cat", "dog"])
    with pytest.raises(DataError, match='source set has no class "hedghog"; it has 3, such as hedgehog, dog$'):
        cut(source, ["hedghog"])
    with pytest.raises(DataError, match='no class "9"; it has 3, such as cat, dog, hedgehog$'):
        cut(source, ["cat", "9"])


def test_a_shard_is_read_as_it_was_written(make_set, tmp_path, monkeypatch):
    monkeypatch.setattr("csd_core.data.shards.CHUNK_BYTES", 12)  # three images at a time
    source = make_set(["a"] * 10 + ["é🐈"] * 10)
    found = cut(source, earlier=source.ids[:2])
    record = write_shard(tmp_path / "t", source, found, task="t")
    shard = load_shard(tmp_path / "t")
    assert shard.record == record
    assert (record.task, record.source, record.classes, record.skipped) == ("t", "set", ("a", "é🐈"), 2)
    assert list(record.counts) == list(SPLITS)
    assert record.counts == {role: len(shard.rows(role)) for role in SPLITS}
    assert isinstance(shard.images, np.memmap)
    np.testing.assert_array_equal(shard.images, source.images[found.rows])
    assert [hashlib.sha256(image.tobytes()).hexdigest() for image in shard.images] == shard.ids.tolist()
    assert shard.labels.tolist() == source.labels[found.rows].tolist()
    assert shard.splits.tolist() == found.splits.tolist()


def test_rows_of_several_splits_come_in_the_order_of_the_shard(make_set, tmp_path):
    source = make_set(["a"] * 20)
    write_shard(tmp_path / "t", source, cut(source), task="t")
    shard = load_shard(tmp_path / "t")
    assert shard.rows("gate", "train").tolist() == [
        row for row, split in enumerate(shard.splits) if split in ("gate", "train")
    ]
    assert len(shard.rows()) == 0


def test_equal_shards_are_equal_to_the_byte_and_others_have_other_digests(make_set, tmp_path):
    source = make_set(["a"] * 10 + ["b"] * 10)
    one, two = (write_shard(tmp_path / name, source, cut(source), task="t") for name in ("one", "two"))
    for file in ("images.npy", "items.parquet", "shard.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    others = [
        (source, cut(source, ["b", "a"])),
        (source, cut(source, shares=SHARES.model_copy(update={"seed": 9}))),
        (make_set(["a"] * 10 + ["b"] * 10, first=1), cut(source)),
        (make_set(["a"] * 9 + ["b"] * 11), cut(source)),
    ]
    digests = {write_shard(tmp_path / "other", base, found, task="t").digest for base, found in others}
    assert len(digests | {one.digest}) == 5
    assert one.digest == two.digest


def test_the_digest_is_over_the_pixels_too(make_set, tmp_path):
    source = make_set(["a"] * 10)
    record = write_shard(tmp_path / "one", source, cut(source), task="t")
    source.images[3] ^= 1
    assert write_shard(tmp_path / "two", source, cut(source), task="t").digest != record.digest


def test_a_shard_whose_files_do_not_belong_together_is_refused(make_set, tmp_path):
    with pytest.raises(ArtifactError, match=r"shard.json: missing"):
        load_shard(tmp_path / "t")
    for name, count in (("t", 10), ("other", 9)):
        source = make_set(["a"] * count)
        write_shard(tmp_path / name, source, cut(source), task="t")
    (tmp_path / "other" / "items.parquet").replace(tmp_path / "t" / "items.parquet")
    with pytest.raises(ArtifactError, match="the record counts 10 images, images.npy has 10, items.parquet 9"):
        load_shard(tmp_path / "t")
