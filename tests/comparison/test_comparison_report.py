"""The report of a comparison, of figures that are drawn."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from synthetic import ALONE, DIGEST, LEVELS, MISSING, PLANNED, PROFILES, loaded, values, written

from csd_core import cli
from csd_core.comparison.report.page import write_report
from csd_core.comparison.report.tables import cost_table, difference_table, profile_table
from csd_core.comparison.report.text import by_contender, headline, sentences
from csd_core.comparison.report.upgrade_tables import count_table, upgrade_table
from csd_core.comparison.results.figures import part
from csd_core.comparison.results.intervals import compare, spread
from csd_core.comparison.results.table import FILE, SCHEMA, read_results
from csd_core.comparison.running.runs import Cell, params_of
from csd_core.comparison.running.spec import load_spec
from csd_core.report.narrative import DASH, MINUS
from csd_core.system.errors import ArtifactError, ParamsError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return written(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def comparison(results):
    return loaded(results)


def entry(table, contender, head):
    """The entry of a contender below a head."""
    place = next(number for number, each in enumerate(table.head) if each.startswith(head))
    return table.rows[contender][place - 1]


def shown(share):
    """As a table shows it."""
    return f"{100 * share:.2f}".replace("-", MINUS)


@pytest.mark.parametrize("contender", ["finetune", "csd", "joint ‡"])
def test_a_figure_is_the_mean_of_its_seeds_beside_their_deviation(comparison, contender):
    table = profile_table(comparison, "digits-11")
    found = list(values("digits-11", contender.split()[0], "average").values())
    assert entry(table, contender, "Average").words == f"{shown(np.mean(found))} ± {shown(np.std(found, ddof=1))}"
    assert entry(table, contender, "Seeds").words == "3"


def test_one_seed_has_no_deviation(comparison):
    profile, contender = ALONE
    (only,) = values(profile, contender, "average").values()
    assert entry(profile_table(comparison, profile), contender, "Average").words == f"{shown(only)} ± {DASH}"


def test_the_initial_and_the_final_task_are_those_after_the_last_stage(comparison):
    table = profile_table(comparison, "digits-11")
    for head, task in (("Initial task", "t1"), ("Final task", "t11")):
        mean = np.mean(list(values("digits-11", "csd", "recall_own", "t11", task).values()))
        assert entry(table, "csd", head).words.startswith(shown(mean))


def test_the_best_has_as_many_seeds_as_others(comparison):
    profile, contender = ALONE
    rows = comparison.results.drop((profile, contender, 1))
    best = rows.loc[[(profile, "joint", 1)]].rename({"joint": contender}, level="contender")  # better than all others
    table = profile_table(replace(comparison, results=pd.concat([rows, best])), profile)
    assert not entry(table, contender, "Average").best
    assert sum(entry(table, name, "Average").best for name in table.rows) == 1


def test_the_best_competes_with_neither_the_upper_bound_nor_what_is_trivial(comparison):
    table = profile_table(comparison, "glyphs-2")
    assert not entry(table, "joint ‡", "Average").best
    means = {name: np.mean(list(values("glyphs-2", name, "average").values())) for name in LEVELS if name != "joint"}
    best = max(means, key=means.get)
    assert [name for name in table.rows if entry(table, name, "Average").best] == [best]
    assert entry(table, "frozen", "Forgetting R@1, own").words.endswith("†")
    assert not entry(table, "frozen", "Forgetting R@1, own").best
    assert len(table.note.split("\n\n")) == 2


def test_where_all_print_alike_none_is_the_best(tmp_path):
    alone = [cell for cell in PLANNED if cell.contender in {"csd", "joint"}]
    table = profile_table(loaded(written(tmp_path, cells=alone), planned=alone), "glyphs-2")
    assert not any(each.best for entries in table.rows.values() for each in entries)


def test_lower_is_better_where_it_is_forgetting(comparison):
    table = profile_table(comparison, "digits-11")
    means = {
        name: np.mean(list(values("digits-11", name, "forgetting_own_accuracy").values()))
        for name in LEVELS
        if name != "joint"
    }
    assert entry(table, min(means, key=means.get), "Forgetting acc., own").best


@pytest.mark.parametrize("seed", range(5))
def test_an_interval_is_that_of_a_paired_t_test(seed):
    first, second = np.random.default_rng(seed).normal(size=(2, 2 + seed))
    found = compared(first - second)
    low, high = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), abs=1e-6)
    assert found.mean == pytest.approx(np.mean(first - second), abs=1e-8)
    assert found.positive == sum(first > second)


def compared(differences):
    """The differences of one contender in one figure."""
    index = pd.Index(["csd"] * len(differences), name="contender")
    return compare(pd.DataFrame({"average": differences}, index=index))["csd", "average"]


def test_one_pair_decides_nothing_and_no_pair_is_nothing():
    found = compared([0.4])
    assert (found.mean, found.pairs, found.decided) == (0.4, 1, False)
    assert np.isnan(found.half)
    assert compared([np.nan]).pairs == 0
    assert spread([]) is None


def test_differences_are_of_the_same_seed_and_leave_out_what_one_side_lacks(comparison):
    found = compare(part(comparison.differences, "glyphs-2"))["lwf", "recall_seen"]
    mine, theirs = (values("glyphs-2", name, "recall_seen", "t2") for name in ("lwf", "csd"))
    assert set(theirs) - set(mine) == {MISSING.seed}
    assert found.pairs == len(mine) == 2
    assert found.mean == pytest.approx(np.mean([mine[seed] - theirs[seed] for seed in mine]), abs=1e-8)


def test_over_all_profiles_a_pair_is_a_profile_and_a_seed(comparison):
    found = comparison.pooled["finetune", "recall_seen"]
    each = [
        values(profile, "finetune", "recall_seen", last)[seed] - values(profile, "csd", "recall_seen", last)[seed]
        for profile, last in (("glyphs-2", "t2"), ("digits-11", "t11"))
        for seed in (1, 2, 3)
    ]
    assert (found.pairs, found.positive) == (6, sum(value > 0 for value in each))
    assert found.mean == pytest.approx(np.mean(each), abs=1e-8)
    told = entry(difference_table(comparison), "finetune", "All seen")
    assert told.words.endswith("*")
    assert told.tone == "bad"
    assert told.small.endswith("0/6")


def test_an_upgrade_tells_how_often_the_criterion_held(comparison):
    table = upgrade_table(comparison, "digits-11")
    assert entry(table, "joint", "ECC keep").words == "30/30"
    assert entry(table, "finetune", "ECC keep").words == "0/30"
    assert entry(table, "csd", "Gate passes backfill").words == "30/30"
    assert entry(table, "csd", "Cross-test, raw").words.startswith(shown(0.9 + 0.92 - 0.95))


def test_over_all_profiles_it_is_counted_in_how_many_cells_and_upgrades_something_is_so(comparison):
    table = count_table(comparison)
    for which, head in (("own", "Features forget less, own"), ("seen", "Features forget less, all")):
        less = [
            values(profile, "finetune", f"forgetting_{which}_recall")[seed]
            < values(profile, "finetune", f"forgetting_{which}_accuracy")[seed]
            for profile in PROFILES
            for seed in (1, 2, 3)
        ]
        assert entry(table, "finetune", head).words == f"{sum(less)}/6"
    assert entry(table, "joint ‡", "ECC keep").words == "33/33"
    assert entry(table, "csd", "ECC keep").words == "0/33"
    assert entry(table, "csd", "Gate passes none").words == "0/33"
    assert entry(table, "lwf", "ECC adapt").words == "0/12"  # two seeds of one upgrade, one of ten
    assert entry(table, "all", "Gate passes backfill").words == "177/177"
    assert entry(table, "all", "Features forget less, all").words == "33/33"


def test_an_upgrade_that_no_strategy_passes_is_counted(comparison):
    rows = comparison.results
    refused = (rows.index == ("glyphs-2", "lwf", 1)) & rows["measure"].str.startswith("would_pass_")
    table = count_table(replace(comparison, results=rows.assign(value=rows["value"].mask(refused, 0.0))))
    assert entry(table, "lwf", "Gate passes none").words == "1/12"
    assert entry(table, "all", "Gate passes none").words == "1/177"


def test_the_accuracy_of_the_classifier_stands_beside_what_features_find(comparison):
    found = values("digits-11", "csd", "accuracy_seen", "t11")
    assert entry(profile_table(comparison, "digits-11"), "csd", "Accuracy, all seen").words.startswith(
        shown(np.mean(list(found.values())))
    )


def test_cost_is_relative_to_finetuning_in_the_same_place(comparison):
    table = cost_table(comparison)
    found = [(15 + seed) / (10 + seed) for seed in (1, 2, 3)]
    counts = (1, 10)  # upgrades of the profiles
    each = [value for value in found for _ in range(sum(counts))]
    assert entry(table, "csd", "Time per stage").words == f"{np.median(each):.2f}"
    quartiles = f"{np.quantile(each, 0.25):.2f} to {np.quantile(each, 0.75):.2f}"
    assert entry(table, "csd", "Time per stage").small == quartiles
    assert entry(table, "finetune", "Time per image").words == "1.00"


def test_missing_cells_are_named(comparison):
    assert by_contender(comparison.missing) == (f"{MISSING.profile}/{MISSING.contender}: seed {MISSING.seed}",)
    assert headline(comparison) == "Six contenders on two profiles"
    assert sentences(comparison)[0] == f"1 of {len(PLANNED)} cells has not run; it is named at the end."


def test_cells_that_are_not_planned_stay_out_of_every_figure(results, comparison):
    fewer = loaded(results, planned=[cell for cell in PLANNED if cell.seed != 3])
    assert {cell.seed for cell in fewer.stray} == {3}
    assert entry(profile_table(fewer, "glyphs-2"), "csd", "Seeds").words == "2"
    assert not comparison.stray


def test_cells_that_were_run_with_other_parameters_are_counted_and_named(results, comparison, tmp_path):
    assert not comparison.outdated
    planned = {cell: "other" if cell.seed == 3 and cell.profile == "glyphs-2" else DIGEST for cell in PLANNED}
    changed = loaded(results, planned=planned)
    assert entry(profile_table(changed, "glyphs-2"), "csd", "Seeds").words == "3"
    assert (
        sentences(changed)[1]
        == "6 of 33 cells were run with other parameters than are planned now; they are named at the end."
    )
    write_report(changed, results, tmp_path)
    for name in ("report.md", "index.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.count("6 of 33 cells were run with other parameters") == 2
        assert "glyphs-2/csd-mild: seed 3" in text
        assert "digits-11/csd" not in text


def test_results_without_a_planned_cell_are_refused(results):
    with pytest.raises(ArtifactError, match="none of the 1 planned cells has run"):
        loaded(results, planned=[Cell("glyphs-2", "csd", 9)])


@pytest.mark.parametrize("lacking", [("gate_", "ecc_", "would_"), ("train_seconds",), ("bc", "average")])
def test_a_report_of_runs_without_some_measures_shows_dashes(tmp_path, lacking):
    rows = read_results(written(tmp_path))
    few = rows[~rows["measure"].str.startswith(lacking)]
    pq.write_table(pa.Table.from_pandas(few, SCHEMA, preserve_index=False).replace_schema_metadata(), tmp_path / FILE)
    write_report(loaded(tmp_path / FILE), tmp_path / FILE, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"| {DASH} |" in text
    assert "nan" not in text


def test_before_the_reference_has_run_nothing_is_compared_with_it(tmp_path):
    path = written(tmp_path, cells=[cell for cell in PLANNED if cell.contender != "csd"])
    found = loaded(path)
    assert {each.words for row in difference_table(found).rows.values() for each in row} == {DASH}
    write_report(found, path, tmp_path)
    for name in ("report.md", "index.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "all profiles: how often" in text
        assert "all profiles: contender less csd" not in text
        assert "Seed by seed" not in text
    assert "<h2>Over all profiles</h2>" in text


def test_equal_figures_give_equal_bytes(results, comparison, tmp_path):
    for name in ("one", "two"):
        write_report(comparison, results, tmp_path / name)
    names = {"report.md", "results.csv", "index.html"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def test_the_csv_repeats_every_figure(results, comparison, tmp_path):
    write_report(comparison, results, tmp_path)
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["seed"]: float(row["value"]) for row in rows if _is(row, "glyphs-2", "csd", "average")}
    assert found == {str(seed): value for seed, value in values("glyphs-2", "csd", "average").items()}


def _is(row, *names):
    return (row["profile"], row["contender"], row["measure"]) == names


SPEC = """
profiles: {glyphs-2: {}, digits-11: {}}
contenders: {finetune: {}, frozen: {}, joint: {}, lwf: {}, csd: {}, csd-mild: {overrides: {training: {seed: 1}}}}
seeds: [1, 2, 3]
reference: csd
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the two profiles and the comparison of them."""
    (tmp_path / "profiles").mkdir()
    shutil.copy(ROOT / "csd_core/project/profiles" / "digits.yaml", tmp_path / "profiles")
    for name in PROFILES:
        shutil.copy(ROOT / "csd_core/project/profiles" / "tiny.yaml", tmp_path / "profiles" / f"{name}.yaml")
    (tmp_path / "drawn.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digests(spec):
    """Of the parameters of each cell that is planned."""
    found = params_of(load_spec(spec), project=spec.parent, where=spec.name)
    return {cell: each.digest for cell, each in found.items()}


def ended(*arguments):
    """The exit code of `csd compare`."""
    with pytest.raises(SystemExit) as left:
        cli.main(["compare", *arguments])
    return left.value.code


def test_the_command_writes_the_report_beside_the_results_or_where_it_is_told(project, capsys):
    written(project / "comparisons" / "runs" / "drawn", params=digests(project / "drawn.yaml"))
    assert ended("report", "drawn.yaml") == 0
    assert capsys.readouterr().out.strip() == "comparisons/runs/drawn/index.html: 33 of 36 cells"
    assert ended("report", "drawn.yaml", "-o", "elsewhere") == 0
    one, two = (project / name / "report.md" for name in ("comparisons/runs/drawn", "elsewhere"))
    assert one.read_bytes() == two.read_bytes()
    assert "## 3 of 36 cells have not run" in one.read_text(encoding="utf-8")
    assert "- digits-11/lwf: seeds 2, 3" in one.read_text(encoding="utf-8")
    assert "other parameters" not in one.read_text(encoding="utf-8")


def test_the_command_compares_with_whom_it_is_told_to(project, capsys):
    written(project / "comparisons" / "runs" / "drawn", params=digests(project / "drawn.yaml"))
    assert ended("report", "drawn.yaml", "--reference", "lwf", "-o", "elsewhere") == 0
    told = (project / "elsewhere" / "report.md").read_text(encoding="utf-8")
    assert "all profiles: contender less lwf, paired by (profile, seed)" in told
    assert "less csd" not in told
    assert ended("report", "drawn.yaml", "--reference", "lfw") == ParamsError.exit_code
    assert "drawn.yaml: has no contender lfw; it has finetune, frozen" in capsys.readouterr().err


def test_a_comparison_that_was_edited_after_its_cells_ran_says_which_are_of_before(project):
    written(project / "comparisons" / "runs" / "drawn", params=digests(project / "drawn.yaml"))
    edited = SPEC.replace("frozen: {}", "frozen: {overrides: {training: {later: {epochs: 7}}}}")
    (project / "drawn.yaml").write_text(edited)
    assert ended("report", "drawn.yaml") == 0
    told = (project / "comparisons/runs/drawn/report.md").read_text(encoding="utf-8")
    assert "## 6 of 33 cells were run with other parameters" in told
    assert told.endswith("- digits-11/frozen: seeds 1, 2, 3\n- glyphs-2/frozen: seeds 1, 2, 3\n")


def test_the_command_without_results_says_what_to_run(project, capsys):
    assert ended("report", "drawn.yaml") == ArtifactError.exit_code
    assert "comparisons/runs/drawn/results.parquet: missing; `csd compare run` makes it" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_in_a_browser_without_a_word_of_complaint(browser, results, comparison, tmp_path, scheme):
    write_report(comparison, results, tmp_path)
    said = []
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto((tmp_path / "index.html").as_uri())
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    assert page.locator("h1").inner_text() == "Six contenders on two profiles"
    assert page.locator("section[id^=profile-] svg").count() >= 10
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
    assert said == []
