"""The figures by which upgrades are judged, of figures that are drawn: 10 upgrades of digits-11, 1 of glyphs-2."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import loaded, written

from csd_core.comparison.report.judged_tables import judged_table, promoted_cost_table
from csd_core.comparison.report.text import sentences
from csd_core.comparison.results.intervals import ratio_of_sums
from csd_core.comparison.results.upgrade_figures import figures_of_upgrades
from csd_core.report.narrative import DASH, MINUS

FREE = "and without a row re-embedded"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return loaded(written(tmp_path_factory.mktemp("results")))


def column(table, contender):
    """Row -> entry of a contender."""
    place = table.head.index(contender) - 1
    return {name: entries[place] for name, entries in table.rows.items()}


def words(table, contender):
    return {name: entry.words for name, entry in column(table, contender).items()}


def test_passes_are_counted_and_what_passes_without_a_row_re_embedded_of_what_a_backfill_passes(comparison):
    found = words(judged_table(comparison), "finetune")  # keep and adapt lose too much to pass
    assert found["Upgrades"] == "33"
    assert found["Promoted"] == "18/33"  # t2, t4, ... of the long line, and the only one of the short line
    assert found["Some way passes"] == found["Full backfill passes"] == "33/33"
    assert found["of these, without a row re-embedded"] == "33/33"
    assert found[f"{FREE}, one query model"] == "0/33"
    assert found[f"{FREE}, up to two"] == "33/33"
    assert words(judged_table(comparison), "joint ‡")[f"{FREE}, one query model"] == "33/33"
    assert words(judged_table(comparison, "glyphs-2"), "finetune")["Promoted"] == "3/3"


def test_a_way_that_re_embeds_a_row_is_none_without(comparison):
    rows = comparison.results
    some = (rows["measure"] == "rows_embedded") & (rows["on"] == "merge") & (rows["after"] == "t2")
    changed = replace(comparison, results=rows.assign(value=rows["value"].mask(some, 1.0)))
    assert words(judged_table(changed), "finetune")[f"{FREE}, up to two"] == "27/33"  # six upgrades to t2


def test_rejections_of_what_is_proven_better_name_what_stopped_them(comparison):
    entry = column(judged_table(comparison), "finetune")["Rejected, of these a backfill proven better"]
    proven = sum(0.02 + 0.01 * seed + 0.001 * row > 0.03 for seed in (1, 2, 3) for row in (2, 4, 6, 8, 10))
    assert (entry.words, entry.small) == (f"{proven}/15", f"max_task_regression {proven}")


def test_the_share_of_the_gain_is_a_ratio_of_sums(comparison):
    entry = column(judged_table(comparison), "csd")["Share of that gain by adapt, %"]
    assert (entry.words, entry.small) == ("50", "50 to 50")
    rows = comparison.results
    worse = rows["value"].where((rows["measure"] != "gain") | (rows["on"] != "adapt"), -rows["value"])
    entry = column(judged_table(replace(comparison, results=rows.assign(value=worse))), "csd")[
        "Share of that gain by adapt, %"
    ]
    assert (entry.words, entry.small) == (f"{MINUS}50", f"{MINUS}50 to {MINUS}50")


def test_the_interval_of_a_ratio_is_that_of_the_jackknife():
    rng = np.random.default_rng(1)
    lower = pd.Series(rng.uniform(0.5, 2, 12))
    upper = 0.7 * lower + rng.normal(0, 0.1, 12)
    found = ratio_of_sums(upper, lower)
    without = [(upper.sum() - upper[i]) / (lower.sum() - lower[i]) for i in range(12)]
    pseudo = 12 * found.value - 11 * np.array(without)
    low, high = stats.ttest_1samp(pseudo, 0).confidence_interval(0.95)
    assert found.value == pytest.approx(upper.sum() / lower.sum())
    assert found.half == pytest.approx((high - low) / 2)


def test_a_ratio_needs_a_gain_and_its_interval_two_pairs():
    assert math.isnan(ratio_of_sums(pd.Series([0.1, 0.2]), pd.Series([0.1, -0.1])).value)
    assert math.isnan(ratio_of_sums(pd.Series([], dtype=float), pd.Series([], dtype=float)).value)
    alone = ratio_of_sums(pd.Series([0.1]), pd.Series([0.2]))
    assert (alone.value, math.isnan(alone.half)) == (0.5, True)
    assert math.isnan(ratio_of_sums(pd.Series([0.1, 0.2]), pd.Series([0.3, -0.1])).half)


def test_old_items_and_test_queries_are_those_of_promoted_upgrades(comparison):
    found = words(judged_table(comparison, "digits-11"), "csd")
    assert found["Old items under the promoted way"] == "+0.5"  # merge: 1 point in t2, t4, ...; nothing in the others
    assert found["of these upgrades, not below the status quo"] == "30/30"
    assert found["Queries lost by merge, %"] == "1.5"
    assert found["Test queries under the promoted way"] == f"{MINUS}3.5"
    assert found["of these upgrades, worse"] == "24/30"  # 6, 7, ..., 15 of 100 queries are lost, 7 gained
    assert found["of these upgrades, worse, proven"] == "24/30"  # the bound is 0.025 - 0.01 row


def test_the_cost_of_promoted_ways_counts_rows_and_models(comparison):
    found = column(promoted_cost_table(comparison), "csd")
    assert found["keep"].words == "0/33"
    assert (found["merge"].words, found["merge"].small) == ("33/33", "0 % of rows, 2.0 models")
    assert (found["any"].words, found["any"].small) == ("33/33", "0 % of rows, 2.0 models")
    assert column(promoted_cost_table(comparison), "finetune")["any"].words == "18/33"


def test_the_share_of_rows_is_weighed_by_the_rows_of_each_gallery(comparison):
    rows = comparison.results
    late = rows["after"].isin(["t6", "t7", "t8", "t9", "t10", "t11"])
    mine = np.where(late, "backfill", "merge")
    changed = rows.assign(value=rows["value"].mask(rows["measure"] == "promoted", rows["on"] == mine))
    cost = figures_of_upgrades(replace(comparison, results=changed), "csd").total_cost
    assert cost.promoted == (33, 33)
    assert cost.rows == pytest.approx(3 * sum(range(5, 11)) / (3 * sum(range(1, 11)) + 3))
    assert cost.query_models == pytest.approx((33 + 15) / 33)


def test_the_report_says_in_a_sentence_what_the_gate_promotes(comparison):
    (told,) = [each for each in sentences(comparison) if each.startswith("The gate promotes")]
    assert "The gate promotes 162/177 upgrades (finetune 18/33, " in told
    assert "177/177 pass without a row re-embedded too" in told


def test_without_a_promotion_the_sentence_says_nothing_of_promoted_ones(comparison):
    rows = comparison.results
    rows = rows[~rows["measure"].str.startswith("test_")]
    none = replace(comparison, results=rows.assign(value=rows["value"].mask(rows["measure"] == "promoted", 0.0)))
    (told,) = [each for each in sentences(none) if each.startswith("The gate promotes")]
    assert told.startswith("The gate promotes 0/177 upgrades (")
    assert DASH not in told


def test_results_of_before_have_dashes_and_no_sentence(comparison):
    rows = comparison.results
    old = rows[rows["on"].isna() | ~rows["on"].isin(["keep", "adapt", "merge", "backfill", "max_task_regression"])]
    before = replace(comparison, results=old[~old["measure"].str.startswith("test_")])
    found = words(judged_table(before), "csd")
    assert found.pop("Upgrades") == "33"
    assert set(found.values()) == {DASH}
    assert {entry.words for row in promoted_cost_table(before).rows.values() for entry in row} == {DASH}
    assert not any(each.startswith("The gate promotes") for each in sentences(before))
