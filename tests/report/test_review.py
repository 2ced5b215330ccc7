import html
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from markdown_it import MarkdownIt

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.records.check import CheckReport, Measurement, Recalls
from csd_core.records.verdict import VerdictFile
from csd_core.report.charts.reviews import COLUMNS, Row, flips, heat_map
from csd_core.report.charts.thumbnails import Thumbnails
from csd_core.report.examples import Example, Neighbour
from csd_core.report.narrative import count, percent, points
from csd_core.report.review import escaped, markdown_with_code
from csd_core.retraining import review
from csd_core.retraining.review import review_page, worst_lost
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.parts import Part
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "<script>alert(1)</script>",
    "[x](https://a.example)",
    "![x](data:image/png;base64,AA)",
    "a | b",
    "`code` and *stars* and _lines_",
    "www.a.example",
    "https://a.example",
    "&lt;b&gt; &amp;",
    "# no\n- heading",
    "a\\*b",
    "<!-- -->",
)
"""Names that mean something in Markdown or HTML."""


def page_of(files, task):
    return review_page(files, files.params(), task)


def check_of(files, task):
    return CheckReport.load(files.check(task))


def way(files, task, strategy):
    return next(each for each in check_of(files, task).alternatives if each.strategy == strategy)


def drawing(chart):
    return ET.fromstring(chart.standalone().split("\n", 1)[1])  # noqa: S314 - our own


def texts(chart):
    return [element.text for element in drawing(chart).iter(f"{SVG}text")]


def rendered(markdown):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


def copied(files, target):
    return Workspace(shutil.copytree(files.root, target))


@pytest.fixture(scope="module")
def rejected(make_line, arrival):
    """The gate itself rejects the second candidate."""
    return make_line(
        policy={
            "min_gain": 0.5,
            "max_map_regression": 0.0,
            "max_excess_flips": 0.0,
            "allowed": ["keep", "adapt", "partial", "backfill"],
        },
        t1=arrival((0, 1, 2, 3)),
        t2=arrival((4, 5, 6), drift=0.5),
    )


@pytest.fixture(scope="module")
def unchanged(make_line, arrival):
    """The second candidate is the first model again."""
    return make_line(policy={"min_gain": -0.15}, t1=arrival((0, 1, 2, 3)), t2=arrival((4, 5, 6), drift=0.0))


# --- in words ---------------------------------------------------------------------------------------------------------


def test_a_promotion_says_under_what_and_why_and_what_becomes_of_the_gallery(promoted):
    page, report = page_of(promoted.files, "t2"), check_of(promoted.files, "t2")
    keep = way(promoted.files, "t2", "keep")
    assert page.title == "t2: promoted under keep"
    assert page.headline.startswith("The gate promotes t2's candidate under keep, the cheapest way that meets every")
    before, after = report.status_quo.overall.at[1], keep.measured.overall.at[1]
    assert page.headline.endswith(f"goes from {percent(before)} to {percent(after)} %.")
    assert "t2 brings 192 images of three classes: “4”, “5” and “6”. The candidate embeds 192 new rows." in page.verdict
    assert "Of 256 stored rows none changes." in page.verdict
    why = page.verdict.partition("### Why\n\n")[2].partition("\n\n")[0].splitlines()
    assert why[0] == "- **keep** meets all 6 conditions"
    assert why[1].startswith("- **adapt**, **merge**, **partial 10 %**, ")
    assert why[1].endswith(", **partial 75 %** not judged: not in gate.allowed")
    assert [line.partition(" not")[0] for line in why[2:]] == ["- **backfill**"]


def test_a_rejection_says_which_way_was_closest_and_that_nothing_changes(rejected):
    page, report = page_of(rejected, "t2"), check_of(rejected, "t2")
    least_bad = max((each for each in report.alternatives), key=lambda each: each.measured.overall.at[1])
    assert page.title == "t2: rejected"
    assert "no way that was judged meets every condition. The closest is" in page.headline
    assert "The champion stays and embeds 192 new rows; their images wait for the next stage." in page.verdict
    assert page.headline.startswith("t2: Rejected (out of reach even by backfill): ")
    assert "No model can gain more than 50.0 points where search finds 98.2 % today." in page.headline
    assert "2. Train longer. Recall@1 on select still rises" in page.verdict
    assert "choose backfill in the form, or run `prefect deployment run approve/approve" in page.verdict
    pairs = least_bad.against_status_quo["overall"]
    assert f"Under {least_bad.name}, the least bad way, {pairs.lost} of {pairs.queries} gate queries" in page.verdict
    assert f"would find under {least_bad.name}" in texts(page.flips)


