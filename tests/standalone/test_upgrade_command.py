import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from strangers import exported, saved, write_images

from csd_core.data.tables import read_table
from csd_core.records.check import CheckReport
from csd_core.records.stages import ImageForm
from csd_core.records.verdict import VerdictFile
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.standalone.own_gallery import ItemsRecord
from csd_core.standalone.plan_folder import PlanRecord
from csd_core.system.yaml_file import read_yaml
from csd_core.upgrade.policy_file import DEFAULT


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def succeed(csd, *arguments):
    code, printed, errors = csd(*arguments)
    assert code == 0, errors
    return printed


@pytest.fixture
def gallery(csd, models, photos):
    """The folder's images by the weak model."""
    succeed(csd, "upgrade", "index", models["weak"], "--images", photos, "-o", "gallery")
    return Path("gallery")


@pytest.fixture
def mapping(csd, gallery, models, photos):
    """A plan that maps every row."""
    succeed(
        csd, "upgrade", "plan", models["weak"], models["good"], "--images", photos, "--gallery", gallery, "-o", "plan"
    )
    return Path("plan")


@pytest.fixture
def backfilling(csd, gallery, models, photos):
    """A plan that embeds every row again, for a model of another dimension."""
    values = read_yaml(DEFAULT)
    values["gate"]["allowed"] = ["backfill"]
    Path("policy.yaml").write_text(str(values))
    succeed(
        csd, "upgrade", "plan", models["weak"], models["wide"], "--images", photos, "--gallery", gallery, "-o", "plan",
        "--policy", "policy.yaml",
    )  # fmt: skip
    return Path("plan")


def test_an_indexed_folder_is_a_gallery_with_its_model_and_the_meaning_of_its_ids(gallery, photos):
    rows = Gallery.load(gallery)
    lineage = Lineage.load(gallery / "lineage")
    assert len(rows) == 600
    assert set(rows.splits) == {"train", "select", "gate"}
    assert list(lineage.models) == [rows.query_model]
    assert ItemsRecord.load(gallery / "items.json").form == ImageForm(size=8, channels=1, resize="squash")
    pixels = np.array(Image.open(photos / "0" / "0000.png"))[None, ..., None]
    row = rows.ids.tolist().index(hashlib.sha256(pixels.tobytes()).hexdigest())
    assert rows.vectors[row] == pytest.approx(Embedder.load(lineage.model(rows.query_model))(pixels)[0], abs=1e-6)


def test_a_mapping_plan_maps_every_row_and_leaves_the_old_gallery_alone(csd, gallery, mapping, photos):
    before, old = contents(gallery), Gallery.load(gallery)
    printed = succeed(csd, "upgrade", "apply", mapping, "--images", photos, "--gallery", gallery, "-o", "after")
    assert "after: 0 rows embedded, 600 mapped, 0 kept, 0 added, 0 failed and left out" in printed
    assert contents(gallery) == before
    new, record = Gallery.load(Path("after")), PlanRecord.load(mapping / "plan.json")
    (provenance,) = new.groups()
    adapter = Adapter.load(Path("after") / "lineage" / f"{provenance.adapters}.onnx")
    assert (provenance.embedded_by, new.query_model) == (old.query_model, record.new)
    assert np.array_equal(new.vectors, adapter(old.vectors))
    assert new.ids.tolist() == old.ids.tolist()
    assert not Path(".after.work").exists()


def test_rows_are_mapped_into_more_dimensions(csd, gallery, models, photos):
    values = read_yaml(DEFAULT)
    limits = ("max_regression", "max_task_regression", "max_total_regression", "max_excess_flips", "max_map_regression")
    values["gate"] |= {"allowed": ["adapt"], "min_gain": -1.0} | dict.fromkeys(limits, 1.0)
    Path("policy.yaml").write_text(str(values))
    succeed(
        csd, "upgrade", "plan", models["weak"], models["wide"], "--images", photos, "--gallery", gallery, "-o", "plan",
        "--policy", "policy.yaml",
    )  # fmt: skip
    printed = succeed(csd, "upgrade", "apply", "plan", "--images", photos, "--gallery", gallery, "-o", "after")
    assert "after: 0 rows embedded, 600 mapped, 0 kept" in printed
    assert Gallery.load(Path("after")).vectors.shape == (600, 20)


def test_a_gallery_of_mapped_rows_can_be_upgraded_again(csd, gallery, mapping, models, photos):
    succeed(csd, "upgrade", "apply", mapping, "--images", photos, "--gallery", gallery, "-o", "second")
    code, printed, _ = csd(
        "upgrade", "plan", models["good"], models["weak"], "--images", photos, "--gallery", "second", "-o", "back"
    )
    assert code == 7
    assert "from its best" in printed  # what was served at best went along
    assert "\nadapt " in printed
    assert "impossible" not in printed  # the chain weak -> adapter could be followed


