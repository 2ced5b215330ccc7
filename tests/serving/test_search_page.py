"""The search page in Chromium. With CSD_SCREENSHOTS=folder it leaves pictures there."""

import base64
import io
import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Error, expect
from services import png, published, put, serving

from csd_core.serving.keys import issue, revoke

SHOTS = os.environ.get("CSD_SCREENSHOTS")


@pytest.fixture
def visit(browser, service):
    """Opens the page; fails if it asks for anything elsewhere or an error is on its console."""
    pages, elsewhere, errors = [], [], []

    def go(*, path="/", at=service, says="Release 2", width=1200, height=900, allow=(), **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        own = (at, "data:", "blob:")
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
        page.goto(at + path)
        expect(page.locator("#state")).to_contain_text(says)
        return page

    yield go
    for page in pages:
        page.close()
    assert elsewhere == []
    assert errors == []


def pick(page, content, name="query.png"):
    page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def hand_over(page, kind, *files):
    """Paste or drop (name, media type, content) files, as a browser does; whether the page left it to the browser."""
    return page.evaluate(
        """([kind, files]) => {
            const data = new DataTransfer();
            for (const [name, type, text] of files)
                data.items.add(new File([Uint8Array.from(atob(text), (each) => each.charCodeAt())], name, { type }));
            const how = { bubbles: true, cancelable: true };
            return (kind === "paste" ? document.body : document.querySelector("#drop p")).dispatchEvent(
                kind === "paste"
                    ? new ClipboardEvent(kind, { ...how, clipboardData: data })
                    : new DragEvent(kind, { ...how, dataTransfer: data }),
            );
        }""",
        [kind, [(name, media, base64.b64encode(content).decode()) for name, media, content in files]],
    )


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


def test_a_release_with_two_query_models_says_which_of_them_found_a_neighbour(visit, tmp_path):
    project = published(tmp_path / "project", "none", "merge")
    old, new = (project.model(task).digest for task in ("t1", "t2"))
    with serving(project) as merged:
        page = visit(at=merged.url)
        expect(page.locator("#state")).to_contain_text(f"model {new[:12]} and {old[:12]} (fp32)")
        for kind, model in ((0, old), (2, new)):
            pick(page, png(kind))
            expect(page.locator("#hits .facts").first).to_contain_text(f"found by {model[:8]}")
            expect(page.locator("#hits .facts").first).to_contain_text("similarity 0.")
        shot(page, "two-query-models")
        page.close()  # before the service ends, for it still asks for images


NAMES = (
    'it\'s "new" & <script>alert(1)<img src=x onerror=alert(2)>.jpg',
    "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}\N{HEBREW LETTER VAV}\N{HEBREW LETTER FINAL MEM} 17.png",
    "\N{CJK UNIFIED IDEOGRAPH-8D64}\N{HIRAGANA LETTER I}\N{CJK UNIFIED IDEOGRAPH-9774}.webp",
    "DSC_" + "0123456789" * 20 + ".jpeg",
)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A service in whose gallery four photos with odd names lie, each larger than the form."""
    project = published(tmp_path_factory.mktemp("named") / "project", "none")
    with serving(project) as running:
        for number, name in enumerate(NAMES):
            assert put(running.url, f"photo {number}", photo(number), label="photo", name=name).status_code == 201
        running.lists("photo", len(NAMES))
        yield running.url


def photo(number):
    """A drawn scene, upright or wide."""
    size = (300, 200) if number % 2 else (200, 300)
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 60, 160, 180), fill=("tomato", "gold", "teal", "orchid")[number])
    draw.rectangle((20, 20, 90, 70), fill="white")
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize("width", [1200, 390])
def test_a_neighbour_shows_its_original_and_its_name_as_text(visit, named, width):
    page = visit(at=named, says="Release 1", width=width)
    expect(page.get_by_role("radio", name="before")).to_have_count(0)  # there is no release before
    page.locator("#filter summary").click()
    page.get_by_label("photo (4)").check()
    page.locator("#filter summary").click()
    pick(page, photo(0), name=NAMES[0])
    expect(page.locator("#hits li")).to_have_count(4)
    expect(page.locator("#query-name")).to_have_text(NAMES[0])
    assert sorted(page.locator("#hits .name").all_text_contents()) == sorted(NAMES)
    image = page.locator("#hits img").first
    for shown in page.locator("#hits img").all():
        expect(shown).to_have_attribute("src", re.compile("^blob:"))
        size = "each => each.decode().then(() => Math.max(each.naturalWidth, each.naturalHeight))"
        assert shown.evaluate(size) == 256
    expect(image).not_to_have_class("tiny")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shot(page, f"names-{width}")
    page.locator("#hits button").first.click()
    expect(page.locator("#query-name")).to_have_text(NAMES[0])
    page.reload()  # the name is asked for
    expect(page.locator("#query-name")).to_have_text(NAMES[0])


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
    expect(page.locator("#labels label")).to_have_count(4)
    page.get_by_label("Find a class").fill("t1-b")
    expect(page.locator("#labels label:visible")).to_have_count(1)
    page.locator("#labels label:visible input").check()
    expect(page.locator("#hits b").first).to_have_text("t1-b")
    assert set(labels(page)) == {"t1-b"}
    page.get_by_role("button", name="All classes").click()
    expect(page.locator("#hits b").first).to_have_text("t2-a")


def test_a_class_that_is_typed_before_the_classes_come_is_looked_for(visit):
    page = visit()
    held = []
    page.route("**/v1/labels", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    page.reload()
    pick(page, png(2))
    page.locator("#filter summary").click()
    page.get_by_label("Find a class").fill("t1-b")
    assert page.locator("#labels label").count() == 0  # they have not come
    while not held:
        page.wait_for_timeout(50)
    page.unroute("**/v1/labels")
    for route in held:
        with suppress(Error):  # of the page before it was loaded again
            route.continue_()
    expect(page.locator("#labels label")).to_have_count(4)
    expect(page.locator("#labels label:visible")).to_have_count(1)


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
    expect(page.locator("#problem")).to_contain_text("is SVG, which is not read; convert it to PNG or JPEG")
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
    first, name = page.url, page.locator("#query-name").inner_text()
    page.locator("#hits button").first.focus()
    page.keyboard.press("Enter")
    expect(page).not_to_have_url(first)
    expect(page.locator("#query-name")).not_to_have_text(name)
    expect(page.locator("#query-name")).to_have_text(page.url.split("?item=")[1])  # of these items the path is the id
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


def test_a_pasted_image_is_searched_by(visit):
    page = visit()
    hand_over(page, "paste", ("notes.txt", "text/plain", b"text"), ("image.png", "image/png", png(2)))
    expect(page.locator("#hits li")).to_have_count(10)
    assert set(labels(page)) == {"t2-a"}
    expect(page.locator("#query-name")).to_have_text("image.png")
    expect(page.locator("#query-image")).to_have_js_property("naturalWidth", 8)


def test_what_is_copied_to_the_clipboard_is_pasted_with_the_keyboard(visit):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (text) => {
            const image = new Blob([Uint8Array.from(atob(text), (each) => each.charCodeAt())], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": image })]);
        }""",
        base64.b64encode(png(3)).decode(),
    )
    page.keyboard.press("Control+V")
    expect(page.locator("#hits li")).to_have_count(10)
    assert set(labels(page)) == {"t2-b"}


