"""What an operator sees in Prefect's pages, in a real browser. Minutes.

CSD_SCREENSHOTS=FOLDER keeps pictures of the pages, and then the project is trained as profiles/digits.yaml says.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from operators import APPROVE, RETRAIN, Operations, published_project, until
from PIL import Image
from sklearn.datasets import load_digits

from csd_core.retraining.history import retrainings

pytestmark = pytest.mark.slow

SHOTS = os.environ.get("CSD_SCREENSHOTS")


def send_digits(root, batch, classes):
    """Put real handwritten digits into the inbox."""
    digits = load_digits()
    for label in classes:
        folder = root / "data" / "inbox" / batch / label
        folder.mkdir(parents=True)
        images = digits.images[digits.target == int(label)] * (255 / 16)
        for number, image in enumerate(images[: None if SHOTS else 40]):
            Image.fromarray(np.round(image).astype(np.uint8)).save(folder / f"{number}.png")
    (root / "data" / "inbox" / batch / "_READY").touch()


@pytest.fixture(scope="module")
def reviewed(once, tmp_path_factory):
    """A retraining that waits for a review."""
    root = tmp_path_factory.mktemp("pages") / "project"
    if SHOTS:
        published_project(root, profile="digits")
    else:
        shutil.copytree(once("published", published_project), root, symlinks=True)
    send_digits(root, "november", ["4", "5", "6"])
    operations = Operations(root)
    operations.start()
    run = operations.run(RETRAIN, promotion="review")
    assert operations.ended(run, seconds=500).name == "AwaitingReview", operations.lines(run)
    yield operations, run
    operations.stop()


@pytest.fixture
def visit(browser, reviewed):
    """Opens pages of the server; fails if one asks for anything elsewhere."""
    operations, _ = reviewed
    page = browser.new_page(viewport={"width": 1360, "height": 1000})
    page.set_default_timeout(120_000)  # Prefect's pages are heavy
    own = (f"http://127.0.0.1:{operations.port}", f"http://127.0.0.1:{operations.port + 1}", "data:", "blob:")
    elsewhere = []
    page.on("request", lambda request: None if request.url.startswith(own) else elsewhere.append(request.url))

    def go(path):
        page.goto(path if path.startswith("http") else f"http://127.0.0.1:{operations.port}{path}")
        return page

    yield go
    assert elsewhere == []
    page.close()


def keep(page, name, **options):
    if SHOTS:
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", **options)


def test_the_page_of_a_run_has_its_graph_and_its_state(visit, reviewed):
    page = visit(f"/runs/flow-run/{reviewed[1]}")
    page.get_by_text("AwaitingReview").first.wait_for()
    page.locator("canvas").first.wait_for()
    page.get_by_text("train@t2").first.wait_for()
    page.get_by_text("epoch 1/").first.wait_for()
    keep(page, "run")


def test_the_artifacts_of_a_run_show_the_gates_report(visit, reviewed):
    operations, run = reviewed
    with operations.client as client:
        found = client.read_artifacts(limit=50)
    review = next(each for each in found if each.key == "review-t2" and each.flow_run_id == run)
    page = visit(f"/artifacts/artifact/{review.id}")
    page.get_by_role("heading", name="t2: ").first.wait_for()
    page.get_by_text("What you may choose").wait_for()
    pictures = page.locator("img[src^='data:image/svg+xml']")
    pictures.first.wait_for()
    widths = pictures.evaluate_all("all => Promise.all(all.map(each => each.decode().then(() => each.naturalWidth)))")
    assert widths
    assert all(width > 100 for width in widths)
    page.set_viewport_size({"width": 1360, "height": 1500})
    keep(page, "review")
    with (
        page.expect_popup()
        if page.get_by_text("Approve, choose or reject").get_attribute("target")
        else page.expect_navigation()
    ):
        page.get_by_text("Approve, choose or reject").click()


def test_the_form_of_an_approval_is_filled_in_and_wants_name_and_reason(visit, reviewed):
    operations, _ = reviewed
    (record,) = retrainings(operations.files)
    with operations.client as client:
        deployment = client.read_deployment_by_name(APPROVE)
    page = visit(
        f'/deployments/deployment/{deployment.id}/run?parameters={{"settings":{{"retraining":"{record.name}"}}}}'
    )
    page.get_by_text("Your name").wait_for()
    until(lambda: any(record.name == each.input_value() for each in page.locator("textarea").all()), seconds=60)
    keep(page, "approve")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_timeout(3000)
    assert "/run?" in page.url or page.url.endswith("/run")  # refused: name and reason are missing
    assert retrainings(operations.files)[0].outcome == "in review"


def test_the_form_of_a_retraining_has_the_titles_and_the_help_of_its_parameters(visit, reviewed):
    with reviewed[0].client as client:
        deployment = client.read_deployment_by_name(RETRAIN)
    page = visit(f"/deployments/deployment/{deployment.id}/run")
    page.get_by_text("After a rejection").wait_for()
    page.get_by_text("Undecided reviews are rejected automatically after this time.").wait_for()
    page.set_viewport_size({"width": 1360, "height": 1700})
    keep(page, "retrain")


def test_the_full_report_opens(visit, reviewed):
    operations, _ = reviewed
    (record,) = retrainings(operations.files)
    page = visit(f"http://127.0.0.1:{operations.port + 1}/{record.name}.html")
    assert "t2" in page.locator("body").inner_text()
    assert page.locator("svg").count() > 3


def test_the_home_page_has_the_review_with_its_links_and_the_runs_with_their_outcome(visit, reviewed):
    operations, run = reviewed
    (record,) = retrainings(operations.files)
    page = visit(f"http://127.0.0.1:{operations.port + 1}/")
    page.get_by_text("One retraining waits for your decision.").wait_for()
    page.get_by_text("active release, promoted as first model").wait_for()
    row = page.locator("#runs tr", has_text=record.name)
    assert row.locator(".state.wait").inner_text() == "\N{WHITE CIRCLE WITH UPPER RIGHT QUADRANT} in review"
    assert row.get_by_role("link", name=record.name).get_attribute("href").endswith(f"/runs/flow-run/{run}")
    page.set_viewport_size({"width": 1200, "height": 1000})
    keep(page, "home")
    page.locator("#reviews").get_by_text("Report", exact=True).click()
    page.locator("svg").first.wait_for()
    page.go_back()
    page.get_by_text("Approve, choose or reject").click()
    page.get_by_text("Your name").wait_for()
    until(lambda: any(record.name == each.input_value() for each in page.locator("textarea").all()), seconds=60)


def test_a_review_that_waits_is_told_of_in_an_event(reviewed):
    operations, run = reviewed
    with operations.client as client:
        wanted = {"filter": {"event": {"name": ["csd.review.waiting"]}}}
        (event,) = client.request("POST", "/events/filter", json=wanted).json()["events"]
    assert event["payload"]["retraining"] == retrainings(operations.files)[0].name
    assert event["related"][0]["prefect.resource.id"] == f"prefect.flow-run.{run}"
