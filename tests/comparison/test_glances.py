"""The short tables, of figures that are drawn, and those that docs/evidence.md took from its report."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic import ALONE, MISSING, PLANNED, loaded, values, written

from csd_core import cli
from csd_core.comparison.report.summary_tables import glance_table, pairs_table, seed_table
from csd_core.report.narrative import DASH, MINUS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return loaded(written(tmp_path_factory.mktemp("results")))


def row(table, name):
    """Head -> what stands below it in a row."""
    return dict(zip(table.head[1:], (entry.words for entry in table.rows[name]), strict=True))


def shown(share):
    return f"{100 * share:.1f}".replace("-", MINUS)


def test_at_a_glance_a_figure_is_the_mean_of_its_seeds_to_a_tenth(comparison):
    found = list(values("glyphs-2", "csd", "average").values())
    mine = row(glance_table(comparison, "glyphs-2"), "csd")
    assert mine["Average\N{NO-BREAK SPACE}↑"] == f"{shown(np.mean(found))} ± {shown(np.std(found, ddof=1))}"
    assert mine["Seeds"] == "3"


def test_at_a_glance_old_items_stand_before_and_after_beside_how_often_more_was_found(comparison):
    mine = row(glance_table(comparison, "digits-11"), "joint ‡")
    assert mine["Old items, before"] == "90.0 ± 0.0"
    assert mine["Old items, raw\N{NO-BREAK SPACE}↑"] == "92.0 ± 0.0"
    assert mine["ECC keep"] == "30/30"
    assert row(glance_table(comparison, "digits-11"), "finetune")["ECC adapt"] == "0/30"


def test_at_a_glance_one_seed_stands_without_a_deviation(comparison):
    profile, contender = ALONE
    (only,) = values(profile, contender, "average").values()
    mine = row(glance_table(comparison, profile), contender)
    assert mine["Average\N{NO-BREAK SPACE}↑"] == shown(only)
    assert mine["Seeds"] == "1"


def test_seed_by_seed_every_pair_has_its_difference_and_a_missing_one_none(comparison):
    table = seed_table(comparison, MISSING.contender)
    theirs = values("glyphs-2", "csd", "average")
    each = [mine - theirs[seed] for seed, mine in values("glyphs-2", "lwf", "average").items()]
    first, gap, last = row(table, "glyphs-2")["Average\N{NO-BREAK SPACE}↑"].split(", ")
    assert gap == DASH
    assert [float(word.replace(MINUS, "-")) for word in (first, last)] == pytest.approx(
        [100 * value for value in each], abs=0.06
    )
    pooled = table.rows["all pairs"][0]
    assert pooled.small.endswith(f"; {sum(value > 0 for value in _all('lwf'))}/3")
    assert pooled.words == (f"{100 * np.mean(_all('lwf')):+.1f}").replace("-", MINUS)


def _all(contender):
    pairs = (
        (values(profile, contender, "average"), values(profile, "csd", "average"))
        for profile in ("glyphs-2", "digits-11")
    )
    return [mine[seed] - theirs[seed] for mine, theirs in pairs for seed in mine]


def test_seed_by_seed_profiles_are_also_counted_once_each(comparison):
    table = seed_table(comparison, "frozen")
    means = []
    for profile in ("glyphs-2", "digits-11"):
        mine, theirs = values(profile, "frozen", "average"), values(profile, "csd", "average")
        means.append(np.mean([mine[seed] - theirs[seed] for seed in mine]))
    found = table.rows["all profiles"][0]
    half = stats.t.ppf(0.975, 1) * np.std(means, ddof=1) / np.sqrt(2)
    low, high = (f"{100 * value:+.1f}".replace("-", MINUS) for value in (np.mean(means) - half, np.mean(means) + half))
    assert found.words == f"{100 * np.mean(means):+.1f}".replace("-", MINUS)
    assert found.small == f"{low} to {high}; 0/2"


def test_pairs_of_a_profile_are_those_of_each_contender(comparison):
    table = pairs_table(comparison, "glyphs-2")
    assert [*table.rows] == ["finetune", "frozen", "joint ‡", "lwf", "csd-mild"]
    for name in ("finetune", "lwf"):
        assert row(table, name) == row(seed_table(comparison, name), "glyphs-2")


def test_seed_by_seed_a_single_pair_makes_no_table(tmp_path):
    planned = tuple(cell for cell in PLANNED if cell.profile == "glyphs-2" and cell.seed == 1)
    assert seed_table(loaded(written(tmp_path, cells=planned), planned=planned), "finetune") is None


def test_the_report_of_the_evidence_is_that_of_its_results(tmp_path, monkeypatch):
    monkeypatch.chdir(DOCS.parent)
    arguments = ["comparisons/evidence.yaml", "--folder", "docs/evidence", "-o", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", "report", *arguments])
    assert stopped.value.code == 0
    again = (tmp_path / "report.md").read_text(encoding="utf-8")
    told = "copy report.md of: csd compare report comparisons/evidence.yaml --folder docs/evidence -o FOLDER"
    assert (DOCS / "evidence" / "report.md").read_text(encoding="utf-8") == again, told


def test_every_row_that_the_evidence_shows_stands_in_its_report():
    report = (DOCS / "evidence" / "report.md").read_text(encoding="utf-8").splitlines()
    shown = [line for line in (DOCS / "evidence.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(shown) > 50
    assert [line for line in shown if line not in report] == []


STREAMS = {
    "Fashion-MNIST, 2 tasks": "fashion-mnist-2",
    "Fashion-MNIST, 5 tasks": "fashion-mnist-5",
    "glyphs, 2 tasks": "glyphs-2",
    "glyphs, 5 tasks": "glyphs-5",
    "glyphs, 10 tasks": "glyphs-10",
}


def test_the_readmes_figures_are_those_of_the_evidence():
    report = (DOCS / "evidence" / "report.md").read_text(encoding="utf-8")
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for stream, profile in STREAMS.items():
        table = report.split(f"**{profile} at a glance**")[1]
        csd, plus = (
            [entry.split()[0] for entry in re.search(rf"^\| {name} \|(.*)\|$", table, re.MULTILINE)[1].split("|")]
            for name in ("csd", "csd_plus")
        )
        columns = (0, 1, 5, 6, 7)  # average, all seen, old items before, raw and adapted
        wanted = [each[column] for column in columns for each in (csd, plus)]
        (row,) = re.findall(rf"^\| {stream} \|(.*)\|$", readme, re.MULTILINE)
        assert re.findall(r"\d+\.\d", row) == wanted
