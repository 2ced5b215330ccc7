import numpy as np
import onnx
import pytest

from csd_core.retrieval import adapter as module
from csd_core.retrieval.adapter import Adapter, AdapterMetadata
from csd_core.retrieval.embedder import digest_of
from csd_core.system.errors import ArtifactError, CompatibilityError
from csd_core.upgrade.mapping.fitted import Fitted, write_adapter


def metadata(**changes):
    return AdapterMetadata(
        **({"source": "s", "target": "t", "method": "ridge", "source_dimension": 4, "dimension": 4} | changes)
    )


@pytest.fixture
def file(tmp_path):
    """A linear adapter that turns the axes round."""
    path = tmp_path / "adapter.onnx"
    write_adapter(Fitted(linear=np.eye(4, dtype=np.float32)[::-1].copy()), path, metadata())
    return path


def units(count):
    vectors = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_an_adapter_is_known_by_its_file(file):
    adapter = Adapter.load(file)
    assert adapter.digest == digest_of(file)
    assert adapter.metadata == metadata()


def test_metadata_survive_as_properties():
    some = metadata(method="mlp", dimension=128)
    assert AdapterMetadata.from_props(some.to_props()) == some


def test_a_file_of_the_format_before_has_one_dimension_on_both_sides(file):
    new = Adapter.load(file)
    model = onnx.load(file)
    props = {prop.key: prop.value for prop in model.metadata_props} | {"csd.adapter": "1"}
    del props["csd.source_dimension"], model.metadata_props[:]
    for key, value in props.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, file)
    old = Adapter.load(file)
    assert old.metadata == new.metadata
    np.testing.assert_array_equal(old(units(5)), new(units(5)))


def test_an_adapter_may_map_between_dimensions(tmp_path):
    path = tmp_path / "adapter.onnx"
    write_adapter(Fitted(linear=np.eye(4, 6, dtype=np.float32)), path, metadata(dimension=6))
    adapter = Adapter.load(path)
    np.testing.assert_allclose(adapter(units(5)), np.pad(units(5), ((0, 0), (0, 2))), atol=1e-6)
    assert adapter(units(0)).shape == (0, 6)
    with pytest.raises(CompatibilityError, match="vectors are 5 x 6, adapter .* maps N x 4"):
        adapter(adapter(units(5)))


def test_vectors_are_mapped_to_unit_length(file):
    vectors = units(50)
    mapped = Adapter.load(file)(vectors)
    np.testing.assert_allclose(mapped, vectors[:, ::-1], atol=1e-6)
    assert mapped.dtype == np.float32


def test_how_many_vectors_are_mapped_at_a_time_changes_nothing(file, monkeypatch):
    adapter, vectors = Adapter.load(file), units(50)
    whole = adapter(vectors)
    monkeypatch.setattr(module, "BATCH", 7)
    np.testing.assert_array_equal(adapter(vectors), whole)


def test_no_vectors_are_mapped_to_none_and_any_layout_is_taken(file):
    adapter, vectors = Adapter.load(file), units(50)
    assert adapter(vectors[:0]).shape == (0, 4)
    np.testing.assert_array_equal(adapter(np.asfortranarray(vectors)), adapter(vectors))
    np.testing.assert_array_equal(adapter(vectors[::2]), adapter(vectors)[::2])


@pytest.mark.parametrize("shape", [(3, 5), (4,)])
def test_vectors_of_another_dimension_are_refused(file, shape):
    with pytest.raises(CompatibilityError, match=r"adapter \w{12} maps N x 4; backfill these rows"):
        Adapter.load(file)(np.ones(shape, np.float32))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"gone.onnx: there is no such adapter; run `csd run`"):
        Adapter.load(tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a\x12"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"damaged.onnx: ") as caught:
        Adapter.load(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_adapter_is_one_line(file):
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ArtifactError) as caught:
        Adapter.load(file)
    assert "\n" not in str(caught.value)


def test_an_embedder_is_no_adapter(tmp_path, linear_embedder):
    path = linear_embedder(tmp_path / "embedder.onnx", np.ones((9, 4)))
    with pytest.raises(ArtifactError, match=r"no adapter of csd: metadata 'csd.adapter' is missing"):
        Adapter.load(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("csd.adapter", "3", "format 3, expected 2"),
        ("csd.method", "magic", "method magic"),
        ("csd.dimension", "four", "invalid literal"),
    ],
)
def test_impossible_metadata_are_refused(file, key, value, words):
    model = onnx.load(file)
    for prop in model.metadata_props:
        if prop.key == key:
            prop.value = value
    onnx.save(model, file)
    with pytest.raises(ArtifactError, match=words):
        Adapter.load(file)


def test_a_file_that_is_called_by_another_digest_is_refused(file):
    digest = digest_of(file)
    file.rename(file.with_name(f"{digest}.onnx"))
    assert Adapter.retained(file.parent, digest).digest == digest
    (file.parent / f"{digest}.onnx").rename(file.parent / f"{'0' * 64}.onnx")
    with pytest.raises(ArtifactError, match=f"{'0' * 64}.onnx: its content has digest {digest[:12]}; restore it"):
        Adapter.retained(file.parent, "0" * 64)
