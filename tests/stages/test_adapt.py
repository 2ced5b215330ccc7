import shutil
from typing import get_args

import numpy as np
import pytest
from ruamel.yaml import YAML

from csd_core.data.shards import load_shard
from csd_core.params.upgrade import AdapterMethod
from csd_core.records.adapters import AdapterFits
from csd_core.records.stages import ModelRecord
from csd_core.retrieval.embedder import digest_of
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.lineage import Lineage
from csd_core.stages import adapt
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.upgrade.mapping.adaptation import NOISE
from csd_core.upgrade.mapping.adapters import RECORD, CandidateAdapters
from csd_core.workspace import Workspace


@pytest.fixture
def project(checked_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(checked_digits, tmp_path / "project"))
    return Workspace()


def test_a_first_model_has_nothing_to_map(checked_digits):
    fits = AdapterFits.load(Workspace(checked_digits).candidate_adapters("t1") / RECORD)
    assert fits == AdapterFits(fits=(), why_not="there is no gallery to map")


def test_adapters_lead_from_the_champions_space_to_the_candidates(project):
    adapters = CandidateAdapters.load(project.candidate_adapters("t2"))
    first, second = (digest_of(project.candidate_embedder(task)) for task in ("t1", "t2"))
    ((provenance, adapter),) = adapters.chosen.items()
    assert provenance == Provenance(first, "")
    assert (adapter.metadata.source, adapter.metadata.target, adapter.metadata.dimension) == (first, second, 128)
    (fit,) = adapters.record.fits
    assert [offer.method for offer in fit.kept] == list(get_args(AdapterMethod))
    best = max(fit.offers, key=lambda offer: round(offer.select_recall / NOISE))
    assert best.select_cosine > 0.9
    assert fit.chosen == best.digest


def test_adapting_again_gives_equal_bytes_and_says_which_was_chosen(project, capsys):
    folder = project.candidate_adapters("t2")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    adapt.main("t2")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    said = capsys.readouterr()
    assert "(chosen)" in said.out + said.err
    assert not folder.with_name(".adapters.partial").exists()


def test_no_more_images_than_allowed_are_fitted_on(project):
    values = YAML(typ="safe").load(project.root / "params.yaml")
    values["upgrade"]["adapter"]["max_images"] = 16
    with (project.root / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    adapt.main("t2")
    assert [fit.images for fit in AdapterFits.load(project.candidate_adapters("t2") / RECORD).fits] == [16]


def test_adapters_lead_into_another_dimension(project, linear_embedder):
    linear_embedder(project.candidate_embedder("t2"), np.random.default_rng(0).normal(size=(64, 7)))
    adapt.main("t2")
    adapters = CandidateAdapters.load(project.candidate_adapters("t2"))
    ((_, adapter),) = adapters.chosen.items()
    assert (adapter.metadata.source_dimension, adapter.metadata.dimension) == (128, 7)
    assert adapter(Gallery.load(project.gallery("t1")).vectors).shape[1] == 7
    assert not adapters.by_method("drift")


def test_a_gallery_whose_models_are_gone_has_no_adapter_and_says_why(project):
    Lineage(models={}, adapters={}).save(project.lineage("t1"))
    adapt.main("t2")
    rows = len(Gallery.load(project.gallery("t1")))
    assert AdapterFits.load(project.candidate_adapters("t2") / RECORD).why_not == (
        f"no model of the gallery's {rows} rows is retained"
    )


def test_a_damaged_lineage_leaves_the_adapters_that_were_there(project):
    folder = project.candidate_adapters("t2")
    before = sorted(path.name for path in folder.iterdir())
    first = digest_of(project.candidate_embedder("t1"))
    (project.lineage("t1") / f"{first}.onnx").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match=f"{first}.onnx: "):
        adapt.main("t2")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_unknown_task_is_refused(project):
    with pytest.raises(ParamsError, match="task t9: there is no such task"):
        adapt.main("t9")


def test_adapters_are_fitted_on_the_memory_too(project):
    (fit,) = AdapterFits.load(project.candidate_adapters("t2") / RECORD).fits
    old = load_shard(project.shard("t1"))
    file = project.candidate_model("t2") / "model.json"
    remembered = tuple(old.ids[old.splits == "train"][:5].tolist())
    ModelRecord.load(file).model_copy(update={"remembered": remembered}).save(file)
    adapt.main("t2")
    (again,) = AdapterFits.load(project.candidate_adapters("t2") / RECORD).fits
    assert again.images == fit.images + 5
    assert again.chosen != fit.chosen
