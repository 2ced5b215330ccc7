import re
from html.parser import HTMLParser

import pytest

from csd_core.reporting.charts import charts
from csd_core.reporting.page import render

VOID = {"meta", "br", "hr", "img", "link", "input"}
STORIES = ("promoted", "alone", "refused", "carried", "late", "unmeasured", "untested")


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


@pytest.mark.parametrize("story", STORIES)
def test_the_page_is_well_formed_and_asks_no_network(request, story):
    told = request.getfixturevalue(story)
    parsed = outline(told.page)
    for _, attributes in parsed.elements:
        for name in ("src", "href", "action", "data", "poster"):
            assert name not in attributes
    assert not {tag for tag, _ in parsed.elements} & {"script", "link", "iframe", "object"}
    assert re.findall(r"url\((?!data:image/png;base64,)", told.page) == []
    assert "@import" not in told.page


@pytest.mark.parametrize("story", STORIES)
def test_ids_are_unique_and_every_reference_has_its_target(request, story):
    elements = outline(request.getfixturevalue(story).page).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [each for _, attributes in elements for each in attributes.get("aria-labelledby", "").split()]
    assert set(wanted) <= set(ids)


@pytest.mark.parametrize("story", STORIES)
def test_every_picture_has_words(request, story):
    pictures = [
        attributes for _, attributes in outline(request.getfixturevalue(story).page).elements if "role" in attributes
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


def test_the_same_story_gives_the_same_bytes(carried):
    again = render(carried.story, carried.metrics, charts(carried.story, carried.metrics))
    assert again == carried.page


def test_the_page_shows_the_matrix_with_its_marks(promoted):
    cells = re.findall(r'<td class="(own)?" style="--tint:\d+">([\d.]+)', promoted.page)
    cross = promoted.story.figures.cross
    expected = [
        (("own" if row == column else ""), f"{100 * cross[row, column]:.1f}")
        for row in range(3)
        for column in range(row + 1)
    ]
    assert cells == expected


def test_marks_of_neighbours_say_hit_or_miss(promoted):
    shown = [each for upgrade in promoted.story.upgrades for each in upgrade.shown]
    hits = sum(neighbour.hit for each in shown for neighbour in (*each.before, *each.after))
    assert promoted.page.count('<li class="hit">') == hits
    assert len(shown) == 12


def test_conditions_of_failed_strategies_are_on_the_page(refused):
    assert "✗ no" in refused.page
    assert "a first model must reach 100.0" in refused.page
    assert "No model has been promoted, so there is nothing to compare." in refused.page


def test_one_model_says_why_there_are_no_pairs(alone):
    assert "no pairs to compare" in alone.page


def test_a_line_without_test_images_says_what_to_do(untested):
    assert "give split.test a share above 0" in untested.page


def test_provenance_names_data_models_and_parameters(promoted):
    for task in promoted.story.tasks:
        for digest in (task.shard.digest, task.entry.candidate, task.entry.champion, task.entry.gallery):
            assert digest in promoted.page
    assert "max_regression: 0.06" in promoted.page
    assert "threads:" not in promoted.page


def test_waiting_data_is_named_where_it_was_learned(carried):
    assert "trained with t2, which waited" in carried.page
