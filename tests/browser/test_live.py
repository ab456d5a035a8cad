"""The live view: the list, what arrives, the filter, the keys; and 500 exchanges a second."""

import re
import threading
import time

import pytest
from playwright.sync_api import Page, expect

from tests.backend.requests import partial_span
from tests.browser.processes import BackendProcess, backend_process
from tests.browser.traffic import ANNA, exchange, make_id, span_id
from tests.browser.watching import Watched

BACKEND = "live_backend"
STORED = 300


@pytest.fixture(scope="module")
def live_backend(tmp_path_factory):
    """One of its own: the tests send to it."""
    with backend_process(tmp_path_factory.mktemp("live")) as backend:
        start = time.time_ns() - 600 * 10**9
        statuses = (200, 200, 204, 301, 404, 500, 200, 200, 200, 200)
        backend.send(
            [
                exchange(
                    f"old-{n}",
                    f"old-{n}",
                    start=start + n * 10**9,
                    path=f"/old/{n}",
                    status=statuses[n % 10],
                    session=ANNA,
                )
                for n in range(STORED)
            ]
        )
        backend.send([exchange("slow", "slow", start=start, took=9000, service="payment", path="/slow")], "payment")
        yield backend


def arrive(backend: BackendProcess, *names: str) -> None:
    backend.send([exchange(name, name, start=time.time_ns(), path=f"/{name}") for name in names])


def rows(page: Page):
    return page.locator(".virtual .row")


def paths(page: Page) -> list[str]:
    """Of the rows in the page, from the top down."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".virtual .row")]
             .sort((one, other) => one.ariaRowIndex - other.ariaRowIndex).map((row) => row.querySelector(".path").textContent)"""
    )
    return found


def open_live(page: Page, query: str = "") -> None:
    page.goto(f"/#/live{query}")
    expect(page.locator("#connection")).to_have_text("live")
    expect(rows(page).first).to_be_visible()


def test_what_there_is_and_what_arrives(page, live_backend, screenshot):
    open_live(page)
    expect(rows(page).first).to_contain_text("/old/299")
    arrive(live_backend, "first-arrival", "second-arrival")
    expect(page.get_by_role("row", name="/second-arrival")).to_be_visible()
    assert paths(page)[:3] == ["/second-arrival", "/first-arrival", "/old/299"]
    for text, kind in [("200", "s2"), ("301", "s3"), ("404", "s4"), ("500", "s5")]:
        expect(page.locator(f".pill.{kind}", has_text=text).first).to_be_visible()
    screenshot("live")


def test_older_ones_are_loaded_at_the_end(page):
    open_live(page, "?session=session-anna")
    expect(page.locator(".counter")).to_have_text("200 exchanges and older ones")
    table = page.get_by_role("table", name="Exchanges")
    table.evaluate("table => { table.scrollTop = table.scrollHeight; }")
    expect(page.locator(".counter")).to_have_text(f"{STORED} exchanges")
    table.evaluate("table => { table.scrollTop = table.scrollHeight; }")
    expect(page.get_by_role("row", name="/old/0 ")).to_be_visible()
    assert rows(page).count() < 60


def test_an_open_exchange_gives_way_to_the_whole(page, live_backend):
    open_live(page)
    begun = partial_span(trace=make_id("open", 16), span=make_id("open", 8), path="/open", service="orders")
    begun.start_time_unix_nano, begun.end_time_unix_nano = time.time_ns(), time.time_ns() + 10**9
    live_backend.send([begun])
    expect(page.get_by_role("row", name="/open")).to_have_class(re.compile("partial"))
    whole = exchange("open", "open", start=begun.start_time_unix_nano, path="/open", status=503)
    live_backend.send([whole])
    row = page.get_by_role("row", name="/open")
    expect(row.locator(".pill")).to_have_text("503")
    expect(row).to_have_count(1)


def test_pause_holds_back_and_goes_on(page, live_backend):
    open_live(page)
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
    arrive(live_backend, "held-1", "held-2", "held-3")
    expect(page.locator(".notice")).to_have_text("Paused: 3 new exchanges waiting")
    assert "/held-3" not in paths(page)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("row", name="/held-3")).to_be_visible()
    expect(page.locator(".notice")).to_be_hidden()


def test_a_query_filters_what_is_there_and_what_arrives(page, live_backend):
    open_live(page)
    page.keyboard.press("/")
    page.keyboard.type("path:/wanted* or duration>5s")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"#/live\?q=path"))
    expect(rows(page)).to_have_count(1)
    expect(rows(page).first).to_contain_text("/slow")
    arrive(live_backend, "wanted-1", "other-1")
    expect(page.get_by_role("row", name="/wanted-1")).to_be_visible()
    assert paths(page) == ["/wanted-1", "/slow"]
    page.get_by_label("Status").select_option("4xx")
    expect(page.locator(".empty")).to_contain_text("Nothing captured yet that matches")
    page.go_back()
    expect(page.get_by_role("row", name="/slow")).to_be_visible()
    expect(page.get_by_label("Status")).to_have_value("")
    page.get_by_role("button", name="Clear").click()
    expect(page).to_have_url(re.compile("#/live$"))
    expect(page.get_by_role("row", name="/other-1")).to_be_visible()


def test_links_of_other_views_are_filters_that_can_be_removed(page):
    open_live(page, f"?session={ANNA}&service=orders")
    page.get_by_role("button", name="session session-anna").click()
    expect(page).to_have_url(re.compile(r"#/live\?service=orders$"))
    page.get_by_role("button", name="service orders").click()
    expect(page).to_have_url(re.compile("#/live$"))
    open_live(page, "?status=404")
    expect(page.get_by_label("Status")).to_have_value("404")
    assert set(page.locator(".virtual .pill").all_text_contents()) == {"404"}


