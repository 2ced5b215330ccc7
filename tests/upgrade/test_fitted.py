import numpy as np
import onnx
import pytest
from worlds import UPGRADE, bent, unit_vectors

from csd_core.retrieval.adapter import Adapter, AdapterMetadata
from csd_core.upgrade.mapping import fitted as module
from csd_core.upgrade.mapping.adaptation import fit_mlp
from csd_core.upgrade.mapping.fitted import Fitted, write_adapter
from csd_core.upgrade.mapping.maps import PairSums, linear_maps, local_maps


def saved(fitted, folder, *, method="ridge", name="adapter.onnx"):
    file = folder / name
    old, new = fitted.linear.shape
    write_adapter(
        fitted, file, AdapterMetadata(source="s", target="t", method=method, source_dimension=old, dimension=new)
    )
    return Adapter.load(file, threads=1)


def ridge(dimension=5):
    return PairSums.of(unit_vectors(60, 5), unit_vectors(60, dimension, seed=3)).ridge(1e-3)


def mapped_by_hand(fitted, row):
    """One vector through an adapter, component by component."""
    old, new = fitted.linear.shape

    def times(matrix, column):
        return sum(float(row[i]) * float(matrix[i, column]) for i in range(old))

    moved = [times(fitted.linear, j) + (0 if fitted.offset is None else float(fitted.offset[j])) for j in range(new)]
    if fitted.hidden is not None:
        w1, b1, w2, b2 = (each.astype(float) for each in fitted.hidden)
        hidden = [max(0.0, times(w1, h) + b1[h]) for h in range(len(b1))]
        moved = [moved[j] + sum(hidden[h] * w2[h, j] for h in range(len(b1))) + b2[j] for j in range(new)]
    if fitted.neighbours is not None:
        keys, moves = fitted.neighbours
        shares = [np.exp(times(keys, a)) for a in range(keys.shape[1])]
        moved = [moved[j] + sum(s * float(moves[a, j]) for a, s in enumerate(shares)) / sum(shares) for j in range(new)]
    length = sum(value * value for value in moved) ** 0.5
    return [value / length for value in moved]


@pytest.mark.parametrize("dimension", [5, 3, 8])
def test_the_file_computes_what_numpy_and_a_loop_compute(tmp_path, dimension):
    source = unit_vectors(60, 5)
    target = bent(source, dimension)
    proposals = [*linear_maps(source, target, UPGRADE.adapter), *local_maps(source, target, UPGRADE.adapter)]
    networks = [fit_mlp(source, target, each.fitted, settings=UPGRADE.adapter, seed=1) for each in proposals[:3]]
    assert len({each.method for each in proposals}) == (5 if dimension == 5 else 4)
    for fitted in (*(each.fitted for each in proposals), *networks):
        mapped = saved(fitted, tmp_path)(source)
        assert mapped.shape == (60, dimension)
        np.testing.assert_allclose(mapped, [mapped_by_hand(fitted, row) for row in source], atol=2e-6)
        np.testing.assert_allclose(mapped, fitted(source), atol=1e-6)


def test_equal_weights_give_equal_bytes_and_the_metadata_survive(tmp_path):
    fitted = ridge(7)
    one, other = saved(fitted, tmp_path, name="one.onnx"), saved(fitted, tmp_path, name="other.onnx")
    assert one.digest == other.digest
    assert one.metadata == AdapterMetadata(source="s", target="t", method="ridge", source_dimension=5, dimension=7)
    assert saved(fitted, tmp_path, method="mlp", name="third.onnx").digest != one.digest
    model = onnx.load(tmp_path / "one.onnx")
    assert [each.version for each in model.opset_import] == [18]
    assert model.ir_version == 10


def test_equal_vectors_give_equal_bytes_of_every_map(tmp_path):
    source, target = unit_vectors(300, 12), bent(unit_vectors(300, 12))
    for one, other in zip(*(list(linear_maps(source, target, UPGRADE.adapter)) for _ in "ab"), strict=True):
        assert saved(one.fitted, tmp_path).digest == saved(other.fitted, tmp_path).digest


def test_a_vector_that_maps_to_nothing_is_no_number_problem(tmp_path):
    nothing = Fitted(linear=np.zeros((4, 4), np.float32))
    np.testing.assert_array_equal(saved(nothing, tmp_path)(unit_vectors(3, 4)), np.zeros((3, 4)))
    np.testing.assert_array_equal(nothing(unit_vectors(3, 4)), np.zeros((3, 4)))


def test_vectors_are_mapped_a_few_at_a_time_to_the_same(monkeypatch):
    source = unit_vectors(60, 5)
    (proposal,) = local_maps(source, bent(source), UPGRADE.adapter)
    whole = proposal.fitted(source)
    monkeypatch.setattr(module, "BATCH", 7)
    np.testing.assert_allclose(proposal.fitted(source), whole, atol=1e-6)
    assert proposal.fitted(source[:0]).shape == (0, 5)
