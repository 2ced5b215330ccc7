"""Rows in memory against the table they were read from."""

import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc
import pytest

from csd_core.live import memory as held
from csd_core.live.filters import Filters
from csd_core.live.hits import WORDS
from csd_core.live.rows import LiveItems, StoredImages, texts_of
from csd_core.live.rules import SearchRules
from csd_core.live.search import Snapshot
from csd_core.retrieval.gallery import Gallery
from csd_core.system.errors import ArtifactError

ROWS, DIMENSION = 700, 8


def unit(rng, rows, dimension):
    vectors = rng.standard_normal((rows, dimension), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def table(live):
    """A table of shuffled ids, several commits, and many words in each column."""
    rng = np.random.default_rng(3)
    names = np.array([f"item-{number:04}" for number in rng.permutation(ROWS)])
    gallery = Gallery.embedded(
        ids=names[:300],
        labels=rng.choice(["a", "b", "ä"], 300),
        tasks=rng.choice(["t1", "t2"], 300),
        splits=np.full(300, "train"),
        vectors=unit(rng, 300, DIMENSION),
        model="m" * 64,
    )
    live.build("g", gallery, origin="pipeline", images=None)
    for start in range(300, ROWS, 100):
        live.upsert(
            "g",
            LiveItems(
                ids=names[start : start + 100],
                labels=rng.choice([f"class {number}" for number in range(300)], 100),
                vectors=unit(rng, 100, DIMENSION),
                embedded_by=rng.choice(["m" * 64, "n" * 64], 100),
                spaces=np.full(100, "m" * 64),
                images=StoredImages(
                    [None] * 100, [None] * 100, paths=[f"{name}.jpg" for name in names[start : start + 100]]
                ),
                written_at=np.datetime64("2026-01-01", "us") + np.arange(100) * np.timedelta64(1, "h"),
            ),
        )
    return live


def load(live):
    return Snapshot.load(live, "g", SearchRules.by_cosine("m" * 64, dimension=DIMENSION))


@pytest.mark.parametrize("window", [1, 4096, 1 << 22])
def test_rows_in_memory_are_the_tables_by_id_however_they_were_read(table, monkeypatch, window):
    monkeypatch.setattr(held, "WINDOW", window * DIMENSION if window == 1 else window)
    rows = load(table).rows
    plain = table.rows("g", columns=[*WORDS, "written_at", "vector"])
    plain = plain.take(pc.sort_indices(plain, [("id", "ascending")]))
    decoded = rows.texts(WORDS)
    assert all(texts_of(decoded, name).tolist() == texts_of(plain, name).tolist() for name in WORDS)
    assert texts_of(decoded, "path").tolist().count("") == 300  # the pipeline's
    assert rows.facts["written_at"].to_pylist() == plain["written_at"].to_pylist()
    assert np.array_equal(rows.parts[0].vectors, np.stack(plain["vector"].to_pylist()).astype(np.float32))


@pytest.mark.parametrize(
    "where",
    [
        Filters(label=("a",)),
        Filters(label=("ä", "class 7"), embedded_by=("n" * 64, "m" * 64)),
        Filters(task=("t2",), origin=("pipeline",)),
        Filters(since=datetime(2026, 1, 3, tzinfo=UTC)),
        Filters(origin=("live",), since=datetime(2026, 1, 2, 5, tzinfo=UTC), embedded_by=("n" * 64,)),
        Filters(label=("nothing",)),
    ],
    ids=str,
)
def test_a_filter_finds_in_memory_what_it_finds_in_the_table(table, where):
    rows = load(table).rows
    found = rows.texts(["id"], np.flatnonzero(where.mask(rows.facts)))["id"].to_pylist()
    assert found == sorted(table.rows("g", columns=["id"], where=where)["id"].to_pylist())


def test_hits_are_those_of_a_loop_over_the_table_whatever_the_filter(table):
    table.delete("g", [f"item-{number:04}" for number in range(0, ROWS, 7)], why="test")
    plain = table.rows("g", columns=[*WORDS, "vector"]).to_pylist()
    opened = load(table)
    rng = np.random.default_rng(5)
    some = {name: sorted({row[name] for row in plain}) for name in ("label", "task", "embedded_by", "origin")}
    for _ in range(30):
        named = [name for name in some if rng.random() < 0.4]
        asked = {name: tuple(rng.choice(some[name], rng.integers(1, 4)).tolist()) for name in named}
        query = unit(rng, 1, DIMENSION)
        hits = opened.search(query, k=5, where=Filters(**asked))
        matching = [row for row in plain if all(row[name] in values for name, values in asked.items())]
        scored = sorted((-float(np.dot(np.array(row["vector"], float), query[0])), row["id"], row) for row in matching)
        true = [row for _, _, row in scored[:5]]
        columns = (hits.ids, hits.labels, hits.tasks, hits.embedded_by, hits.spaces, hits.origins, hits.sources)
        for name, column in zip(WORDS, (*columns, hits.paths), strict=True):
            assert column[0].tolist() == [row[name] or "" for row in true]
        assert hits.scores[0].tolist() == pytest.approx([-negative for negative, *_ in scored[:5]], abs=1e-6)


@pytest.mark.parametrize("spoil", [reversed, lambda batches: batches[:-1]], ids=["other order", "fewer"])
def test_rows_that_come_otherwise_the_second_time_are_refused_lest_vectors_change_places(table, monkeypatch, spoil):
    windows = held.windows
    monkeypatch.setattr(held, "WINDOW", 4096)

    def second(handle, columns, **more):
        found = list(windows(handle, columns, **more))
        return spoil(found) if "vector" in columns else found

    monkeypatch.setattr(held, "windows", second)
    with pytest.raises(ArtifactError, match="table g: its rows came in another order when read again; load it again"):
        load(table)


GROWTH = """
import re, sys
from pathlib import Path
from csd_core.live.gallery import LiveGallery
from csd_core.live.rules import SearchRules
from csd_core.live.search import Snapshot

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

live = LiveGallery.open(sys.argv[1], lock=Path(sys.argv[2]))
before = most()
snapshot = Snapshot.load(live, "g", SearchRules.by_cosine("m" * 64, dimension=128))
print((most() - before) / snapshot.rows.parts[0].vectors.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_a_large_table_takes_little_more_than_its_vectors(live, tmp_path):
    rows = 400_000
    rng = np.random.default_rng(0)
    gallery = Gallery.embedded(
        ids=np.array([f"{number:012}" for number in rng.permutation(rows)]),
        labels=rng.choice(["a", "b"], rows),
        tasks=np.full(rows, "t1"),
        splits=np.full(rows, "train"),
        vectors=unit(rng, rows, 128),
        model="m" * 64,
    )
    live.build("g", gallery, origin="pipeline", images=None)
    command = [sys.executable, "-c", GROWTH, live.uri, str(tmp_path / "lock")]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(told.stdout) < 2
