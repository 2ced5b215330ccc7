"""dvc.yaml against the code: DVC must never serve a stale artefact."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from csd_core.code_digest.digest import CodeTree
from csd_core.params.file import load_params
from csd_core.stages.code import digests_of

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

CODE = "artifacts/code.json"


def definition(stage):
    return STAGES[stage].get("do", STAGES[stage])


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"code"}))
def test_a_stage_depends_on_the_digest_of_its_module_and_on_no_file_of_code(stage):
    (keys,) = [each[CODE] for each in definition(stage)["params"] if isinstance(each, dict)]
    module = definition(stage)["cmd"].split()[2].removeprefix("csd_core.stages.")
    assert keys == [f"{module}.${{key}}" if module in {"ingest", "train"} else module]
    assert not [dep for dep in definition(stage).get("deps", []) if dep.startswith("csd_core")]


def test_the_stage_code_has_a_digest_for_every_other_stage_and_always_runs():
    stages = {definition(stage)["cmd"].split()[2].removeprefix("csd_core.stages.") for stage in STAGES} - {"code"}
    assert set(digests_of(CodeTree(ROOT), load_params(ROOT / "params.yaml"))) == stages
    assert STAGES["code"]["always_changed"] is True
    assert not {"deps", "params"} & set(STAGES["code"])


@pytest.mark.parametrize("stage", STAGES)
def test_every_output_has_one_stage_and_every_input_an_output(stage):
    outputs = {out for each in STAGES for out in outs_of(each)}
    for dep in definition(stage).get("deps", []):
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
        for dep in definition(stage).get("deps", [])
        if "${item.previous}" in dep
    }
    assert read <= set(outs_of("init"))
