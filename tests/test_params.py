import json
from pathlib import Path

import pytest
from pydantic import Field, create_model
from ruamel.yaml import YAML

from csd_core.params.file import load_params, profile_names, profile_text
from csd_core.params.model import Params
from csd_core.params.section import Section
from csd_core.params.sources import FolderSource
from csd_core.system.errors import ParamsError

PROFILES = Path(__file__).parents[1] / "csd_core/project/profiles"


@pytest.fixture
def values():
    return YAML(typ="safe").load(profile_text(PROFILES, "digits"))


def complaint(tmp_path, values):
    path = tmp_path / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    return str(caught.value).replace(str(path), "params.yaml")


@pytest.mark.parametrize("name", profile_names(PROFILES))
def test_every_profile_is_valid(tmp_path, name):
    path = tmp_path / "params.yaml"
    path.write_text(profile_text(PROFILES, name), encoding="utf-8")
    params = load_params(path)
    assert params.line(params.report.after) == tuple(params.tasks)


def test_the_embedded_default_is_the_digits_profile():
    assert (PROFILES.parents[2] / "params.yaml").read_text() == profile_text(PROFILES, "digits")


def test_an_unknown_key_is_named_with_its_neighbour(tmp_path, values):
    values["training"]["later"]["methods"]["csd"]["csd"]["wieght"] = 1.0
    assert (
        complaint(tmp_path, values)
        == "params.yaml: training.later.methods.csd.csd.wieght: unknown key; did you mean weight?"
    )


def test_an_unknown_key_like_no_other_is_to_be_removed(tmp_path, values):
    values["qqqq"] = 1
    assert complaint(tmp_path, values) == "params.yaml: qqqq: unknown key; remove it"


def test_a_missing_key_is_named(tmp_path, values):
    del values["gate"]["min_gain"]
    assert (
        complaint(tmp_path, values)
        == "params.yaml: gate.min_gain: missing; add it (`csd profile show digits` shows every key)"
    )


