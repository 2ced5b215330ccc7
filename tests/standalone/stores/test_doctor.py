"""What is wrong with an index: each fault is found, and a sound one has none."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shops import drawn, lists

ROWS, DIMENSION = 1000, 16


def sound():
    """Unit vectors of ten classes."""
    draw = np.random.default_rng(3)
    vectors = draw.normal(size=(10, DIMENSION))[np.arange(ROWS) % 10] + 0.7 * draw.normal(size=(ROWS, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def narrow(vectors):
    moved = vectors + 3 * np.eye(DIMENSION)[0]
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def collapsed(vectors):
    flat = vectors * ([1, 1] + [0.01] * (DIMENSION - 2))
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def with_hub(vectors):
    spread = drawn(ROWS, 400, seed=5) + np.random.default_rng(5).uniform(0, 0.12, size=(ROWS, 1)).astype(np.float32)
    return spread / np.linalg.norm(spread, axis=1, keepdims=True)


def changed(rows, value):
    def change(vectors):
        vectors = vectors.copy()
        vectors[rows] = value
        return vectors

    return change


def ending_early(vectors):
    vectors = vectors.copy()
    vectors[:300, 8:] = 0
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (changed(7, np.nan), "1 vectors are not finite, such as that of 7"),
        (changed(7, 0), "1 vectors have length 0, such as that of 7"),
        (lambda vectors: vectors * 3, "1,000 vectors are not of length 1 (3 to 3)"),
        (changed(slice(0, 50), sound()[0]), "49 rows have the vector of another row; 50 have that of 0"),
        (ending_early, "rows of several models: vectors end in zeros after different dimensions (300 of 8, 700 of 16)"),
        (lambda vectors: vectors[:, :1] * np.float32(1e25), "vectors are not of length 1"),
        (narrow, "the vectors lie in a narrow cone"),
        (collapsed, "the space has collapsed: of 16 dimensions the rows use"),
        (with_hub, "hubs: how often a row is among the 10 nearest"),
    ],
)
def test_each_fault_is_told_with_a_remedy(csd, fault, words):
    vectors = fault(sound()).astype(np.float32)
    pq.write_table(pa.table({"id": np.arange(ROWS), "vector": lists(vectors)}), "items.parquet")
    code, printed, _ = csd("doctor", "items.parquet")
    assert code == 9
    assert words in printed
    assert all("; " in line for line in printed.splitlines())


def test_a_sound_index_has_no_finding_and_rows_without_a_vector_are_one(csd):
    vectors = sound()
    pq.write_table(pa.table({"id": np.arange(ROWS), "vector": lists(vectors)}), "items.parquet")
    code, printed, _ = csd("doctor", "items.parquet")
    assert (code, "1,000 rows, nothing is wrong" in printed) == (0, True), printed
    ragged = [None, *vectors.tolist()[1:]]
    pq.write_table(pa.table({"id": np.arange(ROWS), "vector": ragged}), "items.parquet")
    assert "1 of 1,000 rows have no vector" in csd("doctor", "items.parquet")[1]
    ragged[5] = [1.0, 0.0]
    pq.write_table(pa.table({"id": np.arange(ROWS), "vector": ragged}), "items.parquet")
    assert "has vectors of 2 and 16 dimensions" in csd("doctor", "items.parquet")[1]
