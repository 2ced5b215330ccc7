"""`csd gate`: what another policy would have decided."""

from pathlib import Path

from cyclopts import App

from csd_core.params.upgrade import Decision
from csd_core.records.check import CheckReport
from csd_core.records.verdict import OnSelect, Way, outcome_in_words
from csd_core.system.console import echo
from csd_core.upgrade.gate import judge
from csd_core.upgrade.gate_rules import points
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
    for way in verdict.ways:
        echo(f"{way.name}: {_outcome(way)}")
        if way.cost:
            echo(f"  costs  {way.cost.words}")
        if way.on_select:
            echo(f"  select {_reached(way.on_select)}")
        for condition in way.conditions:
            echo(f"  {'meets' if condition.passed else 'FAILS'}  {condition.name}: {condition.words}")


def _file(check: str) -> Path:
    path, workspace = Path(check), Workspace()
    if path.suffix == ".json":
        return path
    workspace.params().task(check)
    return workspace.check(check)


def _reached(on_select: OnSelect) -> str:
    pairs, recall = on_select.against_status_quo, on_select.recall
    found = "no query counts" if recall is None else f"Recall@1 {points(recall)} %"
    return f"{found} ({pairs.queries:,} queries, {pairs.lost:,} lost, {pairs.gained:,} gained)"


def _outcome(way: Way) -> str:
    if way.confidence is None:
        return f"not judged, {way.why_not}"
    return f"{'passes' if way.passed else 'does not pass'} at {100 * way.confidence:.3g} % confidence"
