import shutil

import pytest
from ruamel.yaml import YAML

from csd_core.learning.export.quantization import quantize
from csd_core.records.stages import Champion, Quantization
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.stages import export
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.workspace import Workspace


def test_the_first_embedder_has_no_parent_and_the_trained_classes(learned_digits):
    metadata = Embedder.load(Workspace(learned_digits).candidate_embedder("t1")).metadata
    assert metadata.parent is None
    assert metadata.classes == ("0", "1", "2")
    assert (metadata.size, metadata.channels, metadata.resize, metadata.dimension) == (8, 1, "squash", 128)


def test_a_later_embedder_names_the_champion_it_came_from(learned_digits, tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(learned_digits, root)
    files = Workspace(root)
    shutil.copytree(files.candidate_model("t1"), files.candidate_model("t2"))
    monkeypatch.chdir(root)
    export.main("t2")
    champion = Champion.load(files.champion_embedder("t1") / "champion.json")
    assert Embedder.load(files.candidate_embedder("t2")).metadata.parent == champion.digest


def test_exporting_again_gives_the_same_digest(learned_digits, tmp_path, monkeypatch):
    root = tmp_path / "elsewhere"
    shutil.copytree(learned_digits, root)
    file = Workspace(root).candidate_embedder("t1")
    before = digest_of(file)
    file.unlink()
    monkeypatch.chdir(root)
    export.main("t1")
    assert digest_of(file) == before


def test_a_task_without_a_trained_model_is_refused(learned_digits, tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(learned_digits, root)
    files = Workspace(root)
    monkeypatch.chdir(root)
    with pytest.raises(ArtifactError, match=r"model.json: missing; run `csd run`"):
        export.main("t2")
    shutil.copytree(files.champion_model("init"), files.candidate_model("t2"))
    with pytest.raises(ArtifactError, match="holds no trained model"):
        export.main("t2")


def test_an_unknown_task_is_refused(learned_digits, monkeypatch):
    monkeypatch.chdir(learned_digits)
    with pytest.raises(ParamsError, match="task t9: there is no such task; known: t1, t2"):
        export.main("t9")


@pytest.fixture
def export_with(learned_digits, tmp_path, monkeypatch):
    """(settings) -> a copy of the project, after the first task's export with these settings.

    Its embedder is there already; unless it is to be made `afresh`, only its variant is made.
    """

    def exported(*, afresh=False, **settings):
        if not afresh:
            monkeypatch.setattr(export, "export_embedder", lambda *_, **__: 0.0)
        root = tmp_path / "project"
        shutil.copytree(learned_digits, root, dirs_exist_ok=True)
        values = YAML(typ="safe").load(root / "params.yaml")
        values["export"] |= settings
        with (root / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(values, file)
        monkeypatch.chdir(root)
        export.main("t1")
        return Workspace(root)

    return exported


def folder_of(files):
    """The record of the int8 variant, and the names beside it."""
    folder = files.candidate_quantized("t1")
    return Quantization.load(folder / "quantization.json"), sorted(path.name for path in folder.iterdir())


def test_no_int8_variant_is_made_unless_it_is_asked_for(learned_digits):
    record, names = folder_of(Workspace(learned_digits))
    assert (record.asked, record.shipped, names) == ("none", False, ["quantization.json"])


def test_an_int8_variant_that_is_good_enough_ships_and_the_embedder_stays_as_it_was(
    export_with, learned_digits, capsys
):
    files = export_with(afresh=True, quantize="int8", max_recall_loss=0.1, calibration_images=10)
    record, names = folder_of(files)
    variant = files.candidate_quantized("t1") / "embedder.int8.onnx"
    assert (record.asked, record.shipped, record.why_not, record.calibrated_on) == ("int8", True, None, 10)
    assert names == ["embedder.int8.onnx", "quantization.json"]
    assert record.digest == digest_of(variant)
    assert Embedder.load(variant).metadata == Embedder.load(files.candidate_embedder("t1")).metadata
    assert digest_of(files.candidate_embedder("t1")) == digest_of(Workspace(learned_digits).candidate_embedder("t1"))
    said = " ".join(capsys.readouterr().out.split())
    figures = f"{100 * record.recall_int8:.2f} %, of the float model's {100 * record.recall_fp32:.2f} %"
    assert f"t1: embedder.int8.onnx ships: Recall@1 of its queries {figures}" in said


def test_an_int8_variant_that_costs_too_much_does_not_ship_and_the_one_before_it_goes(export_with, monkeypatch, capsys):
    export_with(quantize="int8", max_recall_loss=0.1)

    def dark(model, target, *, calibration, threads):
        quantize(model, target, calibration=calibration * 0, threads=threads)

    monkeypatch.setattr("csd_core.learning.export.quantization.quantize", dark)
    record, names = folder_of(export_with(quantize="int8", max_recall_loss=0.0001))
    assert (record.asked, record.shipped, names) == ("int8", False, ["quantization.json"])
    assert record.recall_int8 < record.recall_fp32
    said = " ".join(capsys.readouterr().out.split())
    assert f"t1: embedder.int8.onnx does not ship: {record.why_not}" in said


def test_the_variant_of_an_earlier_export_goes_when_it_is_no_longer_asked_for(export_with):
    export_with(quantize="int8", max_recall_loss=1)
    record, names = folder_of(export_with(quantize="none"))
    assert (record.asked, names) == ("none", ["quantization.json"])