def test_a_rejection_that_more_queries_could_turn_says_so(rejected, tmp_path):
    files = copied(rejected, tmp_path / "project")
    verdict = VerdictFile.load(files.verdict("t2")).verdict
    VerdictFile(verdict=verdict.model_copy(update={"inconclusive": True})).save(files.verdict("t2"))
    page = page_of(files, "t2")
    assert page.headline.startswith("t2: Rejected (more queries could turn it): ")
    assert "more queries" not in page_of(rejected, "t2").headline


def test_an_operators_word_stands_beside_what_the_gate_alone_would_do(mixed, carried):
    page = page_of(mixed.files, "t2")
    assert page.title == "t2: promoted under partial 75 %"
    assert page.headline.startswith("An operator chose partial 75 % for t2's candidate; the gate alone would ")
    assert "| `approve` |" in page.verdict
    assert "as params.yaml decided: partial 75 %" in page.verdict
    assert page_of(carried.files, "t2").headline.startswith("An operator rejected t2's candidate; the gate alone would")


def test_a_first_model_has_nothing_to_compare_with_and_no_strategy_to_choose(alone, refused):
    page = page_of(alone.files, "t1")
    assert page.title == "t1: promoted as first model"
    assert page.headline.startswith("The gate takes t1's candidate as the first model: Recall@1 ")
    assert page.flips is None
    assert re.findall(r"^\| `([\w-]+)`", page.verdict, re.MULTILINE) == [
        "approve",
        "first-model",
        "reject-data",
        "reject-classes",
        "reject",
    ]
    assert "search would lose" not in page.verdict
    assert [row["strategy"] for row in page.table] == ["first model"]
    page = page_of(refused.files, "t1")
    assert page.headline.startswith("t1: First model rejected: mAP@R ")
    assert "Train longer. Recall@1 on select still rises" in page.headline
    assert "choose first-model in the form" in page.verdict
    assert "| `first-model` |" in page.verdict
    assert "There is no model yet, so they wait." in page.verdict


def test_what_waited_is_named(carried):
    assert "The candidate also learned from t2, which waited." in page_of(carried.files, "t3").verdict


def test_each_choice_tells_its_cost_as_it_would_be_served(mixed):
    page, report = page_of(mixed.files, "t2"), check_of(mixed.files, "t2")
    lines = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", page.verdict, re.MULTILINE))
    rejections = ["reject-model", "reject-data", "reject-classes", "reject"]
    assert list(lines) == ["approve", "keep", "adapt", "partial", "backfill", *rejections]
    for name in ("keep", "adapt", "backfill"):
        taken = way(mixed.files, "t2", name)
        recall = percent(taken.measured.overall.at[1])
        assert lines[name].startswith(f"{recall} | {taken.rows_embedded} | {taken.rows_mapped} | ")
        assert re.search("(passes the gate|fails the gate|not judged by the gate); every stored vector ", lines[name])
    new = len(Gallery.load(mixed.files.gallery("t2"))) - len(Gallery.load(mixed.files.gallery("t1")))
    live = {name: int(line.split(" | ")[3].replace(",", "")) for name, line in lines.items()}
    assert live == dict.fromkeys(live, new) | dict.fromkeys(rejections[1:], 0)
    largest = [each for each in report.alternatives if each.strategy == "partial"][-1]
    assert lines["partial"].startswith(f"{percent(largest.measured.overall.at[1])} | {largest.rows_embedded} | ")
    assert lines["reject"].startswith(f"{percent(report.status_quo.overall.at[1])} | 0 | 0 | ")


