"""dvc.yaml against the code: DVC must never serve a stale artefact."""

from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

FRAME = {
    "cli",
    "errors",
    "names",
    "records",
    "records_check",
    "records_verdict",
    "params",
    "params_file",
    "yaml_file",
    "params_methods",
    "params_rules",
    "params_section",
    "params_sources",
    "params_training",
    "workspace",
    "atomic",
    "console",
    "endings",
    "stages.entry",
}
"""Modules that carry no computation: names, forms, messages. A change in them makes no artefact stale."""


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("csd_core", cache_dir=None)


def definition(stage):
    return STAGES[stage].get("do", STAGES[stage])


def closure(graph, module):
    """Modules that `module` imports, directly or not, but for those reached through the frame alone."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name.removeprefix("csd_core.") not in FRAME:
            found.add(name)
            waiting.extend(graph.find_modules_directly_imported_by(name))
    return found


def file_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def module_of(stage):
    return definition(stage)["cmd"].split()[2]


def code_of(stage):
    return [ROOT / dep for dep in definition(stage)["deps"] if dep.startswith("csd_core")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_code_it_imports(graph, stage):
    covered = code_of(stage)
    packages = {"csd_core", "csd_core.stages"}
    missing = [
        module
        for module in closure(graph, module_of(stage)) - packages
        if not any(file_of(module).is_relative_to(dep) for dep in covered)
    ]
    assert missing == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_it_does_not_import(graph, stage):
    imported = {file_of(module) for module in closure(graph, module_of(stage))}
    unused = [dep for dep in code_of(stage) if not any(file.is_relative_to(dep) for file in imported)]
    assert unused == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_has_one_stage_and_every_input_an_output(stage):
    outputs = {out for each in STAGES for out in outs_of(each)}
    for dep in definition(stage)["deps"]:
        if dep.startswith(("data/", "artifacts/")):
            pattern = dep.replace("${item.previous}", "${key}").replace("${item.source}", "${key}")
            assert pattern.replace("${report.after}", "${key}") in outputs


def outs_of(stage):
    for kind in ("outs", "metrics", "plots"):
        for out in definition(stage).get(kind, []):
            yield out if isinstance(out, str) else next(iter(out))


def test_init_makes_whatever_a_first_task_reads():
    read = {
        dep.replace("${item.previous}", "init")
        for stage in STAGES
        for dep in definition(stage)["deps"]
        if "${item.previous}" in dep
    }
    assert read <= set(outs_of("init"))
