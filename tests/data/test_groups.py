"""`split.group`: whole groups get one role, by the class's own items alone, and later tasks follow earlier ones."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_core.data.canonical import CanonicalSet
from csd_core.data.classes import order_classes
from csd_core.data.grouping.groups import Members
from csd_core.data.grouping.near_duplicates import RADIUS, connected, near_pairs, perceptual_hashes
from csd_core.data.grouping.roles import apportion
from csd_core.data.shards import SPLITS, cut_shard
from csd_core.params.model import SplitShares, Task
from csd_core.records.stages import SourceRecord
from csd_core.system.errors import DataError

BY_PERSON = "/(p[0-9]+)_"
NONE = np.empty(0, np.str_)

people = st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=50)
shares = st.builds(
    SplitShares,
    seed=st.integers(0, 5),
    select=st.sampled_from([0.1, 0.15, 0.3]),
    gate=st.sampled_from([0.1, 0.2, 0.3]),
    test=st.sampled_from([0.0, 0.2]),
    group=st.just(BY_PERSON),
)


def source_of(items, *, first=0, source_splits=None, images=None):
    """A set of (class, person) pairs; without a person, the path names no group."""
    paths = [
        f"{label}/{'x' if person is None else f'p{person}'}_{first + number:04}.png"
        for number, (label, person) in enumerate(items)
    ]
    labels = [label for label, _ in items]
    return CanonicalSet(
        record=SourceRecord(
            name="set",
            kind="imagefolder",
            images=len(items),
            rejected=0,
            duplicates=0,
            classes=order_classes(labels, "natural", seed=0),
        ),
        images=np.zeros((len(items), 2, 2, 1), np.uint8) if images is None else images,
        ids=np.array([hashlib.sha256(path.encode()).hexdigest() for path in paths]),
        labels=np.array(labels),
        source_splits=np.array(source_splits or [""] * len(items)),
        paths=np.array(paths),
    )


def cut(source, shares, classes=None, *, after=None):
    """The items of a shard; `after` is a set that an earlier task has, and what became of it."""
    earlier, placed = NONE, {}
    if after:
        before, found = after
        rows = found.rows
        earlier = before.ids[rows]
        placed["placed"] = Members(
            images=[before.images[rows]],
            labels=before.labels[rows],
            splits=found.splits,
            paths=before.paths[rows],
            names=found.groups,
        )
    task = Task(previous="init", recipe="first", source="set", classes=classes)
    return cut_shard(source, task, shares, name="t", earlier=earlier, **placed)


def roles(source, found):
    return dict(zip(source.ids[found.rows].tolist(), found.splits.tolist(), strict=True))


def group_roles(items, source, found):
    """(Class, person) -> the roles of its items."""
    of = roles(source, found)
    gathered = {}
    for item, identity in zip(items, source.ids.tolist(), strict=True):
        if item[1] is not None:
            gathered.setdefault(item, set()).add(of[identity])
    return gathered


@settings(max_examples=50)
@given(people, shares)
def test_a_group_has_one_role_and_counts_are_off_by_no_more_than_the_largest_group(items, shares):
    source = source_of(items)
    found = cut(source, shares)
    assert sorted(found.rows.tolist()) == list(range(len(items)))
    assert all(len(each) == 1 for each in group_roles(items, source, found).values())
    for label in {label for label, _ in items}:
        sizes = Counter(person for each, person in items if each == label)
        largest = max((size for person, size in sizes.items() if person is not None), default=1)
        mine = Counter(found.splits[source.labels[found.rows] == label].tolist())
        ideal = apportion(sum(sizes.values()), shares)
        assert mine["train"] >= 1
        for role in SPLITS:
            assert abs(mine[role] - ideal[role]) <= largest


@settings(max_examples=30)
@given(people, shares, st.randoms(use_true_random=False))
def test_neither_order_nor_other_classes_matter(items, shares, random):
    source = source_of(items)
    together = roles(source, cut(source, shares))
    order = list(range(len(items)))
    random.shuffle(order)
    shuffled = CanonicalSet(
        record=source.record,
        images=source.images,
        ids=source.ids[order],
        labels=source.labels[order],
        source_splits=source.source_splits[order],
        paths=source.paths[order],
    )
    assert roles(shuffled, cut(shuffled, shares)) == together
    for label in set(source.labels.tolist()):
        alone = roles(source, cut(source, shares, [label]))
        assert alone == {identity: together[identity] for identity in alone}


@settings(max_examples=50)
@given(people, people, shares)
def test_a_later_task_follows_the_groups_of_an_earlier_one(items, more, shares):
    before = source_of(items)
    found = cut(before, shares)
    known = group_roles(items, before, found)
    later = source_of(more, first=1000)
    joined = cut(later, shares, after=(before, found))
    for item, mine in group_roles(more, later, joined).items():
        assert len(mine) == 1
        assert mine == known.get(item, mine)
    called = {}
    for each, source, of in ((items, before, found), (more, later, joined)):
        for row, name in zip(of.rows.tolist(), of.groups.tolist(), strict=True):
            label, person = each[row]
            called.setdefault((label, row, len(called)) if person is None else (label, person), set()).add(name)
            assert person is not None or name == source.ids[row]
    assert all(len(each) == 1 for each in called.values())
    assert len(set.union(*called.values())) == len(called)


@settings(max_examples=50)
@given(people, shares)
def test_without_groups_the_cut_is_that_of_single_items(items, shares):
    """Rank by sha256 of seed and id, then cut: what `group: null` has always done, and a pattern that finds nothing."""
    source = source_of(items)
    expected = {}
    for label in set(source.labels.tolist()):
        ids = sorted(
            source.ids[source.labels == label].tolist(),
            key=lambda identity: hashlib.sha256(f"{shares.seed}/{identity}".encode()).digest(),
        )
        names = [role for role, count in apportion(len(ids), shares).items() for _ in range(count)]
        expected |= dict(zip(ids, names, strict=True))
    for rule in (None, "(nowhere)"):
        assert roles(source, cut(source, shares.model_copy(update={"group": rule}))) == expected


def test_what_belongs_to_a_test_image_of_the_source_is_test_too():
    items = [("a", person) for person in range(10) for _ in range(4)]
    source = source_of(items, source_splits=["test" if number % 4 == 0 and number < 12 else "" for number in range(40)])
    rule = SplitShares(seed=1, select=0.15, gate=0.2, test=0.2, group=BY_PERSON)
    found = group_roles(items, source, cut(source, rule))
    assert {person for (_, person), mine in found.items() if mine == {"test"}} == {0, 1, 2}
    everywhere = source_of(items, source_splits=["test" if number % 4 == 0 else "" for number in range(40)])
    with pytest.raises(DataError, match='every image of class "a" .* change split.group'):
        cut(everywhere, rule)


def test_near_duplicates_get_one_role():
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 200, (30, 32, 32, 1))
    images = np.concatenate([scenes, scenes + 20, scenes + rng.integers(0, 3, scenes.shape)]).astype(np.uint8)
    items = [("a", None)] * 90
    rule = SplitShares(seed=1, select=0.15, gate=0.2, test=0.2, group="hash")
    source = source_of(items, images=images)
    found = cut(source, rule)
    role_of = dict(zip(found.rows.tolist(), found.splits.tolist(), strict=True))
    assert all(role_of[number] == role_of[number + 30] == role_of[number + 60] for number in range(30))
    assert set(role_of.values()) == set(SPLITS)
    halves = [source_of(items[:45], images=images[:45]), source_of(items[45:], first=45, images=images[45:])]
    first = cut(halves[0], rule)
    second = roles(halves[1], cut(halves[1], rule, after=(halves[0], first)))
    at_first = dict(zip(first.rows.tolist(), first.splits.tolist(), strict=True))
    for number in range(30):  # its last variant is in the later half
        assert second[halves[1].ids[number + 15]] == at_first[number]


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 30), st.sets(st.integers(0, 63), max_size=9)), max_size=40),
)
def test_the_bands_find_what_a_comparison_of_all_pairs_finds(seeds, changed):
    hashes = [*seeds]
    for place, bits in changed:
        hashes.append(hashes[place % len(hashes)] ^ sum(1 << bit for bit in bits))
    every = [
        (left, right)
        for left in range(len(hashes))
        for right in range(left + 1, len(hashes))
        if (hashes[left] ^ hashes[right]).bit_count() <= RADIUS
    ]
    found = near_pairs(np.array(hashes, np.uint64))
    assert set(map(tuple, found.tolist())) <= set(every)
    groups = connected(len(hashes), found)
    expected = connected(len(hashes), np.array(every, np.intp).reshape(-1, 2))
    assert np.array_equal(groups[:, None] == groups, expected[:, None] == expected)


def test_a_grey_image_has_the_hash_of_its_copy_in_colour():
    grey = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    assert perceptual_hashes(grey).tolist() == perceptual_hashes(grey.repeat(3, axis=3)).tolist()
