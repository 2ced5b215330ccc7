"""Which code a stage depends on: what it may import, what its parameters choose, and no more."""

import re
import shutil
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from csd_core.code_digest.digest import BASIS, CHILDREN, FRAME, REGISTRIES, CodeTree
from csd_core.params.choices import FAMILIES, METHODS, SOURCES
from csd_core.params.file import profile_text
from csd_core.params.model import Params
from csd_core.stages.code import PLAIN, closure_of, digest_of_weights, digests_of
from csd_core.workspace import Workspace

ROOT = Path(__file__).parents[1]
CODE = CodeTree(ROOT)


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("csd_core", cache_dir=None, exclude_type_checking_imports=True)


@pytest.fixture
def values():
    return YAML(typ="safe").load(profile_text(ROOT / "csd_core/project/profiles", "digits"))


@pytest.fixture
def edited(tmp_path):
    """A function that changes a file of a copy of the package and returns the digests of all stages, flat."""
    shutil.copytree(ROOT / "csd_core", tmp_path / "csd_core", ignore=shutil.ignore_patterns("__pycache__"))

    def edit(file, former, now, *, params):
        path = tmp_path / "csd_core" / file
        text = path.read_text(encoding="utf-8")
        assert former in text
        path.write_text(text.replace(former, now), encoding="utf-8")
        return flat(digests_of(CodeTree(tmp_path), params))

    return edit


def flat(digests):
    return {
        (stage, name): digest
        for stage, found in digests.items()
        for name, digest in (found.items() if isinstance(found, dict) else [(None, found)])
    }


def test_the_imports_of_a_module_are_all_that_another_tool_finds(graph):
    for module in graph.modules - REGISTRIES:
        assert graph.find_modules_directly_imported_by(module) <= CODE.imports(module) | {module}, module


def test_what_a_registry_imports_inside_functions_is_what_can_be_chosen(graph):
    chosen = {entry.partition(":")[0] for table in (METHODS, SOURCES, FAMILIES) for entry in table.values()}
    for module in REGISTRIES:
        assert graph.find_modules_directly_imported_by(module) - CODE.imports(module) <= chosen, module
    assert all(CODE.file(module).is_file() for module in chosen | FRAME | set(BASIS))


def changed(edited, values, *edit):
    params = Params.model_validate(values)
    before = flat(digests_of(CODE, params))
    after = edited(*edit, params=params)
    return {key for key in before if after[key] != before[key]}


def test_a_comment_and_a_docstring_change_no_digest(edited, values):
    assert changed(edited, values, "learning/losses.py", '"""Losses', '"""The losses') == set()
    assert changed(edited, values, "data/sources/digits.py", "import numpy", "# seen\nimport numpy") == set()


def test_a_constant_of_a_loss_changes_what_trains_alone(edited, values):
    found = changed(edited, values, "learning/losses.py", "\n\n\ndef ", "\n\n\nMORE = 1\n\n\ndef ")
    assert found == {("train", "t1"), ("train", "t2"), ("train", "t3")}


@pytest.mark.parametrize(("method", "others"), [("csd", set()), ("bct", {("train", "t2"), ("train", "t3")})])
def test_a_method_that_is_not_chosen_retrains_nothing(edited, values, method, others):
    values["training"]["later"]["method"] = method
    found = changed(edited, values, "learning/methods/bct.py", "class Bct", "MORE = 1\n\n\nclass Bct")
    assert found == others


def test_a_source_of_another_kind_ingests_nothing_again(edited, values):
    values["sources"]["folders"] = {"photos": {"path": "photos", "layout": "classes"}}
    values["sources"]["published"]["signs"] = {
        "kind": "glyphs", "seed": 1, "images_per_family": 1, "rotation": 0, "shift": 0, "scale": 0, "limit_per_class": 1
    }  # fmt: skip
    found = changed(edited, values, "data/sources/glyphs.py", "import math\n", "import math\n\nMORE = 1\n")
    assert found == {("ingest", "signs")}


