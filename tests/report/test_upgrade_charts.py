import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from csd_core.records.check import ServingPoint
from csd_core.report.charts.tasks import charts
from csd_core.report.options import options


def texts(chart):
    return [element.text for element in ET.fromstring(chart.inline()).iter() if element.text]  # noqa: S314 - our own


def marks(chart, style):
    return len(re.findall(rf'class="mark {style}"', chart.body))


def drawn(told):
    return charts(told.report_data, told.metrics)


def changed(told, stage, **update):
    """The charts after a change of one task's check."""
    tasks = list(told.report_data.tasks)
    tasks[stage] = replace(tasks[stage], check=tasks[stage].check.model_copy(update=update))
    return charts(replace(told.report_data, tasks=tuple(tasks)), told.metrics)


def test_a_first_model_has_no_frontier(mixed, alone):
    assert {name for name in drawn(mixed) if name.startswith("frontier-")} == {
        f"frontier-{task}" for task in ("t2", "t3", "t4")
    }
    assert set(drawn(alone)) >= {"gallery-rows"}
    assert not any(name.startswith(("frontier-", "partial-")) for name in drawn(alone))


def test_before_the_first_model_there_is_nothing_to_draw(refused, late):
    assert "gallery-rows" not in drawn(refused)
    assert "frontier-t2" not in drawn(late)
    assert "frontier-t3" in drawn(late)
    assert "empty" in texts(drawn(late)["gallery-rows"])


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_frontier_marks_what_passes_what_fails_and_what_was_not_judged(mixed, stage):
    task = mixed.report_data.tasks[stage]
    chart = drawn(mixed)[f"frontier-{task.name}"]
    found = options(task)
    legend = {standing: any(option.standing == standing for option in found) for standing in ("passed", "failed")}
    assert marks(chart, "hollow") == sum(option.standing == "failed" for option in found) + legend["failed"]
    assert marks(chart, "fill-retrieval") == sum(option.standing == "passed" for option in found) + legend["passed"]
    assert chart.body.count('class="ring"') == (1 if task.promoted else 0)


def test_the_frontier_says_cost_and_recall_of_every_alternative(mixed):
    task = mixed.report_data.tasks[1]
    words = drawn(mixed)["frontier-t2"].description
    assert f"Status quo {100 * task.check.status_quo.overall.at[1]:.1f}" in words
    for alternative in task.check.alternatives:
        cost = 100 * alternative.rows_embedded / task.old_rows
        assert f"{alternative.name} {100 * alternative.measured.overall.at[1]:.1f} at {cost:.0f} %" in words
    assert words.count("chosen") == 1
    assert any("partial 75 %" in each for each in texts(drawn(mixed)["frontier-t2"]))


def test_what_cannot_be_served_is_not_on_the_frontier(mixed):
    keep, *others = mixed.report_data.tasks[2].check.alternatives
    impossible = keep.model_copy(update={"possible": False, "why_not": "another dimension", "measured": None})
    chart = changed(mixed, 2, alternatives=(impossible, *others))["frontier-t3"]
    assert "keep" not in chart.description
    assert "adapt" in chart.description


def test_a_way_that_was_not_judged_says_why_and_is_drawn_pale(mixed):
    task = mixed.report_data.tasks[1]
    ways = {way.name: way for way in task.verdict.ways}
    found = {option.alternative.name: option for option in options(task)}
    for name, option in found.items():
        assert option.on_select == ways[name].on_select
        expected = ("passed" if ways[name].passed else "failed") if ways[name].judged else "unjudged"
        assert option.standing == expected
        if expected == "unjudged":
            assert option.words == f"not judged: {ways[name].why_not}"
    assert {option.standing for option in found.values()} >= {"failed", "unjudged"}


def test_an_alternative_that_the_verdict_leaves_out_was_not_judged(mixed):
    task = mixed.report_data.tasks[1]
    task = replace(task, verdict=task.verdict.model_copy(update={"ways": ()}))
    assert {option.words for option in options(task)} == {"not judged"}


def test_the_orders_are_ranked_by_area_and_the_share_taken_is_marked(mixed):
    partial = mixed.report_data.tasks[1].check.partial
    chart = drawn(mixed)["partial-t2"]
    shown = [text for text in texts(chart) if any(text.startswith(f"{curve.order} ") for curve in partial.curves)]
    ranked = sorted(partial.curves, key=lambda curve: -curve.area)
    assert [text for text in shown if "%" not in text] == [f"{curve.order} {100 * curve.area:.1f}" for curve in ranked]
    assert "75 % taken" in texts(chart)
    assert chart.body.count('class="ring"') == 1


def test_without_a_partial_backfill_no_share_is_marked(mixed):
    chart = drawn(mixed)["partial-t3"]
    assert not any(text.endswith("% taken") for text in texts(chart))
    assert 'class="ring"' not in chart.body
    assert "partial-t3" not in changed(mixed, 2, partial=None)


def test_a_backfill_that_was_not_simulated_has_no_chart(mixed):
    assert "during-t2" not in changed(mixed, 1, during_backfill=())


def test_both_ways_to_search_while_a_backfill_runs_are_drawn(mixed):
    points = (
        ServingPoint(share=0.0, naive=0.4, merged=0.8),
        ServingPoint(share=0.5, naive=0.6, merged=0.7),
        ServingPoint(share=1.0, naive=0.9, merged=0.9),
    )
    chart = changed(mixed, 1, during_backfill=points)["during-t2"]
    assert "mixed from 40.0 to 90.0; merged from 80.0 to 90.0" in chart.description
    assert {"merged", "mixed", "done 90.0"} <= set(texts(chart))
    assert 'class="quo"' in chart.body
    taken = mixed.report_data.tasks[1].chosen
    assert f"{taken.name}, which is served until the last row is done, " in chart.description


def test_vectors_of_two_dimensions_are_merged_and_never_mixed(mixed):
    points = tuple(ServingPoint(share=share, naive=None, merged=0.8) for share in (0.0, 1.0))
    chart = changed(mixed, 1, during_backfill=points)["during-t2"]
    assert "mixed" not in texts(chart)
    assert "merged from 80.0 to 80.0" in chart.description


def test_galleries_are_drawn_with_the_number_of_their_rows(mixed, promoted):
    found = texts(drawn(mixed)["gallery-rows"])
    assert {"256 made", "384 made + 64 mapped", "192 made + 448 mapped", "320 made + 448 mapped"} <= set(found)
    assert "kept" not in found
    assert "192 made + 448 kept" in texts(drawn(promoted)["gallery-rows"])


def test_bars_fill_their_share_of_the_largest_gallery(mixed):
    bars = [
        (float(width), style)
        for style, width in re.findall(
            r'<rect class="bar ([\w-]+)".*?width="([\d.]+)"', drawn(mixed)["gallery-rows"].body
        )
    ]
    widest = sum(width for width, _ in bars[-2:])
    assert bars[0][0] == pytest.approx(widest * 256 / 768, abs=0.2)
    assert [style for _, style in bars] == ["fill-retrieval"] + 3 * ["fill-retrieval", "pale"]


def test_where_the_dimension_changed_keep_is_not_drawn_and_no_mixture(narrowed):
    found = drawn(narrowed)
    words = found["frontier-t2"].description
    assert all(name in words for name in ("adapt", "merge", "partial", "backfill"))
    assert "keep" not in words
    assert "mixed" not in texts(found["during-t2"])