def test_every_mistake_has_its_line(tmp_path, values):
    values["gate"]["min_gain"] = "much"
    values["split"]["select"] = 2
    assert len(complaint(tmp_path, values).splitlines()) == 2


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            "training.later.methods.csd.csd.weight",
            -1.0,
            "training.later.methods.csd.csd.weight: -1.0: input should be greater than or equal to 0",
        ),
        (
            "training.later.method",
            "csdd",
            "training.later.method: 'csdd': input should be 'finetune', 'frozen', 'joint'",
        ),
        ("training.later.method", "lucir", "training.network.classifier: cosine: method lucir needs scaled-cosine"),
        ("training.later.method", "hoc", "training.network.classifier: cosine: method hoc needs simplex; write that"),
        ("training.first.schedule.warmup", 2, "training.first.schedule.warmup: 2: input should be less than or equal"),
        ("sources.published.digits.limit_per_class", 0, "sources.published.digits.limit_per_class: 0: input should be"),
        ("training.first.schedule", {"name": "steps"}, "training.first.schedule: {'name': 'steps'}: input tag 'steps'"),
        ("tasks.t2.previous", "t9", "tasks.t2.previous: t9: there is no such task; this one follows t1"),
        ("tasks.t3.previous", "t1", "tasks.t3.previous: t1: tasks form one line; this one follows t2"),
        ("tasks.t1.previous", "init", None),
        ("tasks.t2.previous", "init", "tasks.t2.previous: init: tasks form one line; this one follows t1"),
        (
            "tasks.t2.recipe",
            "first",
            "tasks.t2.recipe: first: the first task has first, all others later or one of training.recipes",
        ),
        (
            "tasks.t1.recipe",
            "later",
            "tasks.t1.recipe: later: the first task has first, all others later or one of training.recipes",
        ),
        ("tasks.t2.source", "photos", "tasks.t2.source: photos: there is no such source; known: digits"),
        ("tasks.t2.classes", [], "tasks.t2.classes: []: a task needs a class; name some, or write null"),
        (
            "tasks.t2.classes",
            ["3"],
            'tasks.t2.classes: "3": is already learned by task t1; a class belongs to one task',
        ),
        ("tasks.t2.classes", ["4", "4"], 'tasks.t2.classes: "4": is there twice; name it once'),
        ("tasks.t2.classes", [4], "tasks.t2.classes.0: 4: is not text; put it in double quotes"),
        ("report.after", "t2", "report.after: t2: the last task is t3; write t3"),
        ("decisions.t2", "adopt", "decisions.t2: 'adopt': input should be 'auto', 'none'"),
        ("gate.allowed", ["keep"], None),
        ("training.network.mean", [0.1, 0.2], "training.network.mean: [0.1, 0.2]: images have 1 channel(s); give one"),
        ("training.network.std", [], "training.network.std: []: images have 1 channel(s); give one number for each"),
        (
            "training.network.mean",
            None,
            "training.network.mean: null: resnet-cifar has no published weights to take it",
        ),
        ("training.network.weights", "torchvision", "training.network.weights: torchvision: is called default now"),
        (
            "training.network.weights",
            "default",
            "training.network.weights: default: nobody publishes weights of resnet",
        ),
        ("training.network.architecture", "../x", "training.network.architecture: '../x': string should match pattern"),
        ("training.network.dimension", 1, "training.network.dimension: 1: input should be greater than or equal to 2"),
        ("training.first.epochs", 0, "training.first.epochs: 0: takes the start weights as they are, and training.net"),
        ("training.later.epochs", 0, "training.later.epochs: 0: input should be greater than or equal to 1"),
        ("training.first.frozen", 0.5, "training.first.frozen: 0.5: keeps start weights as they are, and training.net"),
        ("gallery.splits", ["train"], "gallery.splits: ['train']: the gate judges stored rows of its split; add gate"),
        ("split.gate", 0, "split: select and gate need images to choose and judge on; give each a share above 0"),
        ("split.group", "(cat", "split.group: is not a regular expression (missing ), unterminated subpattern"),
        ("split.group", "cat_", "split.group: cat_ has no group in parentheses; put the part of a path that names the"),
        ("split.group", r"/(p\d+)_", None),
        ("split.group", "hash", None),
        ("split.gate", 0.8, "split: select + gate + test leave nothing to train on; make their sum less than 1"),
        ("images.pixels", "big", "images.pixels: 'big': input should be a valid integer"),
        ("images.background", "red", "images.background: red: no background; write black, white, grey, checker or a"),
        ("images.background", None, "images.background: None: is not text; put it in double quotes"),
        ("images.background", "#7c7468", None),
        (
            "images.crop_share",
            0.875,
            "images: crop_share 0.875: resize squash crops nothing; write 1.0, or resize: crop",
        ),
        ("images.crop_share", 0, "images.crop_share: 0: input should be greater than 0"),
        ("training.first.per_class", 17, "training.first: per_class 17: a batch of 32 needs two classes at least"),
        ("training.first.per_class", 16, None),
        ("training.later.augmentation.policy", "auto", "training.later.augmentation.policy: 'auto': input should be"),
        ("gate.confidence", 1.0, "gate.confidence: 1.0: input should be less than 1"),
        (
            "sources.folders",
            {"digits": {"path": "x", "layout": "classes"}},
            "sources.folders.digits: is also the name of",
        ),
        (
            "sources.folders",
            {"A b": {"path": "x", "layout": "classes"}},
            "sources.folders.A b: 'A b': string should match",
        ),
        (
            "sources.folders",
            {"size": {"path": "x", "layout": "classes"}},
            "sources.folders.size: DVC overlooks changes under a key of this name; choose another name",
        ),
        (
            "sources.published",
            {"nfiles": {"kind": "digits", "limit_per_class": None}},
            "sources.published.nfiles: DVC overlooks changes under a key of this name; choose another name",
        ),
        (
            "tasks",
            {"size": {"previous": "init", "recipe": "first", "source": "digits", "classes": None}},
            "tasks.size: DVC overlooks changes under a key of this name; choose another name",
        ),
    ],
)
def test_a_wrong_value_gets_one_line_with_key_value_and_remedy(tmp_path, values, path, value, expected):
    *blocks, key = path.split(".")
    block = values
    for name in blocks:
        block = block[name]
    block[key] = value
    if expected is None:
        Params.model_validate(values)
    else:
        line = complaint(tmp_path, values)
        assert line.startswith(f"params.yaml: {expected}")
        assert "\n" not in line


