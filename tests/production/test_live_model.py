"""Random writes, tags, compactions and erasures against a dictionary."""

import numpy as np
import pytest

from csd_core.live.rows import LiveItems


def unit(rng, count):
    vectors = rng.standard_normal((count, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def contents(live, version=None):
    """Id -> (label, vector) of the table."""
    rows = live.rows("g", version=version, columns=["id", "label", "vector"]).to_pylist()
    return {row["id"]: (row["label"], tuple(row["vector"])) for row in rows}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whatever_is_done_the_table_and_its_tags_are_those_of_a_dictionary(live, gallery_of_items, seed):
    rng = np.random.default_rng(seed)
    gallery = gallery_of_items(20)
    live.build("g", gallery, origin="pipeline", images=None)
    now = contents(live)
    tags, erased, deleted = {}, set(), set()
    for step in range(25):
        some = [f"item-{i}" for i in rng.choice(30, rng.integers(1, 6), replace=False)]
        match rng.choice(["put", "put", "delete", "tag", "compact", "erase"]):
            case "put":
                some = [name for name in some if name not in erased]
                vectors = unit(rng, len(some))
                labels = np.full(len(some), f"step {step}")
                live.upsert("g", LiveItems(ids=np.array(some, "U9"), labels=labels, vectors=vectors, embedded_by="m"))
                now |= {name: (f"step {step}", tuple(v.tolist())) for name, v in zip(some, vectors, strict=True)}
                deleted -= set(some)
            case "delete":
                assert live.delete("g", some, why="test") == len(now.keys() & set(some))
                now = {name: row for name, row in now.items() if name not in some}
                deleted |= set(some)
            case "tag":
                name = f"tag-{rng.integers(3)}"
                live.tag("g", name)
                tags[name] = dict(now)
            case "compact":
                live.compact("g")
            case "erase":
                live.erase(some[:1])
                erased.add(some[0])
                now.pop(some[0], None)
                for content in tags.values():
                    content.pop(some[0], None)
        assert contents(live) == now
        assert {tag: contents(live, tag) for tag in live.tags("g")} == tags
        for tag, then in tags.items():
            changes = live.changed_since("g", tag)
            assert set(changes.deleted) == then.keys() - now.keys()
            assert {name for name in now if now[name] != then.get(name)} <= set(changes.upserted) <= now.keys()
    tombstones_found = live.tombstones()
    names = np.array([f"item-{i}" for i in range(30)])
    assert set(names[tombstones_found.is_deleted(names)]) == deleted | erased
