"""The report in a real browser, as people use it: with mouse, keys and touch."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest

from changen_cli.workflows.report_server import Exhibit, ReportServer
from tests.browser.conftest import HOSTILE

pytestmark = pytest.mark.browser


def until(page: Any, script: str) -> None:
    """Wait until a script says true. Playwright's own waiting needs ``eval``, which the page forbids."""
    end = time.monotonic() + 10
    while not page.evaluate(script):
        assert time.monotonic() < end, script
        page.wait_for_timeout(30)


def cards(page: Any) -> int:
    return page.locator(".card").count()


def open_first(page: Any) -> None:
    page.locator(".card").first.click()
    until(page, "document.querySelector('.stage .photo')?.naturalWidth > 0")


def cut(page: Any) -> int:
    return int(page.locator(".divider").get_attribute("aria-valuenow"))


def clip(page: Any) -> float:
    """Where the later date begins, in pixels from the left edge of the picture."""
    style = page.locator(".stage .layer").nth(1).get_attribute("style")
    edges = re.search(r"inset\(([^)]+)\)", style)[1].split()
    return float(edges[-1].removesuffix("px"))


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def middle(page: Any, selector: str) -> tuple[float, float]:
    box = page.locator(selector).first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_it_fits_and_follows_the_theme(visit, report, size, scheme) -> None:
    page = visit(report, size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dark = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every((part) => part < 60)"
    assert page.evaluate(dark) == (scheme == "dark")
    page.locator("#theme").click()
    assert not page.evaluate(dark) and page.locator("#theme").get_attribute("aria-label") == "Theme: light"
    page.locator("#theme").click()
    assert page.evaluate(dark)
    assert page.locator(".chart").count() == 5 and page.locator("#charts-box").evaluate("box => box.open") == (
        size == "desktop"
    )
    open_first(page)
    assert page.locator("#viewer").evaluate("box => box.scrollWidth <= innerWidth")
    stage = page.locator(".stage").bounding_box()
    assert stage["width"] > 300 and stage["height"] > 300


def test_filters_filter(visit, report) -> None:
    page = visit(report)
    assert cards(page) == 9 and page.locator("#count").inner_text() == "9 samples"
    chips = page.locator(".chip")
    told = {chip.inner_text().split("\n")[0]: int(re.search(r"\d+", chip.inner_text())[0]) for chip in chips.all()}
    assert {"created", "removed", "edited", "no event"} <= set(told)
    page.get_by_label(re.compile("^no event")).check()
    assert cards(page) == told["no event"] < 9
    assert all("nothing changes" in card.get_attribute("aria-label") for card in page.locator(".card").all())
    page.get_by_label(re.compile("^edited")).check()
    assert cards(page) == told["no event"] + told["edited"]
    for name in ("no event", "edited"):
        page.get_by_label(re.compile(f"^{name}")).uncheck()
    page.get_by_label("Changed area, at least").fill("1")
    assert cards(page) == 9 - told["no event"]
    page.get_by_label("Changed area, at least").fill("0")
    page.get_by_label("Class before or after").select_option("road")
    assert cards(page) == told["edited"]
    page.get_by_label("Class before or after").select_option("any class")
    page.get_by_label("Rejected").select_option("with rejected attempts")
    assert cards(page) == 1
    page.get_by_label("Name").fill("nobody")
    assert cards(page) == 0
    page.get_by_role("button", name="Clear them").click()
    assert cards(page) == 9
    page.get_by_label("Order").select_option("most change first")
    shares = [float(text.split(" %")[0]) for text in page.locator(".card-line").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)


def test_the_slider_moves_by_mouse_and_keys(visit, report) -> None:
    page = visit(report)
    open_first(page)
    picture = page.locator(".canvas").bounding_box()
    x, y = middle(page, ".divider .knob")
    assert cut(page) == 50 and abs(clip(page) - picture["width"] / 2) < 1
    drag(page, (x, y), (picture["x"] + 0.25 * picture["width"], y))
    assert cut(page) == 25 and abs(clip(page) - picture["width"] / 4) < 1
    drag(
        page, (picture["x"] + 300, y + 100), (picture["x"] + 0.75 * picture["width"], y + 100)
    )  # anywhere on the picture
    assert cut(page) == 75
    page.locator(".divider").focus()
    page.keyboard.press("ArrowLeft")
    assert cut(page) == 73
    page.keyboard.press("End")
    assert cut(page) == 100
    page.keyboard.press("Home")
    assert cut(page) == 0 and clip(page) == 0


def test_the_slider_moves_by_touch(visit, report) -> None:
    page = visit(report, "phone")
    open_first(page)
    picture = page.locator(".canvas").bounding_box()
    x, y = middle(page, ".divider .knob")
    touch = page.context.new_cdp_session(page)
    for kind, spot in (("touchStart", x), ("touchMove", x - 40), ("touchMove", picture["x"] + 0.2 * picture["width"])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": spot, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert cut(page) == 20
    two = [{"x": x - 30, "y": y, "id": 0}, {"x": x + 30, "y": y, "id": 1}]
    wide = [{"x": x - 120, "y": y, "id": 0}, {"x": x + 120, "y": y, "id": 1}]
    for kind, points in (("touchStart", two), ("touchMove", wide), ("touchEnd", [])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert page.locator(".canvas").bounding_box()["width"] > 2 * picture["width"]


def test_dates_overlays_and_time(visit, report) -> None:
    page = visit(report)
    page.get_by_label("Order").select_option("most events first")
    open_first(page)
    left, right = (page.locator(".stage .photo").nth(side) for side in (0, 1))
    first, last = left.get_attribute("src"), right.get_attribute("src")
    assert first != last and (left.get_attribute("alt"), right.get_attribute("alt")) == ("Tile at t0", "Tile at t3")
    outlined = page.locator(".canvas path").count()
    assert outlined > page.locator(".event").count() * 0.9
    page.get_by_label("Date on the right, through time").fill("1")
    assert right.get_attribute("alt") == "Tile at t1" and 0 < page.locator(".canvas path").count() < outlined
    page.get_by_label("Date on the left").select_option("t3")
    assert left.get_attribute("src") == last
    page.get_by_role("button", name="Show t1 → t2").click()
    assert [one.get_attribute("alt") for one in (left, right)] == ["Tile at t1", "Tile at t2"]
    page.get_by_role("button", name="Play").click()
    until(page, "document.querySelectorAll('.stage .photo')[1].alt === 'Tile at t0'")
    page.keyboard.press(" ")
    assert page.locator("#play").get_attribute("aria-label") == "Play (Space)"

    mask, marks = page.locator(".stage .mask").first, page.locator("[data-part=changes]")
    assert mask.is_hidden() and marks.is_visible()
    page.get_by_role("switch", name="Classes").check()
    assert mask.is_visible() and mask.evaluate("image => image.naturalWidth") == 128
    page.get_by_label("Opacity of classes").fill("0.25")
    assert mask.evaluate("image => getComputedStyle(image).opacity") == "0.25"
    page.locator(".viewer-head h2").click()
    page.keyboard.press("m")
    page.keyboard.press("c")
    assert mask.is_hidden() and marks.is_hidden() and not page.get_by_role("switch", name="Changes").is_checked()


def test_an_event_highlights_its_object(visit, report) -> None:
    page = visit(report)
    page.get_by_label("Order").select_option("most events first")
    open_first(page)
    line = page.locator(".event").first
    place = line.get_attribute("data-event")
    line.hover()
    assert page.locator("path.hot").first.get_attribute("data-event") == place
    page.mouse.move(5, 5)
    assert page.locator("path.hot").count() == 0
    whole = page.locator(".canvas").bounding_box()["width"]
    line.click()
    assert page.locator(f"path.hot[data-event='{place}']").count() == 1 and line.get_attribute("aria-pressed") == "true"
    assert page.locator(".canvas").bounding_box()["width"] > whole
    stage, spot = page.locator(".stage").bounding_box(), page.locator("path.hot").first.bounding_box()
    assert stage["x"] <= spot["x"] and spot["x"] + spot["width"] <= stage["x"] + stage["width"]
    page.keyboard.press("0")
    assert page.locator(".canvas").bounding_box()["width"] == whole
    other = page.locator(".canvas path:not(.hot)").last
    number = other.get_attribute("data-event")
    page.mouse.click(*page.evaluate(
        "n => { const b = document.querySelector(`path[data-event='${n}']`).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }",
        number,
    ))  # fmt: skip
    assert page.locator(".event.hot").first.get_attribute("data-event") == number
    log = page.locator(".event.hot small").first.inner_text()
    assert log.split(" · ")[0]


def test_keys_go_through_the_samples_and_back(visit, report) -> None:
    page = visit(report)
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    title = page.locator("#viewer-title")
    until(page, "document.getElementById('viewer-title').textContent")
    first = title.inner_text()
    page.keyboard.press("n")
    until(page, f"document.getElementById('viewer-title').textContent !== '{first}'")
    assert re.search(r"#show-\d+$", page.url) and page.locator("#previous").is_enabled()
    page.keyboard.press("p")
    until(page, f"document.getElementById('viewer-title').textContent === '{first}'")
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden() and "#" not in page.url
    assert page.evaluate("document.activeElement.className") == "card"
    page.go_back()
    until(page, "document.getElementById('viewer').open")
    page.go_back()
    page.go_back()
    page.go_back()
    until(page, "!document.getElementById('viewer').open")


def test_texts_of_the_dataset_do_nothing(visit, report) -> None:
    page = visit(f"{report}#show-0")
    page.wait_for_selector(".notice")
    assert HOSTILE in page.locator(".notice").inner_text() and HOSTILE in page.locator(".step-note").first.inner_text()
    page.get_by_text("About this sample").click()
    assert page.locator("th", has_text="gate").locator("+ td").inner_text() == '{ "seam": 0.2 }'
    assert page.locator("img[src=x], main b, dialog b").count() == 0
    assert page.title().startswith("<i>out") and page.locator("h1").inner_text() == "<i>out"


def test_rejected_attempts_are_there_to_be_looked_at(visit, report) -> None:
    page = visit(report, "phone")
    assert page.locator("#rejects-hint").inner_text() == "3 attempts: seam 3"
    assert page.locator("#rejects img").count() == 0, "not before anybody asks"
    page.get_by_text("Turned down by the gate").click()
    until(page, "document.querySelectorAll('#rejects img').length === 3")
    page.locator("#rejects img").first.scroll_into_view_if_needed()
    until(page, "document.querySelector('#rejects img').naturalWidth === 1024")
    assert page.locator("#rejects figcaption").first.inner_text() == "seam a_v00, attempt 1"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everything_has_a_name(visit, report) -> None:
    page = visit(report)
    open_first(page)
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, select, img, [role=slider], [role=img]')]
        .filter((node) => !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length || node.hasAttribute('alt')
                            || node.labels?.[0]?.textContent.trim()))
        .map((node) => node.outerHTML.slice(0, 120))""")
    assert nameless == []
    assert page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((node) => node.id)).size === document.querySelectorAll('[id]').length"
    )


def test_pictures_far_away_are_not_decoded(visit, report) -> None:
    page = visit(report, "phone")
    assert cards(page) == 9
    page.set_viewport_size({"width": 390, "height": 300})
    page.evaluate("document.querySelector('.card').style.marginBottom = '6000px'")
    until(page, "document.querySelectorAll('.card img').length < 18")
    page.evaluate("document.querySelectorAll('.card')[8].scrollIntoView()")
    until(page, "document.querySelectorAll('.card')[8].querySelectorAll('img').length === 2")


def test_the_served_page_does_the_same(visit, dataset) -> None:
    with ReportServer(Exhibit(dataset)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            page = visit(server.url)
            assert cards(page) == 9
            open_first(page)
            page.get_by_role("switch", name="Classes").check()
            until(page, "document.querySelector('.stage .mask').naturalWidth === 128")
            assert page.locator(".stage .photo").first.get_attribute("src").endswith("/image/0/large")
            page.get_by_label("Date on the right, through time").fill("1")
            until(page, "document.querySelectorAll('.stage .photo')[1].complete")
        finally:
            server.shutdown()
            thread.join()
