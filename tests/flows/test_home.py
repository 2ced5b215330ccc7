"""The home page of `csd ui`: what it collects, and how a real browser shows it."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ports import free_port
from ruamel.yaml import YAML

from csd_core.records.stages import ImageForm
from csd_core.releases.publish import publish
from csd_core.retraining.history import Retraining
from csd_core.retraining.inbox import Inbox, look_into
from csd_core.retraining.manifests import TakenBatch
from csd_core.retraining.unusable import remember
from csd_core.workspace import Workspace
from flows.ui import home_page
from flows.ui.flow_server import FlowServer
from flows.ui.home import Collector
from flows.ui.home_html import render
from flows.ui.home_page import HomePage
from flows.ui.reports import serving

sys.path.append(str(Path(__file__).parents[1] / "production"))
from projects import Project  # the folder is no package

HOSTILE = '<img src="x" onerror="alert(1)">&amp;\u202eclass'
REVIEW, KEPT = "2026-11-21-calm-otter", "2026-11-20-quiet-lynx"
NOBODY = FlowServer(api="http://127.0.0.1:1/api", pages="http://127.0.0.1:4200", auth=None)
"""A server of flows that does not run."""
SHOTS = os.environ.get("CSD_SCREENSHOTS")


def retraining(name, **changes):
    values = {
        "name": name,
        "branch": f"retrain/{name}",
        "commit": "c" * 40,
        "base": "b" * 40,
        "release": None,
        "tasks": ("t3",),
        "batches": (TakenBatch(name="october", digest="d" * 64, images=1234),),
        "settings": "e" * 64,
        "outcome": "kept",
        "why": "t3 was promoted under merge",
        "flow_run": None,
        "publishes": True,
        "on_reject": "carry_on",
        "began": f"{name[:10]}T03:00:00+00:00",
        "ended": f"{name[:10]}T04:00:00+00:00",
        "deadline": None,
    }
    return Retraining(**values | changes)


def send(root, batch, label, *, count=3, broken=0):
    folder = root / "data" / "inbox" / batch / label
    folder.mkdir(parents=True)
    rng = np.random.default_rng([*batch.encode(), *label.encode()])
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (8, 8)).astype(np.uint8)).save(folder / f"{number}.png")
    for number in range(broken):
        (folder / f"broken-{number}.jpg").write_bytes(b"\xff\xd8 no image")
    (root / "data" / "inbox" / batch / "_READY").touch()
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that serves rows of two models; in its inbox lie names that attack; a retraining waits for a person."""
    project = Project(tmp_path_factory.mktemp("home") / "photo-search", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    values = YAML(typ="safe").load(project.root / "params.yaml")
    values["data"]["max_rejected"] = 1
    YAML().dump(values, project.root / "params.yaml")
    project.commit()
    for task in project.tasks:
        publish(project.production, task=task, by="Olga", why=f"<b>{task}</b>")
    files = project.files
    send(project.root, "november", HOSTILE)
    bad = send(project.root, "spoilt", "fox", broken=2)
    (bad.parent / "owl").mkdir()
    (bad.parent / "owl" / f"{HOSTILE.replace('/', '')}.png").write_bytes((bad / "0.png").read_bytes())
    params = files.params()
    inbox = Inbox.of(files, params.inbox)
    (spoilt,) = [each for each in inbox.inbox_batches() if each.name == "spoilt"]
    found = look_into(inbox, spoilt, ImageForm.of(params.images))
    remember(files, spoilt, found.problem(1), found.shown)
    deadline = (datetime.now(UTC) + timedelta(days=3, hours=1)).isoformat(timespec="seconds")
    retraining(
        REVIEW, outcome="in review", deadline=deadline, flow_run="7c1", why=f"t3, {HOSTILE}: promoted under merge."
    ).save_to(files)
    retraining(KEPT).save_to(files)
    files.retraining(KEPT).with_suffix(".html").write_text("report")
    return project


@pytest.fixture(scope="module")
def home(project):
    return Collector(project.files, NOBODY)()


def test_the_active_release_stands_with_its_verdict_and_the_make_up_of_its_gallery(project, home):
    active = home.release.shown
    assert (active.release.number, active.verdict) == (2, "promoted under keep")
    first, second = (project.model(task).digest for task in ("t1", "t2"))
    kinds = {(each.embedded_by, each.mapped, each.searched_by): each.rows for each in home.gallery.shown}
    assert kinds.keys() == {(first, 0, first), (second, 0, second)}
    assert sum(kinds.values()) == len(project.rows())
    assert f"{len(project.rows())} rows" in render(home)
    assert f"embedded by model {first[:8]}, in the space of model {first[:8]}" in render(home)


def test_rows_are_counted_again_only_when_the_table_has_changed(project):
    collect = Collector(project.files, NOBODY)
    first = collect().gallery.shown
    assert collect().gallery.shown is first
    project.put(np.full((1, 8, 8, 1), 7, np.uint8), ["t1-a"], ids=["another"])
    assert sum(each.rows for each in collect().gallery.shown) == 1 + sum(each.rows for each in first)


def test_the_inbox_says_what_waits_and_why_not_yet(home):
    states = {each.inbox_batch.name: each.state for each in home.inbox.shown.statuses}
    assert states == {"november": "waits", "spoilt": "unusable"}
    assert home.inbox.shown.words.startswith("3 of 200 images wait, 1 new class (")
    assert "3 of its 6 files are no usable images" in render(home)


def test_bad_files_are_shown_with_a_picture_where_one_can_be_opened(home):
    (note,) = home.unusable
    assert [each.jpeg is None for each in note.files] == [True, True, False]
    assert note.files[2].reason.startswith('is also in class "fox"')
    assert render(home).count('src="data:image/jpeg;base64,') == 1


def test_a_review_waits_in_a_colour_of_its_own_with_its_time_and_its_links(home):
    page = render(home)
    assert "One retraining waits for your decision. One batch of the inbox cannot be used." in page
    assert "three days left" in page
    assert f'href="{NOBODY.page_of("7c1")}"' in page
    assert page.count('class="state wait"') == 2  # the review and its run
    assert f'href="/{KEPT}.html"' in page
    assert "<title>(1) photo-search" in page


def test_without_a_server_of_flows_the_recorded_retrainings_are_shown_and_why_there_is_no_more(home):
    assert [each.name for each in home.runs.shown] == [REVIEW, KEPT]
    assert "Connection refused" in home.runs.trouble
    assert home.form is None


def test_an_empty_project_has_a_page_too(project, tmp_path):
    (tmp_path / "params.yaml").write_bytes((project.root / "params.yaml").read_bytes())
    home = Collector(Workspace(tmp_path), NOBODY)()
    page = render(home)
    assert "Nothing waits for you." in page
    assert "There is no release yet" in page
    assert "No flow has run yet." in page
    assert "is no git repository" in page


@pytest.mark.parametrize("damaged", ["params.yaml", "releases/current", f"operations/retrainings/{KEPT}.json"])
def test_what_is_damaged_is_named_and_hides_nothing_else(project, tmp_path, damaged):
    copy = project.copied_to(tmp_path / "copy")
    (copy.root / damaged).write_text("{")
    page = render(Collector(copy.files, NOBODY)())
    assert Path(damaged).name in page
    assert "As of " in page


def test_a_service_that_does_not_answer_is_said_to_and_one_that_is_not_told_is_left_out(project, home, monkeypatch):
    assert 'id="service"' not in render(home)
    monkeypatch.setenv("CSD_URL", "http://127.0.0.1:1")
    assert "is `csd serve` running there?" in Collector(project.files, NOBODY)().service.trouble
    monkeypatch.setenv("CSD_URL", "javascript:alert(1)")
    page = render(Collector(project.files, NOBODY)())
    assert "javascript:alert(1): is no address" in page
    assert 'href="javascript' not in page


def test_a_page_is_collected_once_for_all_who_ask_within_seconds(project, monkeypatch):
    page = HomePage(project.files, NOBODY)
    first = page()
    assert page() is first
    monkeypatch.setattr(home_page, "FRESH", 0.0)
    monkeypatch.setattr(home_page, "SHARE", 0)
    page._until = 0.0
    assert page() is not first


@pytest.fixture(scope="module")
def address(project):
    """Where the page is served."""
    reports, port = project.root / "operations" / "retrainings", free_port()
    with serving(reports, ("127.0.0.1", port), home=HomePage(project.files, NOBODY), auth=None):
        yield f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_names_as_text_and_nothing_sideways(address, browser, scheme):
    page = browser.new_page(color_scheme=scheme)
    told = []
    page.on("console", lambda message: told.append(message.text))
    page.on("dialog", lambda dialog: told.append(dialog.message) or dialog.dismiss())
    page.goto(address)
    assert told == []  # no script, no blocked request
    assert page.get_by_text(HOSTILE.replace("\u202e", "\\u202e")).count() >= 3
    assert page.locator("img").count() == 1
    assert page.locator("img").evaluate("each => each.decode().then(() => each.naturalWidth)") == 8
    states = [page.locator(f".state.{tone}").first for tone in ("wait", "busy", "bad", "plain")]
    assert len({state.evaluate("each => getComputedStyle(each).color") for state in states}) == 4
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / f"home-{width}-{scheme}.png", full_page=True)
    page.get_by_text("Reports of retrainings").click()
    page.get_by_text(KEPT).wait_for()
    page.close()