def test_what_cannot_be_chosen_says_why(promoted, narrowed):
    page = page_of(promoted.files, "t2")
    assert "- **adapt**: gate.allowed in params.yaml leaves it out" in page.verdict
    assert not re.search(r"^\| `adapt`", page.verdict, re.MULTILINE)
    page = page_of(narrowed.files, "t2")
    assert "- **keep**: the gallery has 10 dimensions, the candidate 8" in page.verdict
    keep = next(row for row in page.table if row["strategy"] == "keep")
    assert (keep["possible"], keep["all %"], keep["embedded"]) == ("no", None, None)
    assert texts(page.heat_map).count("impossible") == sum(row["possible"] == "no" for row in page.table)


def test_every_condition_is_told_and_the_first_ones_at_once(rejected):
    page = page_of(rejected, "t2")
    judged = VerdictFile.load(rejected.verdict("t2")).verdict.judged
    folded = page.verdict[page.verdict.index("<details>") : page.verdict.index("</details>")]
    conditions = [condition for each in judged for condition in each.conditions]
    assert folded.count("<li>") == len(conditions) > 0
    assert folded.count("<b>fails</b>") == sum(not condition.passed for condition in conditions)
    assert "\n\n" not in folded
    failed = [condition.words for condition in judged[-1].failed]
    assert len(failed) == 2
    assert f"  - {escaped(failed[0])}\n  - {escaped(failed[1])}\n" in f"{page.verdict}\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_users_data_reads_as_it_is_and_does_nothing(name):
    shown = rendered(f"It is {escaped(name)} indeed.")
    told = re.fullmatch(r"<p>It is (.*) indeed\.</p>\n", shown)
    assert told, shown
    assert not re.search("<[a-z!]", told[1])
    assert html.unescape(told[1]).replace("\N{WORD JOINER}", "") == " ".join(name.split())
    assert not re.search(r"://|www\.", told[1])  # some pages make links of bare addresses
    row = rendered(f"| a | b |\n|---|---|\n| {escaped(name)} | x |")
    assert row.count("<td>") == 2


def test_a_class_with_a_hostile_name_does_nothing(carried):
    page = page_of(carried.files, "t4")
    shown = rendered(f"{page.headline}\n\n{page.verdict}")
    assert "zero &amp; co" in shown
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown + page.heat_map.standalone() + (page.flips.standalone() if page.flips else "")


# --- what it is made of -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["status quo", "keep", "backfill"])
def test_the_table_has_the_figures_of_the_check(rejected, strategy):
    report = check_of(rejected, "t2")
    row = next(row for row in page_of(rejected, "t2").table if row["strategy"] == strategy)
    if strategy == "status quo":
        found, costs = report.status_quo, (None, None, None, None)
    else:
        taken = way(rejected, "t2", strategy)
        pairs = taken.against_status_quo["overall"]
        found = taken.measured
        flips = [round(100 * number / pairs.queries, 1) for number in (pairs.lost, pairs.gained)]
        costs = (*flips, taken.rows_embedded, taken.rows_mapped)
    recalls = [round(100 * group.at[1], 1) for group in (found.overall, found.old, found.new)]
    assert [row[name] for name in ("all %", "old %", "new %")] == recalls
    assert tuple(row[name] for name in ("lost %", "gained %", "embedded", "mapped")) == costs


def test_the_table_says_what_passes_and_why_the_rest_does_not(promoted, mixed):
    rows = {row["strategy"]: row for row in page_of(promoted.files, "t2").table}
    assert (rows["keep"]["passes"], rows["keep"]["why not"]) == ("yes", "")
    assert (rows["adapt"]["passes"], rows["adapt"]["why not"]) == ("not judged", "not in gate.allowed")
    rows = {row["strategy"]: row for row in page_of(mixed.files, "t2").table}
    assert rows["partial 10 %"]["why not"].startswith("not chosen on select: ")
    assert rows["backfill"]["select %"] > 0
    assert (rows["backfill"]["query models"], rows["backfill"]["searches"]) == (1, 1)
    assert rows["backfill"]["bytes a row"] > 0


