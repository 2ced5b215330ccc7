import json
import shutil

import numpy as np
import pytest

from csd_core.retrieval.adapter import Adapter, AdapterMetadata
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.lineage import RECORD, Lineage
from csd_core.system.errors import ArtifactError
from csd_core.upgrade.mapping.fitted import Fitted, write_adapter


@pytest.fixture
def files(tmp_path, linear_embedder):
    """Two models and two adapters: m1, m2, a1, a2."""
    rng = np.random.default_rng(0)
    found = {name: linear_embedder(tmp_path / f"{name}.onnx", rng.normal(size=(9, 4))) for name in ("m1", "m2")}
    for name in ("a1", "a2"):
        found[name] = tmp_path / f"{name}.onnx"
        linear = rng.normal(size=(4, 4)).astype(np.float32)
        metadata = AdapterMetadata(source="s", target=name, method="ridge", source_dimension=4, dimension=4)
        write_adapter(Fitted(linear=linear), found[name], metadata)
    return found


@pytest.fixture
def digests(files):
    return {name: digest_of(path) for name, path in files.items()}


@pytest.fixture
def lineage(files):
    nothing = Lineage(models={}, adapters={})
    return nothing.extended(models=[files["m1"], files["m2"]], adapters=[files["a1"], files["a2"]])


def images(count=20):
    return np.random.default_rng(1).integers(0, 256, (count, 3, 3, 1)).astype(np.uint8)


def test_what_is_saved_is_loaded_again(lineage, digests, tmp_path):
    lineage.save(tmp_path / "lineage")
    loaded = Lineage.load(tmp_path / "lineage")
    assert set(loaded.models) == {digests["m1"], digests["m2"]}
    assert set(loaded.adapters) == {digests["a1"], digests["a2"]}
    for digest in (*loaded.models, *loaded.adapters):
        path = loaded.model(digest) or loaded.adapter(digest)
        assert path == tmp_path / "lineage" / f"{digest}.onnx"
        assert digest_of(path) == digest


def test_equal_lineages_give_equal_bytes_whatever_the_order_they_grew_in(lineage, files, tmp_path):
    other = Lineage(models={}, adapters={}).extended(models=[files["m2"]], adapters=[files["a2"]])
    other = other.extended(models=[files["m1"]], adapters=[files["a1"]])
    lineage.save(tmp_path / "one")
    other.save(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_first_lineage_is_empty(tmp_path):
    Lineage(models={}, adapters={}).save(tmp_path / "lineage")
    loaded = Lineage.load(tmp_path / "lineage")
    assert loaded.model("0" * 64) is None
    assert loaded.adapter("0" * 64) is None
    assert not loaded.knows(Provenance("0" * 64, ""))


def test_images_go_through_the_model_and_then_each_adapter_of_the_chain(lineage, files, digests):
    provenance = Provenance(digests["m1"], f"{digests['a2']},{digests['a1']}")
    expected = Embedder.load(files["m1"], device="cpu")(images())
    expected = Adapter.load(files["a1"])(Adapter.load(files["a2"])(expected))
    found = lineage.embed_as(provenance, device="cpu", threads=1)(images())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = lineage.embed_as(Provenance(digests["m1"], ""), device="cpu", threads=1)(images())
    assert not np.allclose(found, plain, atol=1e-2)


def test_without_the_model_or_an_adapter_there_is_no_path(lineage, digests):
    chain = Provenance(digests["m1"], f"{digests['a1']},{digests['a2']}")
    assert lineage.knows(chain)
    assert lineage.embed_as(Provenance("f" * 64, "")) is None
    assert lineage.embed_as(Provenance(digests["m1"], f"{digests['a1']},{'f' * 64}")) is None
    fewer = Lineage(models=lineage.models, adapters={digests["a1"]: lineage.adapters[digests["a1"]]})
    assert fewer.embed_as(chain) is None


def test_only_what_rows_need_is_kept_and_always_the_champion(lineage, digests):
    needed = lineage.needed_by([Provenance(digests["m1"], digests["a1"])], query_models=[digests["m2"]])
    assert set(needed.models) == {digests["m1"], digests["m2"]}
    assert set(needed.adapters) == {digests["a1"]}
    champion = lineage.needed_by([], query_models=[digests["m2"]])
    assert (set(champion.models), set(champion.adapters)) == ({digests["m2"]}, set())
    nothing = lineage.needed_by([], query_models=[])
    assert (dict(nothing.models), dict(nothing.adapters)) == ({}, {})


def test_what_is_not_retained_stays_unknown(lineage):
    lost = Provenance("f" * 64, "e" * 64)
    needed = lineage.needed_by([lost], query_models=[])
    assert not needed.knows(lost)


def test_a_missing_file_or_record_is_named(lineage, digests, tmp_path):
    with pytest.raises(ArtifactError, match=r"lineage.json: missing; run `csd run`"):
        Lineage.load(tmp_path / "nowhere")
    lineage.save(tmp_path / "lineage")
    (tmp_path / "lineage" / f"{digests['a1']}.onnx").unlink()
    with pytest.raises(ArtifactError, match=f"{digests['a1']}.onnx: missing, though {RECORD} names it; run `csd run`"):
        Lineage.load(tmp_path / "lineage")


def test_a_damaged_record_is_one_line(tmp_path):
    (tmp_path / RECORD).write_text(json.dumps({"models": []}), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"not a LineageRecord \(adapters: Field required\)"):
        Lineage.load(tmp_path)


@pytest.mark.parametrize(("victim", "instead"), [("m1", "m2"), ("a1", "a2")])
def test_a_file_that_is_not_what_its_name_says_is_refused(lineage, files, digests, tmp_path, victim, instead):
    lineage.save(tmp_path / "lineage")
    shutil.copyfile(files[instead], tmp_path / "lineage" / f"{digests[victim]}.onnx")
    loaded = Lineage.load(tmp_path / "lineage")
    with pytest.raises(
        ArtifactError, match=f"its content has digest {digests[instead][:12]}; restore it with `csd run`"
    ):
        loaded.embed_as(Provenance(digests["m1"], digests["a1"]), device="cpu", threads=1)