def test_a_decision_must_be_allowed_and_complete(tmp_path, values):
    values["gate"]["allowed"] = ["keep"]
    values["decisions"]["t2"] = "backfill"
    assert "decisions.t2: backfill: gate.allowed has only keep; allow it there" in complaint(tmp_path, values)
    values["decisions"] = {"t1": "auto", "t2": "auto"}
    assert "decisions.t3: missing; add `t3: auto`" in complaint(tmp_path, values)
    values["decisions"] = {"t1": "auto", "t2": "auto", "t3": "auto", "t4": "auto"}
    assert "decisions.t4: auto: there is no such task; remove it" in complaint(tmp_path, values)


def test_init_is_no_name_for_a_task(tmp_path, values):
    values["tasks"] = {"init": values["tasks"]["t1"]}
    assert "tasks.init: init is reserved" in complaint(tmp_path, values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a: [1", "line 1, column 6: expected ',' or"),
        (b"a: 1\na: 2\n", "line 2, column 1: found duplicate key"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"", "holds no parameters"),
        (b"- 1", "holds no parameters"),
    ],
)
def test_a_file_that_is_no_yaml_says_where(tmp_path, text, expected):
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    with pytest.raises(ParamsError, match=expected):
        load_params(path)


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(ParamsError, match="there is no such file; run `csd profile use digits`"):
        load_params(tmp_path / "params.yaml")


def test_sources_are_found_by_name(values):
    values["sources"]["folders"] = {"photos": {"path": "data/raw/photos", "layout": "classes"}}
    params = Params.model_validate(values)
    assert params.source("digits").kind == "digits"
    assert isinstance(params.source("photos"), FolderSource)
    assert params.line("t2") == ("t1", "t2")


def test_a_task_that_is_not_there_names_the_known_ones(values):
    with pytest.raises(ParamsError, match="task t9: there is no such task; known: t1, t2, t3"):
        Params.model_validate(values).task("t9")


def test_the_schema_describes_every_knob():
    schema = json.dumps(Params.model_json_schema())
    assert "Multiply the learning rate" in schema
    assert "Share of queries that hit today and would miss" in schema


def test_shares_of_a_partial_backfill_ascend(values):
    values["upgrade"]["partial"]["shares"] = [0.5, 0.25]
    with pytest.raises(ValueError, match=r"upgrade.partial.shares: \[0.5, 0.25\]: must ascend; sort them"):
        Params.model_validate(values)


@pytest.mark.parametrize("strategy", ["adapt", "partial"])
def test_an_operator_chooses_among_what_is_allowed(values, strategy):
    values["gate"]["allowed"] = ["keep", "backfill"]
    values["decisions"]["t2"] = strategy
    with pytest.raises(ValueError, match=f"decisions.t2: {strategy}: gate.allowed has only keep, backfill"):
        Params.model_validate(values)


def test_class_weights_and_balanced_batches_are_one_or_the_other(tmp_path, values):
    values["training"]["later"] |= {"per_class": 4}
    values["training"]["later"]["ce"]["class_weights"] = "inverse"
    assert complaint(tmp_path, values) == (
        "params.yaml: training.later: per_class shows every class alike often; write ce.class_weights: none, or "
        "per_class: null"
    )


@pytest.mark.parametrize("name", ["size", "nfiles"])
def test_no_block_can_have_a_key_that_dvc_overlooks(name):
    with pytest.raises(TypeError, match=f"Block.{name}: DVC leaves keys of this name out of its run cache's key"):
        create_model("Block", __base__=Section, **{name: (int, ...)})
    with pytest.raises(TypeError, match="Block.length: DVC leaves keys"):
        create_model("Block", __base__=Section, length=(int, Field(alias=name)))


def test_a_key_of_a_former_version_says_what_it_is_called_now(tmp_path, values):
    values["images"]["size"] = values["images"].pop("pixels")
    assert complaint(tmp_path, values) == "params.yaml: images.size: is called images.pixels now; rename it"
