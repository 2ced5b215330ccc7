"""What a person who has to decide on a candidate sees in Prefect: artifacts made of the review.

Pictures are SVG inside Markdown, as data: both of Prefect's pages draw them, and need no network. An artifact of type
`image` draws them too, but the newer page then prints the whole address across its right column.
"""

import base64
import re

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from csd_core.params.model import Params
from csd_core.report.advice.next_steps import Place
from csd_core.report.charts.svg import Chart
from csd_core.report.review import ReviewPage, escaped
from csd_core.retraining.review import review_page
from csd_core.workspace import Workspace

_MARKUP = re.compile(r"[^\w\s.,;:()%@-]")


def show_review(
    workspace: Workspace,
    params: Params,
    task: str,
    *,
    name: str,
    report_url: str | None,
    approve_url: str | None,
    place: Place = "review",
) -> None:
    """Make a task's artifacts: the review, the ways to serve as a table, and each picture by itself.

    Args:
        workspace: Where the task's check lies.
        params: Of the same checkout.
        task: Whose candidate it is.
        name: Of the retraining.
        report_url: Of the whole HTML report; None where nobody serves it.
        approve_url: Of the form in which a person decides; None where nobody has to.
        place: Where the person decides.
    """
    page = review_page(workspace, params, task, place=place)
    key = task.replace("_", "-")  # Prefect allows lower-case letters, digits and dashes
    of = f"{page.title} (retraining {name})"
    create_markdown_artifact(
        key=f"review-{key}",
        markdown=_markdown(page, name=name, report_url=report_url, approve_url=approve_url),
        description=escaped(of),
    )
    create_table_artifact(
        key=f"ways-to-serve-{key}",
        table=[dict(row) for row in page.table],
        description=escaped(
            f"{of}: each way to serve the candidate. Recall@1 of gate queries of all, old and new items; queries lost "
            "and gained against the status quo; stored rows re-embedded and mapped"
        ),
    )
    create_markdown_artifact(
        key=f"compatibility-{key}",
        markdown=_picture(page.heat_map),
        description=escaped(f"{of}: Recall@1 of each way to serve, task by task"),
    )
    if page.flips:
        create_markdown_artifact(
            key=f"flips-{key}",
            markdown=_picture(page.flips),
            description=escaped(f"{of}: queries that hit today and would miss"),
        )
    if page.confusions:
        create_markdown_artifact(
            key=f"confusions-{key}",
            markdown=_picture(page.confusions),
            description=escaped(f"{of}: queries that would find another class first"),
        )


def _markdown(page: ReviewPage, *, name: str, report_url: str | None, approve_url: str | None) -> str:
    links = []
    if approve_url:
        links.append(f"**[Approve, choose or reject](<{approve_url}>)**")
    if report_url:
        links.append(f"[Full report](<{report_url}>)")
    links.append(f"Retraining {escaped(name)}")
    parts = [f"# {escaped(page.title)}", page.headline, " · ".join(links), _picture(page.heat_map), page.verdict]
    parts += [_picture(chart) for chart in (page.flips, page.confusions) if chart]
    return "\n\n".join(parts) + "\n"


def _picture(chart: Chart) -> str:
    """An image that follows the light or dark of the page; its words hold no markup, for pages differ in that."""
    data = base64.b64encode(chart.standalone().encode()).decode("ascii")
    words = _MARKUP.sub("", f"{chart.title}. {chart.description}")
    return f"![{words}](data:image/svg+xml;base64,{data})"
