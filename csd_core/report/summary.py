"""The table at the end of a run, from metrics.json alone, so that it is there at once."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from csd_core.report.scores import Metrics, TaskMetrics
from csd_core.system.console import console as terminal
from csd_core.system.console import new_table, print_table, too_wide

DASH = "\N{EN DASH}"
"""Where there is no figure."""


def print_summary(metrics_path: Path, page_path: Path, *, console: Console = terminal) -> None:
    """Print verdicts, recall per task and forgetting, where there are figures, and where the page lies.

    Args:
        metrics_path: metrics.json.
        page_path: The HTML page.
        console: Where to; its width decides how much is shown.

    Raises:
        ArtifactError: if metrics.json is missing or damaged.
    """
    metrics = Metrics.load(metrics_path)
    verdicts = _that_fits(console, _verdicts(metrics), _verdicts_in_short(metrics))
    recall = _that_fits(console, _matrix(metrics), _then_and_now(metrics))
    recalls = any(task.recall_at_1 for task in metrics.tasks.values())
    forgotten = metrics.retrieval.own.forgetting is not None or metrics.retrieval.all_seen.forgetting is not None
    for title, table, figures in (
        ("Tasks, in percent after each stage", verdicts, True),
        ("Recall@1 on a task's own gallery, in percent", recall, recalls),
        ("Forgetting, in points", _forgetting(metrics), forgotten),
    ):
        if not figures:
            continue
        console.print(Text(title, style="bold"))
        print_table(table, console)
        console.print()
    console.print(f"Report: {page_path}", markup=False)


def _that_fits(console: Console, table: Table, narrow: Table) -> Table:
    """Return the table, or the narrow one where a line of a terminal would not hold it."""
    return narrow if too_wide(table, console) else table


def _verdicts(metrics: Metrics) -> Table:
    table = new_table()
    table.add_column("Task")
    table.add_column("Verdict")
    for name in ("Cross-test", "All-seen R@1", "Accuracy"):
        table.add_column(name, justify="right")
    for name, task in metrics.tasks.items():
        table.add_row(
            name,
            _verdict(task),
            _cross_test(metrics, name),
            _percent(task.all_seen_recall_at_1),
            _percent(task.all_seen_accuracy),
        )
    return table


def _verdicts_in_short(metrics: Metrics) -> Table:
    """Return the same for narrow terminals."""
    table = new_table()
    table.add_column("Task")
    table.add_column("Verdict")
    table.add_column("R@1", justify="right")
    for name, task in metrics.tasks.items():
        verdict = "[red]✗ rejected[/]" if task.outcome == "rejected" else "[green]✓ promoted[/]"
        outlook = f"\n{task.outlook}" if task.outlook else ""
        table.add_row(name, verdict + outlook, _percent(task.all_seen_recall_at_1))
    return table


def _verdict(task: TaskMetrics) -> str:
    if task.outcome == "rejected":
        stays = f"{task.champion} stays" if task.champion else "no model"
        return f"[red]✗ rejected[/] ({stays}{f'; {task.outlook}' if task.outlook else ''})"
    share = "" if task.share is None else f" {100 * task.share:g} %"
    return f"[green]✓ promoted[/] ({'first model' if task.strategy == 'none' else task.strategy}{share})"


def _cross_test(metrics: Metrics, name: str) -> str:
    """This model on its predecessor's vectors, and in brackets what the predecessor found there."""
    generations = list(metrics.compatibility.cross_tests)
    place = generations.index(name) if name in generations else 0
    if not place:
        return DASH
    old, rows = generations[place - 1], metrics.compatibility.cross_tests
    return f"{_percent(rows[name].get(old))} ({_percent(rows[old].get(old))})"


def _matrix(metrics: Metrics) -> Table:
    """Recall of every task after every stage."""
    table = new_table()
    table.add_column("Task")
    for stage in metrics.tasks:
        table.add_column(f"after {stage}", justify="right")
    for name in metrics.tasks:
        table.add_row(name, *(_percent(stage.recall_at_1.get(name), "") for stage in metrics.tasks.values()))
    return table


def _then_and_now(metrics: Metrics) -> Table:
    """Return the same for narrow terminals: first, best, last."""
    table = new_table()
    table.add_column("Task")
    for name in ("First", "Best", "Now"):
        table.add_column(name, justify="right")
    for name in metrics.tasks:
        values = [stage.recall_at_1[name] for stage in metrics.tasks.values() if name in stage.recall_at_1]
        row = (values[0], max(values), values[-1]) if values else (None, None, None)
        table.add_row(name, *map(_percent, row))
    return table


def _forgetting(metrics: Metrics) -> Table:
    table = new_table()
    table.add_column("")
    table.add_column("Recall@1", justify="right")
    table.add_column("Accuracy", justify="right")
    rows = (
        ("each task alone", metrics.retrieval.own, metrics.classification.own),
        ("everything seen", metrics.retrieval.all_seen, metrics.classification.all_seen),
    )
    for name, *pair in rows:
        table.add_row(name, *(_percent(each.forgetting) for each in pair))
    return table


def _percent(share: float | None, missing: str = DASH) -> str:
    return missing if share is None else f"{100 * share:.1f}"
