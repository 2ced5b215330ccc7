"""`csd inspect` and `csd init --from`: what they say of a folder, and what they choose for it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from csd_core import cli
from csd_core.data.canonical import REJECTED, read_rejected, write_source
from csd_core.inspection import estimate as estimating
from csd_core.inspection.advice import advice, advice_on_start
from csd_core.inspection.estimate import proof
from csd_core.inspection.findings import look_through, twins
from csd_core.inspection.fitting import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    batch_size,
    epochs,
    fitted_params,
    fitting_form,
    least_recall,
    path_from,
    role_counts,
    source_name,
)
from csd_core.inspection.headers import read_headers
from csd_core.inspection.layout import recognise
from csd_core.inspection.page import write_page
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.speed import measure
from csd_core.params.file import PROFILES, load_params, merge, profile_text
from csd_core.params.model import Params
from csd_core.records.stages import ImageForm
from csd_core.system.yaml_file import dump, parse_yaml, read_document
from csd_core.upgrade.power import queries_for, smallest_fall


def picture(seed, size=(32, 32), *, colour=True):
    """A scene of a few soft blots, so that small changes of it stay near."""
    rng = np.random.default_rng(seed)
    blots = rng.integers(0, 256, (6, 6, 3 if colour else 1), np.uint8)
    image = Image.fromarray(blots if colour else blots[..., 0])
    return image.resize(size, Image.Resampling.BICUBIC)


def fill(root, classes, *, count=6, first=0, **form):
    for place, label in enumerate(classes):
        (root / label).mkdir(parents=True)
        for number in range(count):
            picture(first + 1000 * place + number, **form).save(root / label / f"{number}.png")
    return root


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path / "photos", ("cat", "dog"))


@pytest.fixture
def flawed(photos):
    """A folder with everything that people's folders have."""
    (photos / "cat" / "notes.txt").write_text("hello")
    (photos / "cat" / "empty.png").write_bytes(b"")
    whole = (photos / "cat" / "0.png").read_bytes()
    (photos / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
    shutil.copy(photos / "cat" / "1.png", photos / "cat" / "same.png")
    shutil.copy(photos / "cat" / "2.png", photos / "dog" / "wrong.png")
    picture(3).resize((60, 60)).save(photos / "dog" / "near.png")
    (photos / "Cat").mkdir()
    picture(77, (40, 20)).convert("RGBA").save(photos / "Cat" / "only<b>.png")
    frames = [picture(50), picture(51)]
    frames[0].save(photos / "dog" / "moves.gif", save_all=True, append_images=frames[1:])
    sideways = Image.Exif()
    sideways[0x0112] = 6
    picture(60, (30, 20)).save(photos / "dog" / "turned.jpg", exif=sideways)
    return photos


def csd(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(map(str, arguments)))
    return stopped.value.code


def told(root):
    findings = look_through(root)
    return "\n".join(advice(findings, role_counts(findings, fitted_params(findings).split)))


def test_it_takes_and_leaves_out_what_ingest_does(flawed, tmp_path):
    findings = look_through(flawed)
    record = write_source(
        tmp_path / "set",
        findings.source,
        name="photos",
        form=findings.form,
        max_rejected=100,
        complaints=tmp_path / "complaints",
    )
    assert (record.images, list(record.classes)) == (len(findings), list(findings.classes))
    taken = findings.taken
    left_out = {(each.path, each.reason) for each in [*taken.rejected, *taken.duplicates, *taken.conflicts]}
    assert left_out == {(each.path, each.reason) for each in read_rejected(tmp_path / "set" / REJECTED)}


def test_it_says_what_is_wrong_and_where(flawed):
    findings = look_through(flawed)
    assert findings.classes == {"Cat": 1, "cat": 6, "dog": 9}
    assert (findings.headers.animated, findings.headers.turned, len(findings.headers.transparent)) == (1, 1, 1)
    assert [20, 30] in findings.headers.sizes.tolist()  # upright
    assert {each.path for each in findings.unusable} == {"cat/notes.txt", "cat/empty.png", "cat/cut.png"}
    said = told(flawed)
    for part in (
        'classes "Cat", "cat" differ in case or spaces only',
        "copies of an image in another class: 1, such as dog/wrong.png, duplicate of cat/2.png",
        "near-duplicates in two classes: 1, such as cat/3.png and dog/near.png",
        'classes with one image: "Cat"',
        "files that cannot be used: 3, such as cat/cut.png",
        "animated files: 1",
        "transparent somewhere: 1",
    ):
        assert part in said


def test_a_sound_folder_has_nothing_to_look_at(photos):
    assert told(photos) == ""


@pytest.mark.parametrize(("size", "colour", "count"), [((64, 64), True, 6), ((32, 32), True, 6), ((64, 64), False, 6)])
def test_few_photographs_are_told_to_start_from_published_weights(tmp_path, size, colour, count):
    findings = look_through(fill(tmp_path / "photos", ("cat", "dog"), count=count, size=size, colour=colour), None)
    lines = advice_on_start(findings, role_counts(findings, fitted_params(findings).split))
    assert [line.partition(";")[0] for line in lines] == (
        ["training images of a class, on average: 3"] if size == (64, 64) and colour else []
    )


def test_the_next_step_with_few_photographs_is_the_advised_one(tmp_path, capsys, monkeypatch):
    fill(tmp_path / "photos", ("cat", "dog"), size=(64, 64))
    monkeypatch.chdir(tmp_path)
    assert csd("inspect", "photos", "--quick", "--page", "page.html") in (0, None)
    command = "csd init --from photos --profile photos-quick"
    said = capsys.readouterr().out
    assert f"`{command}`" in said
    assert said.endswith(f"Next: {command} shop && cd shop && csd run\n")
    assert f"<code>{command}</code>" in (tmp_path / "page.html").read_text()


def test_a_test_image_that_is_near_a_training_image_is_named(tmp_path):
    root = tmp_path / "sets"
    fill(root / "train", ("cat", "dog"))
    fill(root / "test", ("cat", "dog"), first=100_000)
    picture(1).resize((48, 48)).save(root / "test" / "cat" / "near.png")
    findings = look_through(root)
    assert findings.top.layout == "train-test"
    assert "near-duplicates in train and test: 1, such as test/cat/near.png and train/cat/1.png" in told(root)
    assert role_counts(findings, fitted_params(findings).split)["cat"] == {
        "train": 4,
        "select": 1,
        "gate": 1,
        "test": 7,
    }


@pytest.mark.parametrize(
    ("folders", "files", "layout", "hint"),
    [
        (["cat", "dog"], [], "classes", None),
        (["train/cat", "test/cat"], [], "train-test", None),
        (["train/cat", "val/cat", "test/cat"], [], "train-test", "val is not read"),
        (["train/cat", "valid/cat"], [], "train-test", "valid is not read; rename it to test"),
        (["Train/cat", "test/cat"], [], "classes", '"Train" is taken for a class'),
        (["photos/cat", "photos/dog"], [], "classes", "one level too many"),
        (
            ["pets/cat", "pets/dog", "birds/owl"],
            [],
            "classes",
            'as in birds/owl, and their class is the first ."birds"',
        ),
        ([], ["1.png", "labels.csv"], "classes", "one level too few.* as labels.csv says"),
    ],
)
def test_layouts_are_recognised(tmp_path, folders, files, layout, hint):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").touch()
    for file in files:
        (tmp_path / file).touch()
    found = recognise(tmp_path)
    assert found.layout == layout
    assert len(found.hints) == (hint is not None)
    for said in found.hints:
        assert re.search(hint, said)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ([], "no image in a class folder; put a folder of images for each class there"),
        (["1.png"], "no image in a class folder .one level too few"),
        (["cat/1.png", "cat/2.png"], "none of its 2 files is an image that can be read: cat/1.png is empty"),
    ],
)
def test_a_folder_without_images_gets_one_line(tmp_path, capsys, files, complaint):
    root = tmp_path / "none"
    root.mkdir()
    for file in files:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).touch()
    assert csd("inspect", root, "--quick") not in (0, None)
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert re.search(complaint, said)
    assert csd("inspect", tmp_path / "nowhere") not in (0, None)
    assert "there is no such folder" in capsys.readouterr().err


