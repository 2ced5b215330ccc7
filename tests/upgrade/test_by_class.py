"""Counts by class, confusions and examples against readable loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import SPLITS, UPGRADE

from csd_core.records.by_class import HANDFUL
from csd_core.retrieval.metrics import Recall
from csd_core.retrieval.parts import nearest
from csd_core.upgrade import by_class as module
from csd_core.upgrade.by_class import LISTED, NOTHING, Classes, by_class, nearest_rows, queries_by_class
from csd_core.upgrade.check import check
from csd_core.upgrade.compatibility import parts_after
from csd_core.upgrade.strategies import Adapt


def outcome(hits, possible):
    return Recall(k=(1,), rank=np.where(hits, 0, 3), possible=np.array(possible))


@settings(max_examples=50, deadline=None)
@given(
    queries=st.lists(
        st.tuples(st.integers(0, 14), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60
    )
)
def test_counts_by_class_are_those_of_a_loop(queries):
    names = np.array([f"c{kind:02}" for kind, *_ in queries])
    possible = [each[3] for each in queries]
    before, after = (outcome(np.array([each[place] for each in queries]), possible) for place in (1, 2))
    unique, codes, images = np.unique(names, return_inverse=True, return_counts=True)
    classes = Classes(unique, images, codes)
    found = by_class(classes, before=before, after=after)
    counted = {}
    for kind, was, now, counts in queries:
        each = counted.setdefault(f"c{kind:02}", [0, 0, 0])
        if counts:
            each[0] += 1
            each[1] += was
            each[2] += now
    asked = {name: each for name, each in counted.items() if each[0]}
    for each in found.worst:
        assert [each.queries, each.before, each.after] == asked[each.name]
        assert each.images == (names == each.name).sum()
    recalls = [each.recall for each in found.worst]
    assert recalls == sorted(recalls)
    assert len(found.worst) >= min(LISTED, len(asked))
    shown = {each.name for each in found.worst}
    if len(shown) < len(asked):
        left_out = min(each[2] / each[0] for name, each in asked.items() if name not in shown)
        assert sum(each.recall <= left_out for each in found.worst) >= LISTED
    assert found.never_found == sum(not each[2] for each in asked.values())
    few = queries_by_class(classes, np.array(possible))
    assert few.few == sum(each[0] < HANDFUL for each in counted.values())
    assert [each.queries for each in few.fewest] == sorted(each[0] for each in counted.values())[:LISTED]


@pytest.mark.parametrize("block", [5, 4096])
def test_the_nearest_rows_are_those_of_the_search_without_test(mixed, to_the_fourth, monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    candidate = mixed.model(4)
    seen = mixed.evaluation("t4", candidate)
    plan = Adapt().plan(mixed.situation(candidate, to_the_fourth))
    asked = np.arange(len(seen.asked))
    everything = nearest(parts_after(seen, plan), asked, own=seen.asked, count=len(seen.labels))
    found = nearest_rows(seen, seen.way_after(plan), seen.asked, count=3)
    wrong = nearest_rows(seen, seen.way_after(plan), seen.asked, count=1, wrong_alone=True)
    for query, rows in enumerate(everything):
        shown = [row for row in rows if seen.splits[row] != "test"]
        assert found[query].tolist() == shown[:3]
        others = [row for row in shown if seen.labels[row] != seen.labels[seen.asked[query]]]
        assert wrong[query].tolist() == others[:1]


def test_where_there_are_too_few_rows_there_is_nothing(mixed, to_the_fourth):
    candidate = mixed.model(4)
    seen = mixed.evaluation("t4", candidate)
    plan = Adapt().plan(mixed.situation(candidate, to_the_fourth))
    found = nearest_rows(seen, seen.way_after(plan), seen.asked[:1], count=len(seen.labels))
    assert (found[0] == NOTHING).sum() == 1 + (seen.splits == "test").sum()


def test_a_check_looks_closer_at_the_way_that_finds_most(mixed, to_the_fourth):
    candidate = mixed.model(4)
    report = check(
        "t4",
        gate=mixed.evaluation("t4", candidate, splits=SPLITS),
        select=mixed.evaluation("t4", candidate, split="select", splits=SPLITS),
        situation=mixed.situation(candidate, to_the_fourth, settings=UPGRADE),
        champion=mixed.model(3).digest,
        pending=(),
        best_own_gallery={},
    )
    look = report.closer_look
    best = max(report.alternatives, key=lambda each: each.measured.overall.at[1])
    overall = best.measured.overall
    assert (look.strategy, look.share) == best.way
    assert look.missed == look.looked_at == overall.queries - round(overall.queries * overall.at[1])
    assert sum(each.times for each in look.confusions) <= look.missed
    assert [each.times for each in look.confusions] == sorted((each.times for each in look.confusions), reverse=True)
    for each in report.alternatives:  # these few classes are all listed
        if len(each.by_class.worst) == report.queries_by_class.classes:
            hits = sum(one.after for one in each.by_class.worst)
            assert hits == round(each.measured.overall.queries * each.measured.overall.at[1])
    assert all(each.by_class is None for each in report.rehearsal.alternatives)
    pool = mixed.pool("t4")
    split = dict(zip(pool.ids.tolist(), pool.splits.tolist(), strict=True))
    label = dict(zip(pool.ids.tolist(), pool.labels.tolist(), strict=True))
    for example in look.examples:
        assert split[example.query] == "gate"
        assert {split[row] for row in (*example.before, *example.after)} <= {"train", "select", "gate"}
        hit = [label[rows[0]] == label[example.query] for rows in (example.before, example.after)]
        assert {"lost": [True, False], "gained": [False, True], "kept": [True, True], "missed": [False, False]}[
            example.outcome
        ] == hit
