"""The search page in Chromium. With CSD_SCREENSHOTS=folder it leaves pictures there."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from services import png

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOTS = os.environ.get("CSD_SCREENSHOTS")


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "a browser is needed: install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, service):
    """Opens the page; fails if it asks for anything elsewhere or an error is on its console."""
    pages, elsewhere, errors = [], [], []

    def go(*, path="/", width=1200, height=900, allow=(), **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        own = (service, "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(own) else elsewhere.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda line: (
                errors.append(line.text)
                if line.type == "error" and not any(each in line.text for each in allow)
                else None
            ),
        )
        page.goto(service + path)
        expect(page.locator("#state")).to_contain_text("Release 2")
        return page

    yield go
    for page in pages:
        page.close()
    assert elsewhere == []
    assert errors == []


def pick(page, content, name="query.png"):
    page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def shot(page, name):
    if SHOTS:
        page.wait_for_timeout(700)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def labels(page):
    return page.locator("#hits b").all_inner_texts()


def test_a_picked_file_shows_neighbours_and_the_verdict(visit):
    page = visit()
    pick(page, png(2))
    expect(page.locator("#hits li")).to_have_count(10)
    assert set(labels(page)) == {"t2-a"}
    expect(page.locator("#count")).to_contain_text("10 neighbours from release 2")
    expect(page.locator("#verdict summary")).to_contain_text("promoted, served by backfill")
    expect(page.locator("#hits img").first).to_have_js_property("complete", True)
    shot(page, "light")


def test_who_asks_before_all_is_loaded_keeps_the_answer(visit):
    page = visit()
    page.route("**/v1/labels", lambda route: (page.wait_for_timeout(800), route.continue_()))
    page.reload()
    pick(page, png(2))
    expect(page.locator("#hits li")).to_have_count(10)
    expect(page.locator("#labels label")).to_have_count(4)
    expect(page.locator("#query")).to_be_visible()
    expect(page.locator("#hits li")).to_have_count(10)


def test_a_neighbour_is_searched_from_and_back_returns(visit):
    page = visit()
    page.locator("#samples button").first.click()
    expect(page.locator("#hits li")).to_have_count(10)
    first = page.url
    page.locator("#hits button").nth(1).click()
    expect(page).not_to_have_url(first)
    page.go_back()
    expect(page).to_have_url(first)
    expect(page.locator("#hits li")).to_have_count(10)
    page.go_back()
    expect(page.locator("#hits li")).to_have_count(0)


def test_only_chosen_classes_are_shown(visit):
    page = visit()
    pick(page, png(2))
    page.locator("#filter summary").click()
    page.get_by_label("Find a class").fill("t1-b")
    expect(page.locator("#labels label:visible")).to_have_count(1)
    page.locator("#labels label:visible input").check()
    expect(page.locator("#hits b").first).to_have_text("t1-b")
    assert set(labels(page)) == {"t1-b"}
    page.get_by_role("button", name="All classes").click()
    expect(page.locator("#hits b").first).to_have_text("t2-a")


def test_the_switch_shows_what_the_upgrade_changed(visit):
    page = visit()
    pick(page, png(2))
    expect(page.locator("#hits li")).to_have_count(10)
    page.get_by_label("before").check()
    expect(page.locator("#count")).to_contain_text("from release 1")
    expect(page.locator("#count")).to_contain_text("10 of them are others")  # the class came with the upgrade
    expect(page.locator("#hits .moved").first).to_contain_text("gone after the upgrade")
    shot(page, "before")
    page.get_by_label("after").check()
    expect(page.locator("#count")).to_contain_text("from release 2")


def test_an_upload_that_is_no_image_shows_the_problem(visit):
    page = visit(allow=("422",))
    pick(page, b"<svg/>", name="drawing.svg")
    expect(page.locator("#problem")).to_contain_text("not an image of a known format")
    pick(page, png(0))
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#hits li")).to_have_count(10)


def test_the_keyboard_alone_is_enough(visit):
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the neighbours")).to_be_focused()
    page.locator("#samples button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#hits li")).to_have_count(10)
    page.locator("#hits button").first.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{page.url.split('?')[0]}?item={page.url.split('item=')[1]}")
    expect(page.locator("#hits li")).to_have_count(10)


def test_it_fits_a_phone_in_the_dark(visit):
    page = visit(width=360, height=740, color_scheme="dark")
    pick(page, png(1))
    expect(page.locator("#hits li")).to_have_count(10)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    shot(page, "phone-dark")


def test_every_control_has_a_name(visit):
    page = visit()
    pick(page, png(1))
    expect(page.locator("#hits li")).to_have_count(10)
    for control in page.locator("button, input, select").all():
        assert control.evaluate("e => (e.ariaLabel || e.labels?.length || e.textContent.trim())"), control