def test_black_signs_on_nothing_lie_where_they_can_be_told_apart(tmp_path):
    root = fill(tmp_path / "icons", ("a",))
    (root / "b").mkdir()
    for number in range(3):
        image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
        image.paste((0, 0, 0, 255), (4 * number, 4, 4 * number + 8, 28))
        image.save(root / "b" / f"{number}.png")
    assert look_through(root).form.background == "grey"
    on_black = look_through(root, ImageForm(size=32, channels=3, resize="pad", background="black"))
    said = "\n".join(advice(on_black, role_counts(on_black, fitted_params(on_black).split)))
    assert "2 images left out though their files show something else, such as b/1.png, which equals b/0.png" in said


def test_spellings_in_two_unicode_forms_are_told(tmp_path):
    root = fill(tmp_path / "photos", ("e\N{COMBINING ACUTE ACCENT}", "dog"))
    fill(root, ("\N{LATIN SMALL LETTER E WITH ACUTE}",), first=5000)
    assert r"is spelt in 2 Unicode forms (e\u0301 and \xe9)" in told(root)


def test_twins_are_names_that_a_person_takes_for_one():
    assert twins({"flags": 1, "Flags": 1, "t shirt": 1, "T-shirt": 1, "shirt": 1}) == [
        ["flags", "Flags"],
        ["t shirt", "T-shirt"],
    ]


