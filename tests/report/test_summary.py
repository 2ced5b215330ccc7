import io
from dataclasses import replace

import pytest
from rich.console import Console

from csd_core.report.summary import print_summary
from csd_core.system.errors import ArtifactError


def printed(told, tmp_path, width):
    told.metrics.save(tmp_path / "metrics.json")
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, force_terminal=True, color_system=None)
    print_summary(tmp_path / "metrics.json", tmp_path / "report" / "index.html", console=console)
    return console.file.getvalue()


def test_a_wide_terminal_shows_every_task_after_every_stage(carried, tmp_path):
    lines = printed(carried, tmp_path, 120).splitlines()
    header = next(line for line in lines if "after t4" in line)
    assert header.split() == ["Task", "after", "t1", "after", "t2", "after", "t3", "after", "t4"]
    last = lines[lines.index(header) + 4].split()
    assert last == ["t4", f"{100 * carried.metrics.tasks['t4'].recall_at_1['t4']:.1f}"]


def test_verdicts_are_told_with_strategy_or_who_stays(carried, tmp_path):
    text = printed(carried, tmp_path, 120)
    assert "✓ promoted (first model)" in text
    assert "✗ rejected (t1 stays)" in text
    assert "✓ promoted (backfill)" in text


def test_a_partial_backfill_is_told_with_its_share(mixed, tmp_path):
    text = printed(mixed, tmp_path, 120)
    assert "✓ promoted (partial 75 %)" in text
    assert "✓ promoted (adapt)" in text


@pytest.mark.parametrize("width", [30, 120])
@pytest.mark.parametrize("outlook", ["more queries could turn it", "out of reach even by backfill"])
def test_a_rejection_says_what_could_turn_it(carried, tmp_path, outlook, width):
    task = carried.metrics.tasks["t2"].model_copy(update={"outlook": outlook})
    metrics = carried.metrics.model_copy(update={"tasks": carried.metrics.tasks | {"t2": task}})
    text = printed(replace(carried, metrics=metrics), tmp_path, width)
    assert outlook in " ".join(text.split())


def test_a_cross_test_stands_beside_the_self_test_it_must_beat(promoted, tmp_path):
    cross = promoted.metrics.compatibility.cross_tests
    assert f"{100 * cross['t3']['t2']:.1f} ({100 * cross['t2']['t2']:.1f})" in printed(promoted, tmp_path, 120)


@pytest.mark.parametrize("width", [20, 30, 60, 80])
@pytest.mark.parametrize("report_data", ["promoted", "refused", "alone"])
def test_no_line_of_a_table_is_wider_than_the_terminal(request, tmp_path, report_data, width):
    text = printed(request.getfixturevalue(report_data), tmp_path, width)
    tables = [line for line in text.splitlines() if line and "percent" not in line and "Report" not in line]
    assert max(len(line) for line in tables) <= max(width, len("Forgetting, in points"))


def test_a_table_without_figures_is_left_out(alone, refused, tmp_path):
    assert "Forgetting" not in printed(alone, tmp_path, 120)
    assert "own gallery" in printed(alone, tmp_path, 120)
    rejected = printed(refused, tmp_path, 120)
    assert "✗ rejected (no model)" in rejected
    assert "own gallery" not in rejected
    assert "Forgetting" not in rejected


def test_a_narrow_terminal_shows_first_best_and_now(promoted, tmp_path):
    lines = printed(promoted, tmp_path, 30).splitlines()
    row = next(line for line in lines[lines.index(next(line for line in lines if "Best" in line)) :] if "t1" in line)
    recalls = [promoted.metrics.tasks[stage].recall_at_1["t1"] for stage in ("t1", "t2", "t3")]
    assert row.split() == ["t1", *(f"{100 * each:.1f}" for each in (recalls[0], max(recalls), recalls[-1]))]


def test_the_path_of_the_page_comes_last_and_whole(promoted, tmp_path):
    last = printed(promoted, tmp_path, 30).splitlines()[-1]
    assert last == f"Report: {tmp_path / 'report' / 'index.html'}"


def test_missing_metrics_are_named(tmp_path):
    with pytest.raises(ArtifactError, match="metrics.json: missing"):
        print_summary(tmp_path / "metrics.json", tmp_path / "index.html")
