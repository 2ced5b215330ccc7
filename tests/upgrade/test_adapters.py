import shutil
from copy import copy
from typing import get_args

import numpy as np
import pytest

from csd_core.params.upgrade import AdapterMethod
from csd_core.system.errors import ArtifactError
from csd_core.upgrade.mapping.adapters import RECORD, CandidateAdapters, provenance_of


@pytest.fixture
def folder(to_the_fourth, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(to_the_fourth.folder, tmp_path / "adapters")


def test_what_was_written_is_read_again(folder, to_the_fourth):
    loaded = CandidateAdapters.load(folder)
    assert loaded.record == to_the_fourth.record
    assert [each.digest for each in loaded.chosen.values()] == [fit.chosen for fit in loaded.record.fits]
    assert list(loaded.chosen) == list(loaded.anchors) == [provenance_of(fit) for fit in loaded.record.fits]
    assert [path.name for path in loaded.paths()] == [f"{fit.chosen}.onnx" for fit in loaded.record.fits]
    for method in get_args(AdapterMethod):
        found = loaded.by_method(method)
        assert list(found) == list(loaded.chosen)
        assert {each.metadata.method for each in found.values()} == {method}


def test_anchors_are_the_training_images_and_what_the_adapter_gets_wrong(mixed, to_the_fourth):
    pool, candidate = mixed.pool("t4"), mixed.model(4)
    images = pool.images(np.flatnonzero((pool.tasks == "t4") & (pool.splits == "train")))
    for provenance, known in to_the_fourth.anchors.items():
        source = mixed.lineage.embed_as(provenance, device="cpu", threads=1)(images)
        np.testing.assert_allclose(known.vectors, source, atol=1e-6)
        mapped = to_the_fourth.chosen[provenance](source)
        np.testing.assert_allclose(known.residuals, 1 - np.sum(mapped * candidate(images), axis=1), atol=1e-5)


def test_no_adapters_have_no_files_and_say_why():
    none = CandidateAdapters.none("there is no gallery to map")
    assert (none.paths(), none.by_method("ridge"), dict(none.chosen)) == ([], {}, {})
    assert none.record.why_not == "there is no gallery to map"


def test_a_record_alone_is_read_as_no_adapters(tmp_path):
    CandidateAdapters.none("the gallery has 4 dimensions, the candidate 5").record.save(tmp_path / RECORD)
    loaded = CandidateAdapters.load(tmp_path)
    assert dict(loaded.chosen) == {}
    assert loaded.record.why_not == "the gallery has 4 dimensions, the candidate 5"


def test_missing_files_are_named(folder, tmp_path):
    fit = copy(CandidateAdapters.load(folder).record.fits[0])
    with pytest.raises(ArtifactError, match=r"adapters.json: missing; run `csd run`"):
        CandidateAdapters.load(tmp_path / "nowhere")
    (folder / f"{fit.chosen}.anchors.npy").unlink()
    with pytest.raises(ArtifactError, match="damaged anchors"):
        CandidateAdapters.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY damaged", b"no array"])
def test_damaged_anchors_are_one_line(folder, content):
    fit = CandidateAdapters.load(folder).record.fits[0]
    (folder / f"{fit.chosen}.residuals.npy").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"damaged anchors \(.*\); make them again with `csd run`") as caught:
        CandidateAdapters.load(folder)
    assert "\n" not in str(caught.value)


def test_anchors_that_do_not_fit_each_other_are_refused(folder):
    fit = CandidateAdapters.load(folder).record.fits[0]
    np.save(folder / f"{fit.chosen}.residuals.npy", np.zeros(3, np.float32))
    with pytest.raises(ArtifactError, match=r"24 x 8 vectors, 3 residuals; make them again"):
        CandidateAdapters.load(folder)


def test_a_missing_or_foreign_adapter_is_one_line(folder):
    fit, other = CandidateAdapters.load(folder).record.fits[:2]
    chosen = folder / f"{fit.chosen}.onnx"
    chosen.unlink()
    with pytest.raises(ArtifactError, match="there is no such adapter; run `csd run`"):
        CandidateAdapters.load(folder)
    shutil.copyfile(folder / f"{other.chosen}.onnx", chosen)
    with pytest.raises(ArtifactError, match=f"its content has digest {other.chosen[:12]}; restore it"):
        CandidateAdapters.load(folder)
