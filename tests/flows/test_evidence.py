import base64
import json
import re

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from csd_core.params.file import load_params
from csd_core.report.charts.svg import Chart
from csd_core.report.review import ReviewPage
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace
from flows.runs import review_artifacts as evidence

pytestmark = pytest.mark.usefixtures("prefect_harness")


@pytest.fixture(scope="module")
def params(pytestconfig):
    return load_params(pytestconfig.rootpath / "params.yaml")


def chart(name):
    return Chart(
        name=name, title=f"{name} [of] t_1", description='<b>"x"</b>', width=10, height=10, body="<g>\N{CHECK MARK}</g>"
    )


def page(*, flips=True):
    return ReviewPage(
        title="t_1: rejected",
        headline="The gate rejects it.",
        verdict="### Why\n\n- **keep** fails",
        table=({"strategy": "keep", "all %": 61.0, "old %": None},),
        heat_map=chart("compatibility-t_1"),
        flips=chart("flips-t_1") if flips else None,
        confusions=chart("confusions-t_1") if flips else None,
    )


@pytest.fixture
def show(tmp_path, params, monkeypatch):
    """Shows a page inside a flow."""

    def shown(made, task, *, report_url=None, approve_url=None):
        monkeypatch.setattr(evidence, "review_page", lambda *_, **__: made)

        @flow
        def review():
            evidence.show_review(
                Workspace(tmp_path),
                params,
                task,
                name="2026-11-25-otter",
                report_url=report_url,
                approve_url=approve_url,
            )

        review()

    return shown


def artifacts(key):
    """Kind -> its artifact, of those whose keys end with the task's."""
    with get_client(sync_client=True) as client:
        found = [each for each in client.read_artifacts() if each.key]  # a run's result has none
    return {each.key.removesuffix(f"-{key}"): each for each in found if each.key.endswith(f"-{key}")}


def pictures(markdown):
    return [
        base64.b64decode(data).decode()
        for data in re.findall(r"!\[[^\[\]<>\"]+\]\(data:image/svg\+xml;base64,([^)]+)\)", markdown)
    ]


def test_a_review_becomes_five_artifacts_with_keys_that_prefect_takes(show):
    show(page(), "t_1", report_url="http://a/report (1).html", approve_url="http://a/form")
    found = artifacts("t-1")
    assert {kind: each.type for kind, each in found.items()} == {
        "review": "markdown",
        "ways-to-serve": "table",
        "compatibility": "markdown",
        "flips": "markdown",
        "confusions": "markdown",
    }
    review, table = found["review"], found["ways-to-serve"]
    assert review.data.startswith("# t\\_1: rejected\n\nThe gate rejects it.\n\n")
    assert "**[Approve, choose or reject](<http://a/form>)**" in review.data
    assert "[Full report](<http://a/report (1).html>)" in review.data
    assert "### Why\n\n- **keep** fails" in review.data
    names = ("compatibility", "flips", "confusions")
    assert pictures(review.data) == [chart(f"{name}-t_1").standalone() for name in names]
    assert pictures(found["confusions"].data) == [chart("confusions-t_1").standalone()]
    assert pictures(found["compatibility"].data) == [chart("compatibility-t_1").standalone()]
    assert pictures(found["flips"].data) == [chart("flips-t_1").standalone()]
    assert json.loads(table.data) == [{"strategy": "keep", "all %": 61.0, "old %": None}]
    assert all(each.description.startswith("t\\_1: rejected (retraining 2026-11-25-otter)") for each in found.values())


def test_without_lost_queries_and_addresses_there_are_no_pictures_of_them_and_no_links(show):
    show(page(flips=False), "t2")
    found = artifacts("t2")
    assert set(found) == {"review", "ways-to-serve", "compatibility"}
    review = found["review"].data
    assert len(pictures(review)) == 1
    assert "](<" not in review


def test_a_task_that_was_not_checked_says_so_and_shows_nothing(tmp_path, params):
    @flow
    def review():
        evidence.show_review(Workspace(tmp_path), params, "t3", name="otter", report_url=None, approve_url=None)

    with pytest.raises(ArtifactError, match=r"check\.json: missing; run `csd run` to make it"):
        review()
    assert artifacts("t3") == {}
