"""`csd gate replay`: what was measured once, judged under another policy."""

import re

import pytest
from worlds import UPGRADE

from csd_core.cli import main
from csd_core.upgrade.check import check


@pytest.fixture
def report(mixed, to_the_fourth, tmp_path):
    """A check.json of a candidate that meets a mixed gallery."""
    candidate, champion = mixed.model(4), mixed.model(3)
    path = tmp_path / "check.json"
    check(
        "t4",
        gate=mixed.evaluation("t4", candidate),
        select=mixed.evaluation("t4", candidate, split="select"),
        situation=mixed.situation(candidate, to_the_fourth, settings=UPGRADE),
        champion=champion.digest,
        pending=(),
        best_own_gallery={"t1": 1.0},
    ).save(path)
    return path


@pytest.fixture
def policy(request, tmp_path):
    """Write params.yaml's gate with other values, alone."""
    text = (request.config.rootpath / "params.yaml").read_text(encoding="utf-8")
    block = text[text.index("\ngate:") + 1 : text.index("\ndecisions:")]

    def write(name, **values):
        changed = block
        for key, value in values.items():
            changed, count = re.subn(rf"(?m)^  {key}: \S+", f"  {key}: {value}", changed)
            assert count == 1
        path = tmp_path / name
        path.write_text(changed, encoding="utf-8")
        return path

    return write


def run(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["gate", "replay", *map(str, arguments)])
    return stopped.value.code


LENIENT = {
    "max_regression": 1.0,
    "max_task_regression": 1.0,
    "max_total_regression": 1.0,
    "min_gain": -1.0,
    "max_excess_flips": 1.0,
    "max_map_regression": 1.0,
}


def test_the_same_report_is_judged_otherwise_under_another_policy(report, policy, capsys):
    before = report.read_bytes()
    assert run(report, "--policy", policy("lenient.yaml", **LENIENT)) == 0
    assert "t4: promoted under keep" in capsys.readouterr().out
    assert run(report, "--policy", policy("strict.yaml", min_gain=0.99)) == 0
    printed = capsys.readouterr().out
    assert "t4: rejected; out of reach even by backfill" in printed
    assert "must gain more than 99.0: out of reach even by backfill" in printed
    assert "FAILS  min_gain: all classes" in printed
    assert report.read_bytes() == before


def test_an_operators_decision_can_be_tried(report, policy, capsys):
    assert run(report, "--policy", policy("lenient.yaml", **LENIENT), "--decision", "backfill") == 0
    assert "t4: promoted under backfill\n  an operator chose backfill" in capsys.readouterr().out


@pytest.mark.parametrize("check_file", ["gone.json", "other.json"])
def test_what_is_no_report_is_one_line(tmp_path, policy, capsys, check_file):
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    assert run(tmp_path / check_file, "--policy", policy("p.yaml")) == 4
    error = capsys.readouterr().err
    assert check_file in error
    assert error.count("\n") == 1