def test_embedded_rows_are_the_candidates_whatever_the_number_of_processes(csd, gallery, backfilling, photos):
    arguments = ("upgrade", "apply", backfilling, "--images", photos, "--gallery", gallery)
    printed = succeed(csd, *arguments, "-o", "one")
    assert "one: 600 rows embedded, 0 mapped, 0 kept, 0 added, 0 failed and left out" in printed
    succeed(csd, *arguments, "-o", "two", "--workers", "2", "--max-rows-per-second", "100000")
    assert contents(Path("one")) == contents(Path("two"))
    rows = Gallery.load(Path("one"))
    model = Embedder.load(Path("one") / "lineage" / f"{rows.query_model}.onnx")
    pixels = np.array(Image.open(photos / "3" / min(path.name for path in (photos / "3").iterdir())))
    row = rows.ids.tolist().index(hashlib.sha256(pixels.tobytes()).hexdigest())
    assert rows.vectors[row] == pytest.approx(model(pixels[None, ..., None])[0], abs=1e-6)


def test_rows_whose_image_is_gone_damaged_or_changed_are_left_out_and_listed(
    csd, gallery, backfilling, photos, tmp_path
):
    worn = tmp_path / "worn"
    shutil.copytree(photos, worn)
    gone, broken, other = sorted((worn / "5").iterdir())[:3]
    names = {path: hashlib.sha256(np.array(Image.open(path)).tobytes()).hexdigest() for path in (gone, broken, other)}
    gone.unlink()
    broken.write_bytes(b"")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 200).save(other)
    arguments = ("upgrade", "apply", backfilling, "--images", worn, "--gallery", gallery, "-o", "after")
    code, _, errors = csd(*arguments, "--max-failed", "2")
    assert code == 3
    assert "3 rows cannot be embedded, --max-failed allows 2, such as" in errors
    assert not Path("after").exists()

    printed = succeed(csd, *arguments)
    assert "after: 597 rows embedded, 0 mapped, 0 kept, 0 added, 3 failed and left out" in printed
    assert f"5/{broken.name} is empty (0 bytes)" in printed
    assert f"5/{other.name} is another picture now" in printed
    listed = read_table(Path("after") / "failed.parquet", ("id", "reason"))
    assert set(listed["id"]) == set(names.values())
    assert set(Gallery.load(gallery).ids) - set(Gallery.load(Path("after")).ids) == set(names.values())


def test_an_interrupted_backfill_goes_on_and_ends_the_same(csd, gallery, backfilling, photos, tmp_path):
    arguments = ("upgrade", "apply", backfilling, "--gallery", gallery)
    succeed(csd, *arguments, "--images", photos, "-o", "whole")
    holes = tmp_path / "holes"
    shutil.copytree(photos, holes)
    for path in sorted((holes / "7").iterdir())[:5]:
        path.unlink()
    code, _, errors = csd(*arguments, "--images", holes, "-o", "after", "--max-failed", "0")
    assert code == 3
    assert "finished work is kept in .after.work" in errors
    succeed(csd, *arguments, "--images", photos, "-o", "after")
    assert contents(Path("after")) == contents(Path("whole"))


def test_images_that_the_gallery_lacks_are_added_when_asked_for(csd, models, digits, photos, tmp_path):
    images, classes = digits
    part = write_images(tmp_path / "part", images[classes < 8], classes[classes < 8])
    succeed(csd, "upgrade", "index", models["weak"], "--images", part, "-o", "gallery")
    plan = ("upgrade", "plan", models["weak"], models["wide"], "--images", photos, "--gallery", "gallery", "-o", "plan")
    succeed(csd, *plan)
    printed = succeed(
        csd, "upgrade", "apply", "plan", "--images", photos, "--gallery", "gallery", "-o", "after", "--add"
    )
    assert "120 rows embedded, 360 mapped, 0 kept, 120 added" in printed
    after = Gallery.load(Path("after"))
    assert set(after.labels[after.tasks == "new"]) == {"8", "9"}
    assert len(after) == 600


def test_a_partial_plan_says_which_rows_stay(csd, gallery, models, photos):
    values = read_yaml(DEFAULT)
    values["gate"] |= {"allowed": ["partial"], "max_excess_flips": 0.2}
    values["upgrade"]["partial"] = {"shares": [0.5], "orders": ["random"], "rest": "keep"}
    Path("policy.yaml").write_text(str(values))
    succeed(
        csd, "upgrade", "plan", models["weak"], models["good"], "--images", photos, "--gallery", gallery, "-o", "plan",
        "--policy", "policy.yaml",
    )  # fmt: skip
    printed = succeed(csd, "upgrade", "apply", "plan", "--images", photos, "--gallery", gallery, "-o", "after")
    assert "300 rows embedded, 0 mapped, 300 kept" in printed
    before, after = Gallery.load(gallery), Gallery.load(Path("after"))
    stay = after.embedded_by != after.query_model
    assert after.searchable_spaces == (before.query_model, after.query_model)
    assert np.array_equal(after.vectors[stay], before.vectors[stay])