def test_pasted_text_searches_nothing(visit):
    page = visit()
    hand_over(page, "paste", ("notes.txt", "text/plain", b"text"))
    hand_over(page, "paste")
    expect(page.locator("#query")).to_be_hidden()
    expect(page.locator("#problem")).to_be_hidden()


def test_a_dropped_image_is_searched_by_and_the_browser_does_not_open_it(visit):
    page = visit()
    assert not hand_over(page, "dragover", ("shoe.png", "image/png", png(3)))
    expect(page.locator("#drop")).to_have_class("over")
    assert not hand_over(page, "drop", ("shoe.png", "image/png", png(3)))
    expect(page.locator("#drop")).not_to_have_class("over")
    expect(page.locator("#hits li")).to_have_count(10)
    assert set(labels(page)) == {"t2-b"}
    expect(page.locator("#query-name")).to_have_text("shoe.png")


def test_a_drop_without_a_file_changes_nothing(visit):
    page = visit()
    hand_over(page, "drop", ("shoe.png", "image/png", png(3)))
    expect(page.locator("#hits li")).to_have_count(10)
    hand_over(page, "drop")
    expect(page.locator("#query-name")).to_have_text("shoe.png")
    expect(page.locator("#hits li")).to_have_count(10)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A service of release 1 that asks for keys."""
    project = published(tmp_path_factory.mktemp("guarded") / "project", "none")
    issue(project.root / "keys.json", "first", "read")
    with serving(project, "--auth", "on") as running:
        yield running


def give(page, key):
    page.get_by_label("This service asks for a key").fill(key)
    page.get_by_role("button", name="Use it").click()


def test_the_page_asks_for_a_key_and_keeps_it_for_the_session_alone(visit, guarded):
    token = issue(guarded.project.root / "keys.json", "person", "read")
    page = visit(at=guarded.url, says="", allow=("401",))
    expect(page.locator("#key-form")).to_be_visible()
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#samples li")).to_have_count(0)
    shot(page, "key")
    give(page, "csd_wrong")
    expect(page.locator("#problem")).to_contain_text("the key is unknown or was revoked")
    expect(page.locator("#key-form")).to_be_visible()
    page.wait_for_timeout(1100)  # the service looks at its keys once a second
    give(page, f" {token} ")
    expect(page.locator("#state")).to_contain_text("Release 1")
    expect(page.locator("#key-form")).to_be_hidden()
    expect(page.locator("#problem")).to_be_hidden()
    pick(page, png(0))
    expect(page.locator("#hits li")).to_have_count(10)
    expect(page.locator("#hits img").first).to_have_js_property("complete", True)
    page.reload()
    expect(page.locator("#state")).to_contain_text("Release 1")
    expect(page.locator("#key-form")).to_be_hidden()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert token not in page.url + page.content()
    again = visit(at=guarded.url, says="", allow=("401",))
    expect(again.locator("#key-form")).to_be_visible()


def test_a_key_that_no_header_can_carry_is_not_taken(visit, guarded):
    page = visit(at=guarded.url, says="", allow=("401",))
    give(page, "\u043a\u043b\u044e\u0447")
    expect(page.locator("#key-form")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_who_is_refused_in_the_midst_of_a_search_gets_its_answer_with_another_key(visit, guarded):
    keys = guarded.project.root / "keys.json"
    tokens = [issue(keys, name, "read") for name in ("leaving", "coming")]
    page = visit(at=guarded.url, says="", allow=("401",))
    page.wait_for_timeout(1100)
    give(page, tokens[0])
    expect(page.locator("#state")).to_contain_text("Release 1")
    expect(page.locator("#samples img[src^='blob:']")).to_have_count(24)  # no request is under way
    revoke(keys, "leaving")
    page.wait_for_timeout(1100)
    pick(page, png(0))
    expect(page.locator("#problem")).to_contain_text("the key is unknown or was revoked")
    give(page, tokens[1])
    expect(page.locator("#hits li")).to_have_count(10)
    expect(page.locator("#problem")).to_be_hidden()