def test_the_command_prints_all_and_ends_with_what_to_do_next(flawed, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert csd("inspect", "photos", "--quick", "--page", "page.html") in (0, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ("photos: 16 images of 3 classes, layout classes; compared as they are stored: 32 x 32 RGB, pad")
    assert any("cannot be proven" in line for line in lines)
    assert lines[-1] == "Next: csd init --from photos shop && cd shop && csd run"
    page = (tmp_path / "page.html").read_text()
    assert "data:image/png;base64," in page
    assert "only&lt;b&gt;.png" in page
    assert "another class" in page
    assert "http" not in page


def test_the_page_has_the_same_bytes_each_time(flawed, tmp_path):
    for name in ("one", "two"):
        write_page(tmp_path / name, look_through(flawed), ["a sentence"])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_many_classes_show_the_largest_and_the_smallest(tmp_path, capsys):
    root = fill(tmp_path / "photos", [f"c{number:02}" for number in range(30)], count=2)
    for number in range(5):
        picture(900_000 + number).save(root / "c20" / f"more{number}.png")
    csd("inspect", root, "--quick")
    said = capsys.readouterr().out
    assert "… 14 more" in said
    assert re.search("c20 +7 ", said)


def test_grey_images_are_stored_grey_whatever_their_mode(tmp_path):
    root = fill(tmp_path / "scans", ("a", "b"), colour=False)
    picture(5, colour=False).convert("RGB").save(root / "a" / "rgb.jpg", quality=100)
    findings = look_through(root)
    assert (findings.grey, findings.form.channels, len(findings.mean)) == (True, 1, 1)
    params = fitted_params(findings)
    assert (params.images.channels, params.training.first.augmentation.flip) == (1, False)


@pytest.mark.parametrize(
    ("size", "form"),
    [((300, 280), (64, "squash")), ((300, 200), (64, "pad")), ((30, 30), (28, "squash")), ((5, 5), (8, "squash"))],
)
def test_the_form_follows_the_sizes(tmp_path, size, form):
    picture(0, size).save(tmp_path / "1.png")
    found = fitting_form(read_headers([tmp_path / "1.png"]))
    assert (found.size, found.resize) == form


@given(st.integers(1, 3_000_000))
def test_epochs_stay_in_bounds_and_fall_as_images_grow(images):
    assert FEWEST_EPOCHS <= epochs(images) <= MOST_EPOCHS
    assert epochs(2 * images) <= epochs(images) or batch_size(2 * images) > batch_size(images)


def test_more_classes_ask_for_less_of_a_first_model():
    asked = [least_recall(count) for count in (2, 10, 50, 1000)]
    assert asked == sorted(asked, reverse=True)


def test_sources_are_named_after_their_folder(tmp_path):
    assert source_name(tmp_path / "Große Äpfel 2024!") == "groe-apfel-2024"
    assert source_name(tmp_path / "猫") == "images"
    assert source_name(tmp_path / "size") == "images"
    assert path_from(tmp_path, tmp_path / "data" / "x") == "data/x"
    assert path_from(tmp_path / "shop", tmp_path / "x") == str((tmp_path / "x").resolve())


def test_a_project_fits_its_folder(flawed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert csd("init", "--from", "photos", "shop") in (0, None)
    said = capsys.readouterr().out
    assert said.endswith("Next: cd shop && csd run\n")
    params = load_params(tmp_path / "shop" / "params.yaml")
    assert params.sources.folders["photos"].path == str(flawed)
    assert params.split.group == "hash"
    assert params.data.max_rejected == 4 + 10
    text = (tmp_path / "shop" / "params.yaml").read_text()
    assert text.startswith("# Fitted to 16 images of 3 classes")
    assert sum("#" in line for line in text.splitlines()) == sum(
        "#" in line for line in profile_text(PROFILES, "imagefolder").splitlines()
    )
    assert csd("init", "--from", "photos", "shop") not in (0, None)
    assert "is there already" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path / "shop")
    csd("inspect", "../photos", "--quick")
    assert capsys.readouterr().out.endswith("Next: csd run\n")


def test_a_folder_that_dvc_cannot_watch_is_refused_before_anything_is_written(photos, capsys):
    assert csd("init", "--from", photos, photos / "shop") not in (0, None)
    assert "holds the whole project" in capsys.readouterr().err
    assert not (photos / "shop").exists()


@pytest.mark.parametrize("profile", ["tiny", "photos", "photos-quick"])
def test_a_profile_decides_form_network_and_recipes_and_the_folder_the_rest(photos, tmp_path, profile):
    assert csd("init", "--from", photos, "--profile", profile, tmp_path / "shop") in (0, None)
    text = profile_text(PROFILES, profile)
    params, start = load_params(tmp_path / "shop" / "params.yaml"), Params.model_validate(parse_yaml(text, where="it"))
    first = start.training.first.model_copy(update={} if profile == "tiny" else {"epochs": 0})  # so few are the images
    assert (params.images, params.training) == (start.images, start.training.model_copy(update={"first": first}))
    assert list(params.sources.folders) == ["photos"]
    assert not params.sources.published
    assert list(params.tasks) == list(params.decisions) == ["t1"]
    assert params.report.after == "t1"
    assert params.gate.min_recall == 0.8


def test_an_unknown_profile_is_one_line_and_nothing_is_written(photos, tmp_path, capsys):
    assert csd("init", "--from", photos, "--profile", "foto", tmp_path / "shop") not in (0, None)
    assert "foto" in capsys.readouterr().err
    assert not (tmp_path / "shop").exists()


def test_more_queries_prove_smaller_falls_and_enough_of_them_the_limit(photos):
    params = fitted_params(look_through(photos))
    falls = [smallest_fall(queries, params.gate) for queries in (0, 20, 100, 1000)]
    assert falls == sorted(falls, reverse=True)
    needed = queries_for(params.gate.max_regression, params.gate)
    assert smallest_fall(needed, params.gate) <= params.gate.max_regression
    assert smallest_fall(needed // 2, params.gate) > params.gate.max_regression
    assert f"about {needed} gate queries could" in proof(params, 10)
    assert "cannot" not in proof(params, 10 * needed)


@pytest.fixture
def two_tasks(photos, tmp_path, monkeypatch):
    """A project whose first two tasks learn a class of the folder each, and a third one digits."""
    assert csd("init", "--from", photos, tmp_path / "shop") in (0, None)
    monkeypatch.chdir(tmp_path / "shop")
    document = read_document(Path("params.yaml"))
    tasks = {
        "t1": {"previous": "init", "recipe": "first", "source": "photos", "classes": ["cat"]},
        "t2": {"previous": "t1", "recipe": "later", "source": "photos", "classes": ["dog"]},
        "t3": {"previous": "t2", "recipe": "later", "source": "digits", "classes": ["0"]},
    }
    changes = {
        "images": {"pixels": 8},
        "sources": {**document["sources"], "published": {"digits": {"kind": "digits", "limit_per_class": None}}},
        "tasks": tasks,
        "decisions": dict.fromkeys(tasks, "auto"),
        "report": {"after": "t3"},
        "training": {"later": {"batch_size": 2, "epochs": 5}, "first": {"batch_size": 2, "epochs": 10}},
    }
    merge(document, changes)
    Path("params.yaml").write_text(dump(document))
    return load_params()


@pytest.mark.parametrize(
    ("method", "later"),
    [
        ("csd_plus", 5 * (2 * 2 * 3.0 + 2 * 0.5)),  # two batches of new images, two of old ones
        ("joint", 10 * (3 * 3.0 + 2 * 0.5)),  # three batches of all six images, by the first recipe
    ],
)
def test_the_estimate_adds_up_every_task_of_the_folder(two_tasks, monkeypatch, method, later):
    speed = {"first": 2.0, "later": 3.0, "embedding": 0.5}
    speed |= {"shows_all": method == "joint", "starts_fresh": method == "joint"}
    monkeypatch.setattr(estimating, "_measured", lambda *_, **__: (speed, 7.0))
    roles = {label: {"train": 3, "select": 1, "gate": 1, "test": 1} for label in ("cat", "dog")}
    found = estimating.estimate(two_tasks, roles, ingest=4.0, sources={"photos"})
    assert found.train == {"t1": 10 * (2 * 2.0 + 1 * 0.5), "t2": later}
    assert found.embed == 2 * (6 + 12) * 0.5
    assert found.start == (4 + 2 * 6) * 7.0
    assert found.elsewhere == ("t3",)
    assert found.total == 4.0 + sum(found.train.values()) + found.embed + found.start


@pytest.mark.slow
def test_the_estimate_has_every_stage(two_tasks, photos, capsys):
    capsys.readouterr()
    assert csd("inspect", photos) in (0, None)
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if "a first run here takes about" in line)
    assert [line.split("  ")[0] for line in lines[start + 1 : start + 9]] == [
        "ingest",
        "train t1",
        "train t2",
        "embed (check, promote)",
        "start programs",
        "all",
        "This assumes that each candidate is promoted by a backfill, the most expensive way.",
        "Not counted: tasks of other sources, t3.",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_the_step_of_every_method_is_measured(method, monkeypatch):
    monkeypatch.setattr("csd_core.learning.speed.SECONDS", 0)
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    later = params.training.later.model_copy(update={"method": method})
    training = params.training.model_copy(update={"later": later})
    if method == "hoc":
        network = training.network.model_copy(update={"classifier": "simplex"})
        training = training.model_copy(update={"network": network})
    speed = measure(params.model_copy(update={"training": training}), classes=7, old=4)
    assert 0 < speed.embedding < min(speed.first, speed.later)
    assert speed.shows_all == speed.starts_fresh == (method == "joint")