def test_a_share_that_the_gate_did_not_judge_says_so(make_line, arrival):
    files = make_line(
        policy={"allowed": ["partial"], "max_regression": 1.0, "max_task_regression": 1.0, "min_gain": -1.0},
        t1=arrival((0, 1, 2, 3)),
        t2=arrival((4, 5, 6)),
    )
    rows = [row for row in page_of(files, "t2").table if row["strategy"].startswith("partial")]
    judged = [each.name for each in VerdictFile.load(files.verdict("t2")).verdict.judged if each.strategy == "partial"]
    assert judged == ["partial 10 %"]
    assert {row["strategy"] for row in rows if row["passes"] != "not judged"} == set(judged)
    assert rows[-1]["why not"] == "not needed: partial 10 % costs less and passes"


def test_before_promotion_the_page_says_what_the_gate_will_say(rejected, tmp_path):
    files = copied(rejected, tmp_path / "project")
    files.verdict("t2").unlink()
    assert page_of(files, "t2") == page_of(rejected, "t2")


def test_a_verdict_on_another_candidate_does_not_count(rejected, tmp_path):
    files = copied(rejected, tmp_path / "project")
    verdict = VerdictFile.load(files.verdict("t2")).verdict
    stale = verdict.model_copy(update={"candidate": "0" * 64, "decision": "reject"})
    VerdictFile(verdict=stale).save(files.verdict("t2"))
    assert page_of(files, "t2") == page_of(rejected, "t2")


def test_a_check_of_another_candidate_is_refused(rejected, tmp_path):
    files = copied(rejected, tmp_path / "project")
    shutil.copyfile(files.candidate_embedder("t1"), files.candidate_embedder("t2"))
    with pytest.raises(ArtifactError, match=r"check\.json: is of candidate .* run `csd run` to check it again"):
        page_of(files, "t2")


def test_no_test_image_is_looked_at(rejected, monkeypatch):
    seen, images = set(), ItemPool.images

    def watched(pool, positions):
        seen.update(pool.splits[positions].tolist())
        return images(pool, positions)

    monkeypatch.setattr(ItemPool, "images", watched)
    assert page_of(rejected, "t2").flips is not None
    assert seen == {"train", "select", "gate"}


def confused(files):
    """Positions of the queries and rows of each confusion that may be pictured."""
    pool = ItemPool(shards=[load_shard(files.shard(task)) for task in ("t1", "t2")])
    look = check_of(files, "t2").closer_look
    return [pool.positions(np.array(pair)).tolist() for each in look.confusions for pair in each.examples]


def test_confusions_are_pictured_with_queries_of_gate_and_rows_that_are_not_of_test(rejected):
    pool = ItemPool(shards=[load_shard(rejected.shard(task)) for task in ("t1", "t2")])
    pairs = confused(rejected)
    assert pairs
    for query, row in pairs:
        assert pool.splits[query] == "gate"
        assert pool.splits[row] != "test"
        assert pool.labels[query] != pool.labels[row]
    first = check_of(rejected, "t2").closer_look.confusions[0]
    page = page_of(rejected, "t2")
    assert f"“{first.found}”" in texts(page.confusions)
    assert page.confusions.title == f"t2: the most frequent confusions under {best_of(rejected).name}, on gate"


def best_of(files):
    return max(check_of(files, "t2").alternatives, key=lambda each: each.measured.overall.at[1])


def test_the_worst_classes_stand_in_a_table_with_their_counts(rejected):
    lines = re.findall(r"^\| (\d) \| (\d+) \| (\d+) \| (\d+) \|", page_of(rejected, "t2").verdict, re.MULTILINE)
    worst = best_of(rejected).by_class.worst
    assert lines == [(each.name, str(each.queries), str(each.before), str(each.after)) for each in worst]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_in_advice_does_nothing_either(name):
    shown = rendered(markdown_with_code(f"Add images of {name}, and set `gate.min_gain: 0.1` too."))
    assert "<script" not in shown
    assert not re.search("<(?!/?(p|code)>)", shown)
    assert not re.search(r"://|www\.", re.sub("<code>.*?</code>", "", shown))


def test_a_large_gate_is_drawn_from(rejected, monkeypatch):
    seen, images = set(), ItemPool.images

    def watched(pool, positions):
        seen.update(positions.tolist())
        return images(pool, positions)

    monkeypatch.setattr(ItemPool, "images", watched)
    monkeypatch.setattr(review, "ROWS", 30)
    page_of(rejected, "t2")
    pictured = {each for pair in confused(rejected) for each in pair}
    assert len(seen - pictured) <= 30 < len(seen | pictured)


