import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from csd_core.report.charts import svg


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.42, 0.97), (0.97, 0.98), (-0.3, 4.1), (0.0, 3e-5), (0.5, 0.5)]
)
def test_ticks_are_even_and_cover_the_interval(low, high):
    marks = svg.ticks(low, high)
    steps = {round(after - before, 9) for before, after in pairwise(marks)}
    assert marks[0] <= low + 1e-9
    assert marks[-1] >= high - 1e-9
    assert len(steps) == 1
    assert 2 <= len(marks) <= 8


def test_labels_keep_their_distance_and_order():
    wanted = [50.0, 10.0, 11.0, 12.0, 99.0]
    places = svg.spread(wanted, gap=10, low=0, high=100)
    ordered = [places[each] for each in sorted(range(5), key=lambda each: wanted[each])]
    assert all(after - before >= 10 for before, after in pairwise(ordered))
    assert max(places) <= 100
    assert places[0] == 50


def test_labels_are_pushed_up_from_the_bottom():
    assert svg.spread([98.0, 99.0, 100.0], gap=10, low=0, high=100) == [80, 90, 100]


def test_names_are_escaped_in_every_place():
    drawn = svg.text(1, 2, "<b>") + svg.marker(1, 2, 0, "x", "<i>")
    chart = svg.Chart(name="c", title="<t>", description="<d>", width=10, height=10, body=drawn)
    for document in (chart.inline(), chart.standalone()):
        root = ET.fromstring(document)  # noqa: S314 - our own document
        texts = [element.text for element in root.iter() if element.text]
        assert {"<b>", "<i>", "<t>", "<d>"} <= set(texts)


def test_series_differ_in_shape():
    drawn = {svg.marker(0, 0, shape, "x", "") for shape in range(4)}
    assert len(drawn) == 4
    assert svg.marker(0, 0, 4, "x", "") in drawn


def test_an_axis_with_one_value_has_it_in_the_middle():
    axes = svg.Axes(left=0, right=10, top=0, bottom=10, first=0, last=0, low=0, high=1)
    assert axes.x(0) == 5
    assert axes.y(1) == 0


def test_long_names_are_shortened():
    assert svg.shortened("short") == "short"
    assert svg.shortened("a-very-long-name") == "a-very-long…"
