import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from strangers import exported, linear, saved, write_images

from csd_core.records.check import CheckReport
from csd_core.upgrade.gate import judge
from csd_core.upgrade.policy_file import DEFAULT, load_policy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lenient(tmp_path):
    """A policy for which nothing lost among some hundred queries is enough."""
    values = YAML(typ="safe").load(DEFAULT.read_text())
    values["gate"] |= {"min_gain": -0.02, "max_regression": 0.02, "max_task_regression": 0.03}
    path = tmp_path / "lenient.yaml"
    YAML().dump(values, path)
    return path


def report_of(csd, *arguments):
    """(exit code, report) of a check."""
    code, _, errors = csd("check", *arguments, "-o", "check.json")
    assert code in (0, 7), errors
    return code, CheckReport.load(Path("check.json"))


def alternative(report, name):
    return next(each for each in report.alternatives if each.name == name)


def test_a_better_model_of_the_same_directions_is_promoted_without_touching_an_image(csd, models, photos):
    code, printed, _ = csd("check", models["weak"], models["good"], "--images", photos)
    assert code == 0
    assert "promoted under adapt" in printed
    assert "cross-test: the new model's queries on the old rows" in printed
    rows = {line.split()[0]: line.split()[-1] for line in printed.splitlines() if line.startswith(("adapt ", "keep "))}
    assert rows == {"keep": "select", "adapt": "yes"}  # not chosen on select


def test_the_report_can_be_judged_again_with_the_same_verdict(csd, models, photos):
    code, report = report_of(csd, models["weak"], models["good"], "--images", photos)
    verdict = judge(report, load_policy(None)[0])
    assert (code, verdict.outcome, verdict.strategy) == (0, "promoted", "adapt")


def test_the_model_in_force_as_its_own_candidate_loses_nothing_and_gains_nothing(csd, models, photos, lenient):
    code, report = report_of(csd, models["weak"], models["weak"], "--images", photos, "--new-classes", "8,9")
    for name in ("keep", "backfill"):
        pairs = alternative(report, name).against_status_quo["overall"]
        assert (pairs.lost, pairs.gained) == (0, 0)
    assert code == 7
    code, printed, _ = csd("check", models["weak"], models["weak"], "--images", photos, "--policy", lenient)
    assert code == 0
    assert "promoted under keep" in printed


def test_a_model_that_knows_nothing_is_rejected_with_an_exit_code_of_its_own(csd, models, photos):
    code, printed, _ = csd("check", models["weak"], models["random"], "--images", photos, "--new-classes", "8,9")
    assert code == 7
    assert "\nrejected; out of reach even by backfill\n" in printed
    assert "backfill: old classes -" in printed


def test_another_dimension_rules_out_only_leaving_the_vectors_as_they_are(csd, models, photos):
    code, report = report_of(csd, models["weak"], models["wide"], "--images", photos)
    assert [each.name for each in report.alternatives if not each.possible] == ["keep"]
    assert alternative(report, "adapt").measured.overall.at[1] > report.status_quo.overall.at[1]
    assert "16 dimensions, the candidate 20" in alternative(report, "keep").why_not
    assert code == 0


def test_models_that_csd_exported_are_taken_as_they_are(csd, models, photos):
    _, report = report_of(csd, models["ours"], models["ours-better"], "--images", photos)
    assert report.status_quo.overall.queries == 300
    code, _, errors = csd("check", models["ours"], models["ours-better"], "--images", photos, "--mean", "0.5")
    assert code == 2
    assert "--mean: csd's own models know how images are fed to them" in errors


def test_a_candidate_that_takes_larger_images_is_given_them_from_the_files(csd, maps, models, digits, tmp_path):
    """The same images, stored four times as large: a model of the large ones sees what one of the small ones sees."""
    images, classes = digits
    large = write_images(tmp_path / "large", images.repeat(4, axis=1).repeat(4, axis=2), classes)
    mean_of_four = maps["good"].reshape(8, 8, -1).repeat(4, axis=0).repeat(4, axis=1).reshape(32 * 32, -1) / 16
    bias = -maps["mean"] @ maps["good"]
    big = saved(linear(mean_of_four, shape=("n", 1, 32, 32), bias=bias), tmp_path / "big.onnx")
    _, report = report_of(csd, models["good"], big, "--images", large, "--new-classes", "8,9")
    assert report.cross_test.cross_test == pytest.approx(report.cross_test.self_test, abs=0.02)
    assert alternative(report, "keep").measured.overall.at[1] > 0.9


def test_new_classes_are_not_in_the_old_gallery(csd, models, photos):
    _, report = report_of(csd, models["weak"], models["good"], "--images", photos, "--new-classes", "8, 9")
    measured = alternative(report, "backfill").measured
    assert (measured.old.queries, measured.new.queries) == (8 * 30, 2 * 30)
    assert alternative(report, "backfill").rows_embedded == 8 * 60
    assert report.task == "new"


def test_adapters_may_be_fitted_on_other_images(csd, models, photos, digits, tmp_path):
    images, classes = digits
    others = write_images(tmp_path / "others", 255 - images[::20], classes[::20])
    arguments = (models["weak"], models["good"], "--images", photos)
    _, own = report_of(csd, *arguments)
    _, other = report_of(csd, *arguments, "--fit", others)
    assert own.adapter_methods != other.adapter_methods
    assert own.status_quo == other.status_quo