def test_a_rejected_candidate_leaves_its_reasons_and_nothing_to_apply(csd, gallery, models, photos):
    code, _, _ = csd(
        "upgrade", "plan", models["weak"], models["random"], "--images", photos, "--gallery", gallery, "-o", "plan"
    )
    assert code == 7
    assert sorted(contents(Path("plan"))) == ["check.json", "verdict.json"]
    assert VerdictFile.load(Path("plan/verdict.json")).verdict.outcome == "rejected"
    code, _, errors = csd("upgrade", "apply", "plan", "--images", photos, "--gallery", gallery, "-o", "after")
    assert code == 4
    assert "the gate rejected this candidate, so there is nothing to apply" in errors


def test_only_the_gallery_that_was_planned_for_is_upgraded(csd, gallery, mapping, models, photos):
    succeed(csd, "upgrade", "index", models["weak"], "--images", photos, "--seed", "2", "-o", "other")
    code, _, errors = csd("upgrade", "apply", mapping, "--images", photos, "--gallery", "other", "-o", "after")
    assert code == 6
    assert "is not the one planned for" in errors
    assert not Path("after").exists()


@pytest.mark.parametrize("folder", ["lineage", "adapters"])
def test_a_plan_whose_files_changed_is_refused(folder, csd, gallery, mapping, models, photos):
    for path in sorted((mapping / folder).glob("*.onnx")):
        shutil.copyfile(models["ours"] if folder == "lineage" else _other_adapter(mapping, path), path)
    code, _, errors = csd("upgrade", "apply", mapping, "--images", photos, "--gallery", gallery, "-o", "after")
    assert code == 4
    assert "its digest differs); plan again" in errors or "its content has digest" in errors
    assert not Path("after").exists()


def _other_adapter(mapping, path):
    """The adapter that was not chosen, in the place of the one that was."""
    chosen = next((mapping / "adapters").glob("*.anchors.npy")).name.split(".")[0]
    others = [each for each in (mapping / "adapters").glob("*.onnx") if each.stem != chosen]
    copy = path.with_suffix(".copy")
    shutil.copyfile(others[0], copy)
    return copy


def test_what_exists_is_never_overwritten(csd, gallery, mapping, models, photos):
    before = contents(gallery)
    for arguments in (
        ("index", models["weak"], "--images", photos, "-o", gallery),
        ("plan", models["weak"], models["good"], "--images", photos, "--gallery", gallery, "-o", gallery),
        ("apply", mapping, "--images", photos, "--gallery", gallery, "-o", gallery),
        ("wrap", models["weak"], "-o", gallery),
    ):
        code, _, errors = csd("upgrade", *arguments)
        assert (code, errors) == (4, "gallery: exists already; remove it or name another\n")
    assert contents(gallery) == before


def test_the_gallery_of_another_model_is_refused(csd, gallery, models, photos):
    code, _, errors = csd("check", models["good"], models["weak"], "--images", photos, "--gallery", gallery)
    assert code == 6
    assert "gallery: is searched by model" in errors


def test_the_same_model_fed_otherwise_is_another_model(csd, gallery, models, photos):
    code, _, errors = csd(
        "check", models["weak"], models["good"], "--images", photos, "--gallery", gallery, "--mean", "0.5"
    )
    assert code == 6
    assert "with the preprocessing options it was indexed with" in errors


def test_a_folder_that_has_none_of_the_gallerys_images_is_refused(csd, gallery, models, digits, tmp_path):
    images, classes = digits
    others = write_images(tmp_path / "others", 255 - images, classes)
    code, _, errors = csd("check", models["weak"], models["good"], "--images", others, "--gallery", gallery)
    assert code == 3
    assert "others: has the image of none of the gallery's 600 rows" in errors


