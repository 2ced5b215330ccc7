"""The gate on pairs, and on items of which nothing is known, against brute force."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from csd_core.records.check import CheckReport
from csd_core.standalone.collection import read_labelled
from csd_core.standalone.roles import assign_roles
from csd_core.standalone.vectors.labels import unlabelled
from csd_core.standalone.vectors.pairs import read_pairs
from csd_core.system.errors import DataError


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def views(tmp_path, monkeypatch):
    """300 things seen twice, and 200 seen once, by two models; the new one has less noise."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    things = draw.normal(size=(500, 24))[np.concatenate([np.arange(300), np.arange(300), np.arange(300, 500)])]
    old, new = things + 0.9 * draw.normal(size=things.shape), things + 0.5 * draw.normal(size=things.shape)
    ids = [f"x{row:03}" for row in range(800)]
    for name, vectors in (("old", old), ("new", new), ("far", draw.normal(size=things.shape))):
        pq.write_table(pa.table({"id": ids, "vector": vectors.astype(np.float32).tolist()}), f"{name}.parquet")
    rows = "\n".join(f"x{row:03},x{row + 300:03}" for row in range(300))
    (tmp_path / "pairs.csv").write_text(f"query,item\n{rows}\n")
    return old, new


def test_pairs_stand_for_classes_and_only_their_queries_ask(csd, views, tmp_path):
    arguments = ("check", "--old-vectors", "old.parquet", "--pairs", "pairs.csv")
    code, printed, errors = csd(*arguments, "--new-vectors", "new.parquet", "-o", "check.json")
    assert code == 0, errors
    assert "evidence: pairs say what should match" in printed
    report = CheckReport.load(tmp_path / "check.json")
    assert report.status_quo.overall.queries == 150

    items = unlabelled(tmp_path / "old.parquet", np.array([f"x{row:03}" for row in range(800)]))
    classes, asks = read_pairs(tmp_path / "pairs.csv", items.ids)
    roles = assign_roles(
        read_labelled(replace(items, classes=classes, asks=asks)), gallery=None, new_classes=(), seed=1
    )
    asked = np.flatnonzero(roles.splits == "gate")
    assert set(asked) <= set(range(300))
    assert (roles.splits[asked + 300] == "test").all()  # found, but not asked with
    assert (roles.splits[600:] == "train").all()
    for vectors, measured in zip(
        views,
        (report.status_quo, next(each for each in report.alternatives if each.name == "backfill").measured),
        strict=True,
    ):
        cosines = unit(vectors)[asked] @ unit(vectors).T
        cosines[np.arange(len(asked)), asked] = -2
        assert measured.overall.recall_at_1 == pytest.approx((cosines.argmax(axis=1) == asked + 300).mean(), abs=1e-9)
    assert csd(*arguments, "--new-vectors", "far.parquet")[0] == 7


def test_without_labels_answers_are_compared_and_nothing_is_promoted(csd, views):
    arguments = ("check", "--old-vectors", "old.parquet", "--new-vectors")
    code, printed, errors = csd(*arguments, "old.parquet")
    assert code == 8, errors
    assert "no verdict" in printed
    assert "keep: Recall@1 changes by at most 0.7 points either way" in printed  # 1 - 0.05 ** (1 / 400)
    code, printed, _ = csd(*arguments, "new.parquet")
    assert code == 8
    asked = np.sort(np.random.default_rng(1).permutation(800)[:400])
    nearest = []
    for vectors in views:
        cosines = unit(vectors)[asked] @ unit(vectors).T
        cosines[np.arange(400), asked] = -2
        nearest.append(np.argsort(-cosines, axis=1)[:, :10])
    same = (nearest[0][:, 0] == nearest[1][:, 0]).mean()
    overlap = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(*nearest, strict=True)])
    row = next(line.split() for line in printed.splitlines() if line.startswith("backfill "))
    assert row[1:3] == [f"{100 * same:.1f}", f"{100 * overlap:.1f}"]
    code, _, errors = csd(*arguments, "new.parquet", "--summary", "x.md")
    assert code == 2
    assert "--summary: nothing says what is right" in errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,thing\na,b\n", r"has no column item; its columns are query, thing"),
        ("query,item\na,z\n", r"no pair joins two of the 2 items"),
        ("query,item\na,a\n", r"no pair joins two of the 2 items; its ids are such as a, those of the items such as a"),
        ("query,item\n", r"no pair joins two of the 2 items; it has no rows"),
    ],
)
def test_pairs_that_join_nothing_are_refused(text, message, tmp_path):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / "pairs.csv", np.array(["a", "b"]))


def test_pairs_of_unknown_ids_are_counted(capsys, tmp_path):
    (tmp_path / "pairs.csv").write_text("query,item\na,b\na,z\ny,z\n")
    classes, asks = read_pairs(tmp_path / "pairs.csv", np.array(["a", "b"]))
    assert (len(set(classes)), asks.tolist()) == (1, [True, False])
    assert "2 of 3 pairs name an unknown id and are left out" in capsys.readouterr().out
