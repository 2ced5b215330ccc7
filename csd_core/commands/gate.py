"""`csd gate`: what another policy would have decided."""

from pathlib import Path

from cyclopts import App

from csd_core.params.upgrade import Decision
from csd_core.records.check import CheckReport
from csd_core.records.verdict import Judged, outcome_in_words
from csd_core.system.console import echo
from csd_core.upgrade.gate import judge
from csd_core.upgrade.policy_file import load_policy
from csd_core.workspace import Workspace

app = App(name="gate", help="Judge a check's report again.")


@app.command
def replay(check: str, /, *, policy: Path | None = None, decision: Decision = "auto") -> None:
    """Judge an earlier check under another policy; nothing is measured again and nothing changes.

    Parameters
    ----------
    check
        Name of a task in params.yaml, or a file check.json.
    policy
        A YAML file with a `gate` block, such as another params.yaml; by default params.yaml.
    decision
        The decision to judge with, as an operator would write it into params.yaml.
    """
    report = CheckReport.load(_file(check))
    verdict = judge(report, load_policy(policy)[0], decision)
    echo(f"{report.task}: {outcome_in_words(verdict)}")
    for reason in verdict.reasons:
        echo(f"  {reason}")
    for judged in verdict.judged:
        echo(f"{judged.name}: {_outcome(judged)}")
        for condition in judged.conditions:
            echo(f"  {'meets' if condition.passed else 'FAILS'}  {condition.name}: {condition.words}")


def _file(check: str) -> Path:
    path, workspace = Path(check), Workspace()
    if path.suffix == ".json":
        return path
    workspace.params().task(check)
    return workspace.check(check)


def _outcome(judged: Judged) -> str:
    return judged.why_not or ("passes" if judged.passed else "does not pass")
