"""The live view when its beginning, its stream or its way back is not as usual: nothing is missing, and it says what it has."""

import re
import time

import pytest
from playwright.sync_api import Route, expect

from tests.browser.processes import backend_process
from tests.browser.test_live import arrive, open_live, paths, rows
from tests.browser.traffic import exchange

BACKEND = "again_backend"
STORED = 250
PAGES = re.compile(r"/api/v1/exchanges\?")
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def send(backend, name: str, count: int) -> None:
    start = time.time_ns() - count * 10**6
    backend.send(
        [exchange(f"{name}-{n}", f"{name}-{n}", start=start + n * 10**6, path=f"/{name}-{n}") for n in range(count)]
    )


@pytest.fixture(scope="module")
def again_backend(tmp_path_factory):
    with backend_process(tmp_path_factory.mktemp("again")) as backend:
        send(backend, "stored", STORED)
        yield backend


def hold_pages(page) -> list[Route]:
    """From now on pages wait until ``go_on``."""
    held: list[Route] = []
    page.route(PAGES, lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    return held


def go_on(page, held) -> None:
    for route in held:
        route.continue_()
    page.unroute(PAGES)


def test_a_search_goes_on_behind_an_empty_page(page):
    newest = f"{2**63 - 1}.1"
    page.route(
        PAGES,
        lambda route: (
            route.continue_()
            if "before=" in route.request.url
            else route.fulfill(json={"exchanges": [], "next": newest})
        ),
    )
    open_live(page, "?path=/stored-1")
    expect(page.get_by_role("row", name="/stored-199")).to_be_visible()
    expect(page.locator(".empty")).to_be_hidden()


def test_what_arrives_before_the_first_page_hides_no_older_ones(page, again_backend):
    held = hold_pages(page)
    page.goto("/#/live?path=/stored-&status=200")
    expect(page.locator("#connection")).to_have_text("live")
    arrive(again_backend, "stored-first")
    expect(page.get_by_role("row", name="/stored-first")).to_be_visible()
    go_on(page, held)
    expect(page.locator(".counter")).to_have_text("200 exchanges and older ones")
    table = page.get_by_role("table", name="Exchanges")
    table.evaluate("table => { table.scrollTop = table.scrollHeight; }")
    expect(page.locator(".counter")).to_have_text(f"{STORED + 1} exchanges")


def test_a_gap_is_seen_though_something_arrives_at_once(page, again_backend):
    send(again_backend, "gap-old", 3)
    open_live(page, "?path=/gap-")
    page.evaluate(HIDE, True)
    expect(page.locator("#connection")).to_have_text("")
    send(again_backend, "gap-missed", 250)
    held = hold_pages(page)
    page.evaluate(HIDE, False)
    expect(page.locator("#connection")).to_have_text("live")
    arrive(again_backend, "gap-new")
    expect(page.get_by_role("row", name="/gap-new")).to_be_visible()
    go_on(page, held)
    expect(page.locator(".counter")).to_have_text("200 exchanges and older ones")
    table = page.get_by_role("table", name="Exchanges")
    table.evaluate("table => { table.scrollTop = table.scrollHeight; }")
    expect(page.locator(".counter")).to_have_text("254 exchanges")


@pytest.mark.parametrize("query", ["path=/stored-", "q=path:/stored-*"])
def test_a_stream_that_was_refused_is_asked_for_again(page, watched, again_backend, query):
    def refuse(route: Route) -> None:
        route.fulfill(status=502, body="no backend")

    watched.expect("status of 502")
    refused = (PAGES, re.compile(r"/api/v1/live\?"))
    for each in refused:
        page.route(each, refuse)
    page.goto(f"/#/live?{query}")
    expect(page.locator("#connection")).to_have_text("not connected")
    for each in refused:
        page.unroute(each)
    expect(page.locator("#connection")).to_have_text("live")
    name = f"stored-after-{query[0]}"
    arrive(again_backend, name)
    expect(page.get_by_role("row", name=f"/{name}")).to_be_visible()


def test_the_selected_row_has_the_focus_and_is_there_on_the_way_back(page, again_backend):
    open_live(page, "?path=/stored-")
    arrive(again_backend, "stored-later")
    expect(page.get_by_role("row", name="/stored-later")).to_be_visible()
    seen = page.locator(".virtual .row .path").all_text_contents()
    assert seen == paths(page)  # in the page as on the screen
    for _ in range(30):
        page.keyboard.press("j")
    selected = page.locator(".row.selected")
    expect(selected).to_be_focused()
    expect(selected).to_have_attribute("aria-current", "true")
    path = selected.locator(".path").text_content()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text(path)
    page.keyboard.press("u")
    expect(selected.locator(".path")).to_have_text(path)
    expect(selected).to_be_in_viewport()
    page.keyboard.press("g")
    expect(rows(page).first).to_have_attribute("aria-rowindex", "2")