def test_rows_without_an_image_are_not_measured_and_that_is_said(csd, gallery, models, photos, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(photos, fewer)
    for path in sorted((fewer / "0").iterdir())[:7]:
        path.unlink()
    code, printed, _ = csd("check", models["weak"], models["good"], "--images", fewer, "--gallery", gallery)
    assert "has no image of 7 of the gallery's 600 rows; they are not measured" in printed
    assert code == 0


def test_an_image_in_another_class_than_in_the_gallery_is_refused(csd, gallery, models, photos, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    first = min((moved / "0").iterdir())
    first.rename(moved / "1" / "moved.png")
    code, _, errors = csd("check", models["weak"], models["good"], "--images", moved, "--gallery", gallery)
    assert code == 3
    assert '1 images are in another class than in the gallery, such as 1/moved.png (there "0")' in errors


def test_a_class_of_the_gallery_is_not_new(csd, gallery, models, photos):
    code, _, errors = csd(
        "check", models["weak"], models["good"], "--images", photos, "--gallery", gallery, "--new-classes", "3"
    )
    assert code == 2
    assert "--new-classes 3: the gallery has rows of it" in errors


def test_a_wrapped_model_takes_the_place_of_the_original(csd, gallery, models, photos):
    printed = succeed(csd, "upgrade", "wrap", models["weak"], "-o", "weak-in-form.onnx")
    assert "takes 8 x 8 x 1 images (squash), makes vectors of 16 dimensions" in printed
    code, _, _ = csd("check", "weak-in-form.onnx", models["good"], "--images", photos, "--gallery", gallery)
    assert code == 0


def test_the_default_policy_is_printed_as_it_is(csd):
    assert succeed(csd, "upgrade", "policy") == DEFAULT.read_text()


def test_ids_keep_their_meaning_when_the_next_model_takes_larger_images(csd, gallery, maps, models, photos, tmp_path):
    large = np.kron(maps["wide"].reshape(8, 8, -1), np.ones((2, 2, 1))).reshape(16 * 16, -1)
    big = saved(exported(large, size=16), tmp_path / "big.onnx")
    folder = ("--images", photos, "--gallery")
    succeed(csd, "upgrade", "plan", models["weak"], big, *folder, gallery, "-o", "plan")
    printed = succeed(csd, "upgrade", "apply", "plan", *folder, gallery, "-o", "second")
    assert "second: 0 rows embedded, 600 mapped, 0 kept, 0 added, 0 failed and left out" in printed
    assert Gallery.load(Path("second")).ids.tolist() == Gallery.load(gallery).ids.tolist()
    code, printed, _ = csd("check", big, models["good"], *folder, "second", "-o", "check.json")
    status_quo = CheckReport.load(Path("check.json")).status_quo
    assert code in (0, 7)
    assert "not measured" not in printed
    assert status_quo.overall.queries == 300
    assert status_quo.overall.at[1] > 0.9  # the larger model's queries find the rows that it made


def test_a_gallery_of_the_pipeline_is_taken_with_its_own_roles_and_tasks(csd, models, digits, photos):
    images, classes = digits
    model = Embedder.load(models["ours"])
    count = np.arange(len(images))
    Gallery.embedded(
        ids=np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images]),
        labels=classes.astype(np.str_),
        tasks=np.where(classes < 5, "t1", "t2"),
        splits=np.array(["train", "select", "gate", "test"])[count % 4],
        vectors=model(images[..., None]),
        model=model.digest,
    ).save(Path("from-pipeline"))
    code, _, errors = csd(
        "check", models["ours"], models["ours-better"], "--images", photos, "--gallery", "from-pipeline", "-o", "c.json"
    )
    assert code in (0, 7), errors
    report = CheckReport.load(Path("c.json"))
    assert report.status_quo.overall.queries == (count % 4 == 2).sum()
    assert set(report.status_quo.per_task) == {"t1", "t2"}
    assert next(each for each in report.alternatives if each.name == "adapt").rows_mapped == 600


def test_a_merged_gallery_keeps_its_scores_and_both_models_and_can_be_checked_again(csd, gallery, models, photos):
    values = read_yaml(DEFAULT)
    values["gate"] |= {"allowed": ["merge"], "max_excess_flips": 1.0, "max_task_regression": 1.0}
    values["gate"] |= {"max_regression": 1.0, "min_gain": -1.0, "max_map_regression": 1.0}
    Path("policy.yaml").write_text(str(values))
    folder = ("--images", photos, "--gallery")
    succeed(
        csd,
        "upgrade",
        "plan",
        models["weak"],
        models["good"],
        *folder,
        gallery,
        "--policy",
        "policy.yaml",
        "-o",
        "plan",
    )
    printed = succeed(csd, "upgrade", "apply", "plan", *folder, gallery, "-o", "second")
    assert "second: 0 rows embedded, 0 mapped, 600 kept" in printed
    second = Gallery.load(Path("second"))
    measured = CheckReport.load(Path("plan/check.json")).alternatives
    assert second.scoring == next(each.scoring for each in measured if each.strategy == "merge")
    assert len(second.query_models) == 2
    assert set(Lineage.load(Path("second/lineage")).models) == set(second.query_models)
    code, printed, _ = csd("check", models["good"], models["weak"], *folder, "second", "-o", "check.json")
    assert code in (0, 7)
    again = CheckReport.load(Path("check.json"))
    assert again.status_quo.overall.at[1] > 0.5

    shutil.rmtree("second/lineage")
    code, _, errors = csd("check", models["good"], models["weak"], *folder, "second")
    assert code == 6
    assert "which does not lie in its lineage" in errors
