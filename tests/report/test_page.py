import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.report.charts.tasks import charts
from csd_core.report.narrative import DASH
from csd_core.report.page import html_with_code, render
from csd_core.report.verdicts import ADAPTERS

VOID = {"meta", "br", "hr", "img", "link", "input"}
STORIES = ("promoted", "alone", "refused", "carried", "late", "unmeasured", "untested", "mixed", "unstored", "narrowed")


class Outline(HTMLParser):
    """Notes every element, and complains about what is closed in the wrong order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def outline(page):
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    return parsed


@pytest.mark.parametrize("report_data", STORIES)
def test_the_page_is_well_formed_and_asks_no_network(request, report_data):
    told = request.getfixturevalue(report_data)
    parsed = outline(told.page)
    for _, attributes in parsed.elements:
        for name in ("src", "action", "data", "poster"):
            assert name not in attributes
        assert attributes.get("href", "#").startswith("#")
    assert not {tag for tag, _ in parsed.elements} & {"script", "link", "iframe", "object"}
    assert re.findall(r"url\((?!data:image/png;base64,)", told.page) == []
    assert "@import" not in told.page


@pytest.mark.parametrize("report_data", STORIES)
def test_ids_are_unique_and_every_reference_has_its_target(request, report_data):
    elements = outline(request.getfixturevalue(report_data).page).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [each for _, attributes in elements for each in attributes.get("aria-labelledby", "").split()]
    assert set(wanted) <= set(ids)


@pytest.mark.parametrize("report_data", STORIES)
def test_every_picture_has_words(request, report_data):
    pictures = [
        attributes
        for _, attributes in outline(request.getfixturevalue(report_data).page).elements
        if "role" in attributes
    ]
    for attributes in pictures:
        if attributes["role"] == "img":
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")


def test_a_hostile_class_name_is_text(carried):
    parsed = outline(carried.page)
    assert "<script>alert(1)</script>" not in carried.page
    assert any("<script>alert(1)</script>" in text for text in parsed.texts)
    labels = [attributes.get("aria-label", "") for _, attributes in parsed.elements]
    assert any("<script>alert(1)</script>" in label for label in labels)


def test_the_file_of_a_picture_is_shown_as_text(carried):
    data = carried.report_data
    names = ('shoes/it\'s "new" <script>alert(2)</script>.jpg', "\N{CJK UNIFIED IDEOGRAPH-9774}.png", "x" * 300)
    files = {item: f"{names[item % 3]} in photos" for item in data.files}
    page = render(replace(data, files=files), carried.metrics, charts(data, carried.metrics))
    parsed = outline(page)
    assert "<script>alert(2)" not in page
    asked = {files[example.item] for upgrade in data.upgrades for example in upgrade.shown}
    assert asked <= set(parsed.texts)
    titles = [attributes.get("title", "") for tag, attributes in parsed.elements if attributes.get("class") == "tile"]
    assert {title.partition("; ")[2] for title in titles} == set(files.values())


def test_the_same_story_gives_the_same_bytes(carried):
    again = render(carried.report_data, carried.metrics, charts(carried.report_data, carried.metrics))
    assert again == carried.page


def test_the_page_shows_the_matrix_with_its_marks(promoted):
    cells = re.findall(r'<td class="(own)?" style="--tint:\d+">([\d.]+)', promoted.page)
    cross = promoted.report_data.figures.cross
    expected = [
        (("own" if row == column else ""), f"{100 * cross[row, column]:.1f}")
        for row in range(3)
        for column in range(row + 1)
    ]
    assert cells == expected


def test_marks_of_neighbours_say_hit_or_miss(promoted):
    shown = [each for upgrade in promoted.report_data.upgrades for each in upgrade.shown]
    hits = sum(neighbour.hit for each in shown for neighbour in (*each.before, *each.after))
    assert promoted.page.count('<li class="hit">') == hits
    assert len(shown) == 12


def table(page, label):
    """The rows of a table's body, as texts."""
    found = re.search(rf'aria-label="{label}">\s*<table.*?<tbody>(.*?)</tbody>', page, re.DOTALL).group(1)
    rows = re.findall(r"<tr.*?>(.*?)</tr>", found, re.DOTALL)
    return [
        [
            " ".join(re.sub(r"<.*?>", " ", cell).split())
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in rows
    ]


def test_every_way_to_serve_is_on_the_page_with_its_cost_and_recall(mixed):
    task = mixed.report_data.tasks[1]
    quo, *rows = table(mixed.page, "Ways to serve t2")
    assert quo[0] == "status quo"
    assert quo[3] == f"{100 * task.check.status_quo.overall.at[1]:.1f}"
    assert len(rows) == len(task.check.alternatives) == 8
    for row, alternative in zip(rows, task.check.alternatives, strict=True):
        pairs = alternative.against_status_quo["overall"]
        assert row[0].removesuffix(" taken") == alternative.name
        rehearsed = next(each for each in task.check.rehearsal.alternatives if each.way == alternative.way)
        assert row[2:] == [
            f"{100 * rehearsed.measured.overall.at[1]:.1f}",
            f"{100 * alternative.measured.overall.at[1]:.1f}",
            str(pairs.lost),
            str(pairs.gained),
            str(alternative.rows_embedded),
            str(alternative.rows_mapped),
            str(alternative.query_models),
            str(alternative.searches),
            str(alternative.row_bytes),
        ]
    assert [row[0] for row in rows if row[0].endswith("taken")] == ["partial 75 % taken"]


def test_a_way_that_is_not_possible_is_on_the_page_with_its_reason(mixed):
    task = mixed.report_data.tasks[2]
    adapt = task.check.alternatives[1]
    no_way = adapt.model_copy(
        update={"possible": False, "why_not": "no <b>way</b>", "measured": None, "against_status_quo": {}}
    )
    keep = task.check.alternatives[0]
    verdict = task.verdict.model_copy(
        update={
            "strategy": "keep",
            "ways": tuple(
                each.model_copy(
                    update={
                        "passed": False,
                        "why_not": no_way.why_not,
                        "conditions": (),
                        "cost": None,
                        "on_select": None,
                    }
                )
                if each.strategy == "adapt"
                else each
                for each in task.verdict.ways
            ),
        }
    )
    check = task.check.model_copy(update={"alternatives": (keep, no_way, *task.check.alternatives[2:])})
    tasks = (*mixed.report_data.tasks[:2], replace(task, check=check, verdict=verdict), mixed.report_data.tasks[3])
    report_data = replace(mixed.report_data, tasks=tasks)
    page = render(report_data, mixed.metrics, charts(report_data, mixed.metrics))
    row = table(page, "Ways to serve t3")[2]
    assert row == ["adapt", "✗ ruled out: no &lt;b&gt;way&lt;/b&gt;", *9 * [DASH]]


def test_adapters_are_on_the_page_for_each_provenance(mixed):
    task = mixed.report_data.tasks[2]
    rows = table(mixed.page, "Adapters of t3")
    assert len(rows) == sum(len(fit.kept) for fit in task.adapters.fits) == 12
    models = [row[0].split()[0] for row in rows if len(row) == 4]
    assert models == ["t2", "t1"]
    assert "64 rows, mapped once" in rows[6][0]
    used = [row[-3] for row in rows]
    expected = [
        ADAPTERS[offer.method]
        + ("" if offer.strength is None else f" {offer.strength:g}")
        + (", centred" if offer.centred else "")
        + (" ✓ used" if offer.digest == fit.chosen else "")
        for fit in task.adapters.fits
        for offer in fit.kept
    ]
    assert used == expected


def test_where_no_adapter_was_fitted_the_page_says_why(mixed):
    task = mixed.report_data.tasks[1]
    none = task.adapters.model_copy(update={"fits": (), "why_not": "no model is <i>retained</i>"})
    report_data = replace(mixed.report_data, tasks=(mixed.report_data.tasks[0], replace(task, adapters=none)))
    page = render(report_data, mixed.metrics, {})
    assert "No adapter was fitted: no model is &lt;i&gt;retained&lt;/i&gt;." in page


def test_rows_by_provenance_add_up_to_the_galleries(mixed):
    rows = table(mixed.page, "Rows by provenance")
    for task in mixed.report_data.tasks:
        mine = [int(row[-1].replace(",", "")) for row in rows if row[0] == task.name]
        assert sum(mine) == sum(group.rows for group in task.groups)
        assert len(mine) == len(task.groups)


def test_a_first_model_has_no_upgrade_to_show(alone):
    assert 'id="upgrades"' not in alone.page
    assert 'id="examples"' not in alone.page


def test_how_many_stored_vectors_were_made_anew_is_counted_over_all_upgrades(mixed):
    assert re.search(r"<dd>192 <small>of 704</small></dd>", mixed.page)


def test_lost_hits_come_first_and_are_titled(carried):
    for upgrade in carried.report_data.upgrades:
        outcomes = [each.outcome for each in upgrade.shown]
        ranks = [{"lost": 0, "gained": 1}.get(outcome, 2) for outcome in outcomes]
        assert ranks == sorted(ranks)
    page = carried.page[carried.page.index('<section id="examples">') :]
    titles = re.findall(r'<h4 class="flips">(.*?) <span class="note">(\d+) of (\d+)</span>', page)
    expected = [
        (title, str(len(shown)), str(total))
        for upgrade in carried.report_data.upgrades
        for title, shown, total in (
            ("Hits lost", upgrade.of("lost"), upgrade.lost),
            ("Hits gained", upgrade.of("gained"), upgrade.gained),
            (
                "Unchanged at the first neighbour",
                upgrade.of("kept", "missed"),
                upgrade.queries - upgrade.lost - upgrade.gained,
            ),
        )
        if shown
    ]
    assert titles == expected
    assert "Hits lost" in {title for title, *_ in titles}


def test_where_test_images_are_not_stored_the_page_says_so(unstored):
    assert "test images are not in the gallery, because gallery.splits leaves test out" in unstored.page
    assert 'class="queries"' not in unstored.page


def test_conditions_of_failed_strategies_are_on_the_page(refused):
    assert "✗ no" in refused.page
    assert "required 100.0 %" in refused.page
    assert "No model has been promoted, so there is nothing to compare." in refused.page


def test_one_model_says_why_there_are_no_pairs(alone):
    assert "no pairs to compare" in alone.page


def test_a_line_without_test_images_says_what_to_do(untested):
    assert "give split.test a share above 0" in untested.page


def test_provenance_names_data_models_and_parameters(promoted):
    for task in promoted.report_data.tasks:
        for digest in (task.shard.digest, task.entry.candidate, task.entry.champion, task.entry.gallery):
            assert digest in promoted.page
    assert "max_regression: 0.15" in promoted.page
    assert "threads: 2" in promoted.page
    assert "max_in_memory_mb:" not in promoted.page


def test_waiting_data_is_named_where_it_was_learned(carried):
    assert "trained with t2, which waited" in carried.page


def candidates_of(page):
    start = page.index('<section id="candidates">')
    return page[start : page.index("</section>", start)]


def test_a_rejection_shows_what_failed_what_to_do_and_what_queries_find(mixed, refused):
    for told, name in ((mixed, "t4"), (refused, "t1"), (refused, "t2")):
        task = next(each for each in told.report_data.tasks if each.name == name)
        section = candidates_of(told.page)
        shown = html.unescape(re.sub("<[^>]*>", "", section))
        for step in task.advice.steps:
            assert step.words.replace("`", "") in shown
        for condition in task.failed.failed:
            assert condition.words in shown
        for each in task.looked_at.by_class.worst:
            assert (f">{each.name}</th>" in section) == (each.recall < 1)
        assert [each.item for each in task.examples.shown] != []
        assert all(each.before for each in task.examples.shown) == (task.check.status_quo is not None)


def test_a_promotion_has_its_classes_but_nothing_to_do(promoted):
    section = candidates_of(promoted.page)
    assert "What you can do" not in section
    assert section.count("The worst classes under ") == 2  # the first model finds all of its classes
    assert [task.examples for task in promoted.report_data.tasks] == [None] * 3


def test_confusions_and_examples_of_a_candidate_picture_no_image_of_test(mixed, refused):
    for told in (mixed, refused):
        tasks = [task.name for task in told.report_data.tasks]
        pool = ItemPool(shards=[load_shard(told.files.shard(task)) for task in tasks])
        tests = len(pool.rows("test"))
        for task in told.report_data.tasks:
            items = set(task.examples.items if task.examples else ())
            items |= {item for each in task.mistakes for pair in each.pairs for item in pair}
            assert all(pool.splits[item - tests] != "test" for item in items)
            assert items <= set(told.report_data.thumbnails.items)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Set `a: <1>` & go.", "Set <code>a: &lt;1&gt;</code> &amp; go."),
        ("A name ` alone <b>.", "A name ` alone &lt;b&gt;."),
    ],
)
def test_settings_in_a_sentence_are_code_and_names_are_text(words, shown):
    assert str(html_with_code(words)) == shown


def test_a_first_screen_has_the_next_step_of_a_rejection_and_no_tile_without_a_figure(refused, alone, promoted):
    step = refused.report_data.tasks[-1].advice.steps[0].words
    header = refused.page.partition("<main>")[0]
    assert str(html_with_code(step)) in header
    assert 'href="#candidates"' in header
    assert 'id="candidates"' in refused.page
    assert [each.page.partition("<main>")[0].count("<dt>") for each in (refused, alone, promoted)] == [0, 2, 5]
    assert "Next:" not in promoted.page.partition("<main>")[0]