@pytest.mark.parametrize(
    "query, message",
    [
        ("status>=500 servise:orders", "did you mean service?"),
        ("(status:200", ")"),
        ("duration>5parsecs", "duration"),
    ],
)
def test_a_wrong_query_says_where(page, watched, query, message):
    watched.expect("status of 400")
    page.goto("/#/live")
    page.get_by_label("Query").fill(query)
    page.get_by_label("Query").press("Enter")
    problem = page.locator(".query-problem")
    expect(problem).to_contain_text(message)
    expect(problem).to_contain_text(f"{query}\n")
    expect(problem).to_contain_text("▲")
    expect(page.get_by_label("Query")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Query").fill("status:200")
    page.get_by_label("Query").press("Enter")
    expect(problem).to_be_hidden()
    expect(rows(page).first).to_be_visible()


def test_the_keyboard_is_enough(page):
    open_live(page, "?q=path:/old/*")
    for key in ("j", "j", "j", "k", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.locator(".row.selected .path")).to_have_text("/old/297")
    page.keyboard.press("c")
    expect(page.locator(".row.marked .path")).to_have_text("/old/297")
    page.keyboard.press("c")
    expect(page.locator(".row.marked")).to_have_count(0)
    for _ in range(40):
        page.keyboard.press("j")
    expect(page.locator(".row.selected .path")).to_have_text("/old/257")
    expect(page.locator(".row.selected")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"#/exchange/{span_id('old-257')}"))
    expect(page.locator("h1")).to_contain_text("/old/257")
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile("#/live"))
    expect(rows(page).first).to_be_visible()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_contain_text("Pause, go on")
    page.keyboard.press("?")
    expect(keys).to_have_count(0)


def test_the_reader_is_not_moved_by_what_arrives(page, live_backend):
    open_live(page)
    table = page.get_by_role("table", name="Exchanges")
    count = int(table.get_attribute("aria-rowcount") or 0)
    table.evaluate("table => { table.scrollTop = 34 * 100; }")
    row = rows(page).filter(has=page.get_by_text("/old/190", exact=True))
    before = row.bounding_box()
    arrive(live_backend, *(f"above-{n}" for n in range(25)))
    expect(table).to_have_attribute("aria-rowcount", str(count + 25))
    after = row.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2
    page.keyboard.press("g")
    expect(page.get_by_role("row", name="/above-24")).to_be_visible()


def test_a_backend_that_comes_back_is_read_again(browser, tmp_path):
    context = browser.new_context()
    with backend_process(tmp_path) as backend:
        arrive(backend, "before")
        watched = Watched(context, context.new_page(), backend.url)
        watched.expect("ERR_")  # what the browser writes of a connection that is gone
        watched.page.goto(f"{backend.url}/#/live")
        expect(watched.page.get_by_role("row", name="/before")).to_be_visible()
    expect(watched.page.locator("#connection")).to_have_text("reconnecting")
    with backend_process(tmp_path, port=backend.port) as again:
        arrive(again, "meanwhile")
        expect(watched.page.locator("#connection")).to_have_text("live")
        expect(watched.page.get_by_role("row", name="/meanwhile")).to_be_visible()
        arrive(again, "after")
        expect(watched.page.get_by_role("row", name="/after")).to_be_visible()
        assert paths(watched.page) == ["/after", "/meanwhile", "/before"]
    # Opened with a query while nobody answers: it goes on trying.
    watched.page.evaluate("() => { location.hash = '#/sessions'; location.hash = '#/live?q=path:/*'; }")
    expect(watched.page.locator("#connection")).to_have_text("reconnecting")
    with backend_process(tmp_path, port=backend.port):
        expect(watched.page.get_by_role("row", name="/before")).to_be_visible()
        context.close()
    watched.check()


SECONDS, RATE, BATCH = 6, 500, 50


def test_500_a_second_stay_smooth(page, live_backend, screenshot):
    open_live(page)
    page.evaluate(
        """() => {
             window.frames_ = { count: 0, most: 0, slowest: 0, last: performance.now() };
             const tick = (now) => {
               frames_.count += 1;
               frames_.slowest = Math.max(frames_.slowest, now - frames_.last);
               frames_.last = now;
               frames_.most = Math.max(frames_.most, document.getElementsByTagName("*").length);
               requestAnimationFrame(tick);
             };
             requestAnimationFrame(tick);
           }"""
    )
    before = live_backend.get("/api/v1/stats")["exchanges"]

    def push() -> None:
        started = time.monotonic()
        for batch in range(SECONDS * RATE // BATCH):
            arrive(live_backend, *(f"rush-{batch * BATCH + n}" for n in range(BATCH)))
            time.sleep(max(0.0, started + (batch + 1) * BATCH / RATE - time.monotonic()))

    sender = threading.Thread(target=push)
    sender.start()
    while sender.is_alive():
        page.wait_for_timeout(200)  # the page runs on meanwhile
    sender.join()
    assert live_backend.get("/api/v1/stats")["exchanges"] == before + SECONDS * RATE
    expect(page.get_by_role("row", name=f"/rush-{SECONDS * RATE - 1} ")).to_be_visible()
    screenshot("live-rush")
    frames = page.evaluate("() => frames_")
    # However many there are, the page has only the rows that are in sight, and was drawn all the time.
    assert frames["most"] < 900
    assert frames["count"] > 10
    # All are there, or the page says how many are not: a machine that stalls for seconds is a slow reader.
    table = page.get_by_role("table", name="Exchanges")
    lost = re.search(r"([\d,]+) exchanges? arrived faster", page.locator(".notice").text_content() or "")
    shown = int(table.get_attribute("aria-rowcount") or 0)
    assert shown + int(lost[1].replace(",", "") if lost else 0) > SECONDS * RATE
