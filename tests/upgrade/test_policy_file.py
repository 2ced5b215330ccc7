import shutil
from pathlib import Path

import pytest

from csd_core.params.file import load_params
from csd_core.system.errors import ParamsError
from csd_core.upgrade.policy_file import DEFAULT, load_policy

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_a_file_the_default_holds():
    assert load_policy(None) == load_policy(DEFAULT)


def test_without_a_file_the_params_of_the_project_hold():
    shutil.copyfile(PARAMS, "params.yaml")
    params = load_params(PARAMS)
    assert load_policy(None) == (params.gate, params.upgrade)
    assert load_policy(None) != load_policy(DEFAULT)


def test_a_file_that_is_named_wins_over_the_project():
    shutil.copyfile(PARAMS, "params.yaml")
    shutil.copyfile(DEFAULT, "policy.yaml")
    assert load_policy(Path("policy.yaml")) == load_policy(DEFAULT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"policy.yaml: holds no policy; write the blocks gate and upgrade \(`csd upgrade policy` prints them\)"),
        ("- gate", r"policy.yaml: holds no policy"),
        ("gate: {", r"policy.yaml: line 1, column 8: "),
        ("gate: {confidence: 2}\n", r"policy.yaml: gate.confidence: 2: input should be less than 1"),
        ("{default}gaet: {{}}\n", r"policy.yaml: gaet: unknown key; did you mean gate?"),
        ("{default}extra: 1\n", r"policy.yaml: extra: unknown key"),
        ("{default}split: 1\n", r"policy.yaml: runtime: missing"),
    ],
)
def test_mistakes_are_named_by_file_and_key(text, message):
    filled = text.format(default=DEFAULT.read_text()) if "{default}" in text else text
    Path("policy.yaml").write_text(filled)
    with pytest.raises(ParamsError, match=message):
        load_policy(Path("policy.yaml"))


def test_the_limits_are_needed():
    Path("policy.yaml").write_text(DEFAULT.read_text().split("gate: #")[0])
    with pytest.raises(ParamsError, match=r"^policy.yaml: gate: missing; add it"):
        load_policy(Path("policy.yaml"))


def test_limits_alone_are_a_policy():
    Path("policy.yaml").write_text("gate: #" + DEFAULT.read_text().split("gate: #")[1])
    assert load_policy(Path("policy.yaml")) == load_policy(DEFAULT)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ParamsError, match=r"nowhere.yaml: there is no such file"):
        load_policy(Path("nowhere.yaml"))