# --- lost queries -----------------------------------------------------------------------------------------------------


def served(seed, *, rows=60, classes=4, noise=1.0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, 6))[np.arange(rows) % classes]
    vectors = (centres + noise * rng.normal(size=(rows, 6))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [Part(queries=vectors, rows=vectors)]


def rank(system, labels, query):
    """How many rows of other classes come before the best of the query's class."""
    (part,) = system
    cosines = part.rows @ part.queries[query]
    others = [row for row in range(len(labels)) if row != query]
    right = max(cosines[row] for row in others if labels[row] == labels[query])
    return sum(cosines[row] >= right for row in others if labels[row] != labels[query])


def test_the_worst_lost_queries_are_those_of_a_readable_loop_one_of_each_class_first():
    labels = np.array([f"c{number % 4}" for number in range(60)])
    before, after = served(1, noise=0.5), served(2, noise=1.2)
    ranks = {query: (rank(before, labels, query), rank(after, labels, query)) for query in range(60)}
    lost = {query: second for query, (first, second) in ranks.items() if first == 0 < second}
    assert len(lost) > 8
    falling = sorted(lost, key=lambda query: -lost[query])
    asked = np.arange(60)
    found = worst_lost(before, after, labels=labels, groups=asked, asked=asked, count=100).tolist()
    assert sorted(found) == sorted(lost)
    worst_of_class = {labels[query]: query for query in reversed(falling)}
    assert found[: len(worst_of_class)] == [query for query in falling if query in worst_of_class.values()]
    assert worst_lost(before, after, labels=labels, groups=asked, asked=asked, count=3).tolist() == found[:3]


def test_only_queries_that_are_asked_are_lost():
    labels = np.array([f"c{number % 4}" for number in range(60)])
    before, after = served(1, noise=0.5), served(2, noise=1.2)
    every = worst_lost(before, after, labels=labels, groups=np.arange(60), asked=np.arange(60), count=100)
    asked = np.arange(0, 60, 2)
    before_some, after_some = (
        [Part(queries=part.queries[asked], rows=part.rows) for part in system] for system in (before, after)
    )
    some = asked[worst_lost(before_some, after_some, labels=labels, groups=np.arange(60), asked=asked, count=100)]
    assert set(some.tolist()) == {query for query in every.tolist() if query % 2 == 0}
    assert len(worst_lost(before, before, labels=labels, groups=np.arange(60), asked=np.arange(60), count=6)) == 0


def test_pictures_tell_a_hit_from_a_miss_by_more_than_colour(rejected):
    chart = page_of(rejected, "t2").flips
    whole = [each for each in drawing(chart).iter(f"{SVG}rect") if each.get("stroke-width") == "2.5"]
    dashed = [each for each in whole if each.get("stroke-dasharray")]
    rows, left = divmod(len(whole), 8)
    assert 1 <= rows <= 6
    assert left == 0
    assert {each.get("stroke") for each in dashed} == {"var(--bad)"}
    assert {each.get("stroke") for each in whole if each not in dashed} == {"var(--good)"}
    assert whole[0] not in dashed  # the first query hits today
    assert whole[4] in dashed  # and would miss
    assert sum(each.tag == f"{SVG}use" for each in drawing(chart).iter()) == 9 * rows
    assert chart.body.count("data:image/png;base64,") == 1
    lost = max(check_of(rejected, "t2").alternatives, key=lambda each: each.measured.overall.at[1])
    every = count(lost.against_status_quo["overall"].lost, "query", "queries")
    assert f"{every} that search would lose" in chart.title


def neighbour(label):
    return Neighbour(item=0, label=label, hit=True)


def test_long_names_below_pictures_take_two_lines():
    found = tuple(map(neighbour, ("sneakers (women)", "coats & jackets", "glyph-001 of many", "bag")))
    example = Example(item=0, label="supercalifragilistic", outcome="lost", before=found, after=found)
    pictures = Thumbnails(items=(0,), tiles=np.zeros((1, 8, 8, 3), np.uint8))
    chart = flips("t1", under="keep", lost=[example], of=1, thumbnails=pictures)
    told = texts(chart)
    assert told[4:6] == ["supercal", "ifragil…"]
    assert told[6:13] == ["sneakers", "(women)", "coats &", "jackets", "glyph-", "001 of …", "bag"]
    assert chart.title == "t1: one query that search would lose, worst first, on gate"


def test_where_nothing_is_lost_there_are_no_pictures(unchanged):
    page = page_of(unchanged, "t2")
    assert page.flips is None
    assert "Under keep 0 of " in page.verdict


# --- the heat map -----------------------------------------------------------------------------------------------------


def figures(**recalls):
    group = Recalls(queries=10, excluded=0, at={1: recalls.pop("every")}, map_at_r=0.0)
    return Measurement(overall=group, old=group, new=None, per_task=recalls, own_gallery={})


def test_cells_tell_recall_and_the_change_that_their_colour_repeats():
    quo = figures(every=0.8, t1=0.9, t2=0.7)
    row = Row(name="keep", measured=figures(every=0.7, t1=0.9, t2=0.95), outcome="fails", marked=True)
    chart = heat_map(
        "t2",
        rows=[Row(name="status quo", measured=quo, outcome="today", marked=False), row],
        tasks=("t1", "t2"),
        status_quo=quo,
    )
    changes = [points(change) for change in (0.0, 0.25, -0.1)]
    told = [each for each in texts(chart) if re.fullmatch(r"\W?\d+\.\d", each)]
    assert told == ["90.0", "70.0", "80.0", "90.0", changes[0], "95.0", changes[1], "70.0", changes[2]]
    cells = [each for each in drawing(chart).iter(f"{SVG}rect") if each.get("height") == "38"]
    assert [each.get("fill") for each in cells[3:]] == ["var(--wash)", "var(--good)", "var(--bad)"]
    assert chart.body.count('class="ring"') == 1


def test_what_would_be_served_is_marked_and_a_rejection_marks_the_status_quo(promoted, rejected):
    for files, name in ((promoted.files, "keep"), (rejected, "status quo")):
        chart = page_of(files, "t2").heat_map
        strong = [each.text for each in drawing(chart).iter(f"{SVG}text") if each.get("class") == "strong"]
        assert name in strong
        assert chart.body.count('class="ring"') == 1


def test_of_many_tasks_those_are_shown_that_lose_most():
    names = [f"t{number}" for number in range(12)]
    quo = figures(every=0.9, **dict.fromkeys(names, 0.9))
    worst = {"t2", "t5"}
    after = figures(every=0.8, **{name: 0.5 if name in worst else 0.8 + int(name[1:]) / 200 for name in names})
    rows = [
        Row(name="status quo", measured=quo, outcome="today", marked=False),
        Row(name="keep", measured=after, outcome="passes", marked=True),
    ]
    told = texts(heat_map("t11", rows=rows, tasks=names, status_quo=quo))
    shown = [each for each in told if each in names]
    assert len(shown) == COLUMNS
    assert shown[-1] == "t11"
    assert worst <= set(shown)
    assert "four tasks left out, where less is lost" in told


def test_long_names_of_tasks_stand_slanted_over_their_columns():
    quo = figures(every=0.9, t1=0.9)
    name = "batch-2026-12-of-shoes"
    rows = [Row(name="status quo", measured=quo, outcome="today", marked=False)]
    level = heat_map("t1", rows=rows, tasks=["t1"], status_quo=quo)
    slanted = heat_map("t1", rows=rows, tasks=["t1", name], status_quo=quo)
    assert "rotate" not in level.body
    assert slanted.body.count("rotate(-35)") == 3
    assert "batch-2026-12-of-…" in texts(slanted)
    assert slanted.height > level.height


def test_a_task_whose_gate_queries_cannot_hit_has_no_column(make_line, arrival):
    roles = ("train", "gate", "train", "select")
    files = make_line(
        t1=arrival((0, 1, 2)),
        t2=arrival((4, 5), images=4, roles=roles, decision="keep"),
        policy={"min_gain": -1.0},
        searchable=("gate",),
    )
    told = texts(page_of(files, "t2").heat_map)
    assert "t1" in told
    assert "t2" not in told