def test_the_process_that_decodes_images_counts_where_they_are_ingested(edited, values):
    values["sources"]["folders"] = {"photos": {"path": "photos", "layout": "classes"}}
    found = changed(edited, values, "data/decoder_child.py", "_GROWTH = 16", "_GROWTH = 17")
    assert ("ingest", "photos") in found


def test_no_other_module_of_a_stage_starts_code_that_no_import_names(values):
    params = Params.model_validate(values)
    modules = {module for stage in PLAIN for module in closure_of(CODE, params, stage)}
    modules |= {module for name in params.tasks for module in closure_of(CODE, params, "train", name)}
    modules |= {module for name in params.sources.published for module in closure_of(CODE, params, "ingest", name)}
    hidden = re.compile(r'"import |"from |"-m"|import_module\(|__import__\(|__doc__|getsource')
    found = {module for module in modules if hidden.search(CODE.file(module).read_text(encoding="utf-8"))}
    known = {
        "csd_core.learning.methods.registry",
        "csd_core.learning.networks.families",
        "csd_core.learning.distributed.launch",
        "csd_core.engine.ray_connection",
    }  # from `choices`; the stage's own module; Ray's own
    assert found == {*CHILDREN, *known}


@pytest.mark.parametrize(
    ("architecture", "counts"), [("resnet-cifar", False), ("resnet50", True), ("timm/resnet50", False)]
)
def test_a_family_of_networks_counts_where_it_is_chosen(edited, values, architecture, counts):
    values["training"]["network"]["architecture"] = architecture
    edit = ("learning/networks/torchvision_models.py", "CLASSES = 1000", "CLASSES = 1001")
    expected = {("export", None), *(("train", name) for name in values["tasks"])}
    assert changed(edited, values, *edit) == (expected if counts else set())


def test_other_start_weights_train_again_and_missing_ones_have_no_digest(values, tmp_path):
    values["training"]["network"]["weights"] = "start.pth"
    params, files = Params.model_validate(values), Workspace(tmp_path)
    assert digest_of_weights(files, params) is None
    found = []
    for content in ("one", "other"):
        (tmp_path / "start.pth").write_text(content)
        found.append(flat(digests_of(CODE, params, weights=digest_of_weights(files, params))))
    assert {key for key in found[0] if found[0][key] != found[1][key]} == {("train", name) for name in values["tasks"]}
    for weights in (None, "default"):
        values["training"]["network"] |= {"weights": weights, "architecture": "resnet50"}
        assert digest_of_weights(files, Params.model_validate(values)) is None


def test_another_choice_of_the_parameters_is_another_digest(values):
    before = flat(digests_of(CODE, Params.model_validate(values)))
    values["training"]["later"]["method"] = "fd"
    after = flat(digests_of(CODE, Params.model_validate(values)))
    assert {key for key in before if after[key] != before[key]} == {("train", "t2"), ("train", "t3")}


def test_a_template_changes_the_report_alone(edited, values):
    assert changed(edited, values, "upgrade/default_policy.yaml", "gate", "gate ") == set()
    assert changed(edited, values, "report/upgrades.html.jinja", "<", " <") == {("report", None)}


def test_the_environment_of_stages_changes_all_of_them(edited, values):
    params = Params.model_validate(values)
    everything = set(flat(digests_of(CODE, params)))
    assert changed(edited, values, "stages/environment.py", '"TZ": "UTC"', '"TZ": "CET"') == everything


def test_the_stage_that_takes_digests_imports_nothing_heavy():
    found = closure_of(CODE, Params.model_validate(YAML(typ="safe").load(ROOT / "params.yaml")), "code")
    assert found <= {
        "csd_core",
        "csd_core.stages",
        "csd_core.stages.code",
        "csd_core.code_digest",
        "csd_core.code_digest.digest",
        "csd_core.code_digest.form",
        *BASIS,
    }