def test_images_that_judge_are_never_fitted_on(csd, models, photos):
    """The folder itself as --fit: its gate and select images are left out, so only the fit role's are used."""
    _, own = report_of(csd, models["weak"], models["good"], "--images", photos)
    _, same = report_of(csd, models["weak"], models["good"], "--images", photos, "--fit", photos)
    assert own.adapter_methods == same.adapter_methods


def test_fewer_queries_may_be_asked_of_the_same_rows(csd, models, photos):
    _, report = report_of(csd, models["weak"], models["good"], "--images", photos, "--max-queries", "40")
    assert report.status_quo.overall.queries == 40
    assert alternative(report, "backfill").rows_embedded == 600


def test_the_report_depends_on_pixels_and_seed_not_on_file_names(csd, models, photos, tmp_path):
    renamed = tmp_path / "renamed"
    shutil.copytree(photos, renamed)
    for number, path in enumerate(sorted(renamed.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"x{number}.png"))
    arguments = (models["weak"], models["good"], "--new-classes", "8,9", "--images")
    first, other, another_seed = (
        report_of(csd, *arguments, *more)[1].status_quo for more in ((photos,), (renamed,), (photos, "--seed", "2"))
    )
    assert first == other
    assert first.overall != another_seed.overall


def test_a_policy_of_ones_own_is_named_in_its_mistakes(csd, models, photos, tmp_path):
    (tmp_path / "policy.yaml").write_text(DEFAULT.read_text().replace("min_gain", "min_gian"))
    code, _, errors = csd("check", models["weak"], models["good"], "--images", photos, "--policy", "policy.yaml")
    assert code == 2
    assert "policy.yaml: gate.min_gian: unknown key; did you mean min_gain?" in errors


def missing(folder):
    pass


def damaged(folder):
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "broken.png").write_bytes(b"not a picture")


def empty(folder):
    folder.mkdir()


def one_of_each_class(folder):
    for number in range(10):
        (folder / str(number)).mkdir(parents=True)
        pixels = np.full((8, 8), 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / str(number) / "only.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, r"images: there is no such folder"),
        (empty, r"images: no usable image; give a folder of images for each class"),
        (damaged, r"images: no usable image \(a/broken.png is not an image of a known format\)"),
        (one_of_each_class, r"images: 0 old items are the gate's, and none has another of its class; give at least 4"),
    ],
)
def test_folders_that_can_judge_nothing_are_refused(make, message, csd, models, tmp_path):
    make(tmp_path / "images")
    code, _, errors = csd("check", models["weak"], models["good"], "--images", "images", "-o", "check.json")
    assert code == 3
    assert errors.count("\n") == 1
    assert re.search(message, errors), errors
    assert not Path("check.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.onnx", "good"), 4, "missing.onnx: there is no such model"),
        (("weak", "photo"), 4, "onnxruntime cannot load it"),
        (
            ("weak", "good", "--gallery", "nowhere"),
            4,
            "nowhere: there is no such gallery; `csd upgrade index` makes one",
        ),
        (("weak", "good", "--new-classes", "12"), 2, "--new-classes 12: photos has no such class; it has 0, 1, 2"),
        (("weak", "good", "--new-classes", "0,1,2,3,4,5,6,7,8,9"), 2, "--new-classes: names every class"),
        (("weak", "good", "--max-queries", "0"), 2, "--max-queries 0: must be at least 1"),
        (("weak", "good", "--fit", "nowhere"), 3, "nowhere: there is no such folder"),
        (("weak", "good", "--policy", "nowhere.yaml"), 2, "nowhere.yaml: there is no such file"),
        (("weak", "good", "-o", "."), 4, "--out .: is a folder; name a file, such as check.json"),
    ],
)
def test_wrong_arguments_are_one_line_each(arguments, code, message, csd, models, photos):
    known = {**models, "photo": next(photos.rglob("*.png"))}
    exit_code, _, errors = csd("check", *(known.get(each, each) for each in arguments), "--images", photos)
    assert exit_code == code
    assert message in errors
    assert errors.count("\n") == 1


def test_the_gate_alone_runs_without_torch(models, photos, tmp_path):
    code = (
        "import sys\n"
        "from csd_core.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    assert not {'torch', 'torchvision'} & set(sys.modules)\n"
    )
    command = ["check", models["weak"], models["good"], "--images", photos]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "promoted under adapt" in done.stdout


def test_an_image_whose_vector_is_zero_is_named(csd, models, photos, tmp_path):
    dead = saved(exported(np.zeros((64, 12))), tmp_path / "dead.onnx")
    code, _, errors = csd("check", models["weak"], dead, "--images", photos)
    assert code == 6
    assert "get a vector of length 0 or one that is not finite, such as item" in errors


def test_the_verdict_is_written_for_a_pull_request(csd, models, photos):
    for name, code in (("good", 0), ("random", 7)):
        arguments = ("check", models["weak"], models[name], "--images", photos)
        assert csd(*arguments, "--summary", f"{name}.md")[0] == code
        assert csd(*arguments, "--summary", f"{name}.xml")[0] == code
    text = Path("good.md").read_text()
    assert text.startswith("## Promoted under ")
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    good, bad = (ET.parse(f"{name}.xml").getroot() for name in ("good", "random"))  # noqa: S314 - our own
    assert (good.get("failures"), bad.find("./testcase[@classname='csd']/failure") is None) == ("0", False)
    assert int(bad.get("failures")) == len(bad.findall("./testcase/failure")) > 1
    code, _, errors = csd(*arguments, "--summary", "good.txt")
    assert (code, "name a file .md or .xml" in errors) == (2, True)
