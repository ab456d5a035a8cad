"""The list of sessions, and one of them in order of time."""

import json

from playwright.sync_api import expect

from tests.backend.serving import threaded
from tests.browser import traffic
from tests.browser.processes import BackendProcess
from tests.browser.traffic import NOW, exchange


def test_sessions_are_listed_last_seen_first(page, screenshot):
    page.goto("/#/sessions")
    rows = page.locator("a.session-row")
    expect(rows).to_have_count(22)
    anna = page.get_by_role("row").filter(has_text=traffic.ANNA)
    cells = anna.locator("[role=cell]").all_inner_texts()
    assert cells[0] == traffic.ANNA
    assert cells[1] < cells[2]
    assert cells[3:6] == ["2 min", "18", "2"]
    assert cells[6].split() == ["inventory", "orders", "payment"]
    seen = [row.locator(".when").nth(1).inner_text() for row in rows.all()]
    assert seen == sorted(seen, reverse=True)
    screenshot("sessions")


def test_older_sessions_come_in_pages(page):
    page.route(
        "**/api/v1/sessions?*", lambda route: route.continue_(url=route.request.url.replace("limit=100", "limit=10"))
    )
    page.goto("/#/sessions")
    rows, older = page.locator("a.session-row"), page.get_by_role("button", name="Load older")
    expect(rows).to_have_count(10)
    older.click()
    expect(rows).to_have_count(20)
    older.click()
    expect(rows).to_have_count(22)
    expect(older).to_be_hidden()
    names = rows.locator("code").all_inner_texts()
    assert len(set(names)) == 22


def test_sessions_are_filtered_by_what_is_in_them(watched):
    page = watched.page
    page.goto("/#/sessions")
    expect(page.locator("a.session-row")).to_have_count(22)
    page.keyboard.press("/")
    page.keyboard.type("service:payment status>=400")
    page.keyboard.press("Enter")
    expect(page.locator("a.session-row")).to_have_count(1)
    expect(page.locator("a.session-row code")).to_have_text(traffic.ANNA)
    watched.expect("Failed to load resource")
    page.goto("/#/sessions?q=servise:x")
    expect(page.get_by_role("alert")).to_contain_text("'servise' is not a field")


def test_keys_walk_the_list(page):
    page.goto("/#/sessions")
    expect(page.locator("a.session-row").first).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator("a.session-row").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Session session-")


def test_a_session_is_told_in_order_of_time(page, screenshot):
    page.goto(f"/#/session/{traffic.ANNA}")
    rows = page.locator("a.time-row")
    expect(rows).to_have_count(12)  # 18 exchanges, of which 6 are the inbound halves of others
    times = [row.locator(".c-time").inner_text() for row in rows.all()]
    assert times == sorted(times)
    expect(page.locator(".pause-line")).to_have_text(["59.92 s later", "59.92 s later"])
    assert page.locator(".trace-chip").all_inner_texts() == [f"trace {1 + number // 4}" for number in range(12)]
    expect(rows.nth(1)).to_contain_text("orders → inventory")
    expect(page.locator(".facts")).to_contain_text("3 traces")
    expect(page.locator(".lane")).to_have_count(3)
    screenshot("session")


def test_a_long_session_comes_in_pages(browser):
    spans = [exchange("long", f"long-{number}", start=NOW + number, session="long") for number in range(1100)]
    with threaded() as url:
        BackendProcess(url).send(spans)
        page = browser.new_page(base_url=url)
        page.goto("/#/session/long")
        expect(page.locator("a.time-row")).to_have_count(1000)
        expect(page.locator(".facts")).to_contain_text("the first 1,000 are shown")
        page.get_by_role("button", name="Load more").click()
        expect(page.locator("a.time-row")).to_have_count(1100)
        expect(page.get_by_role("button", name="Load more")).to_be_hidden()
        expect(page.locator(".facts")).not_to_contain_text("are shown")
        page.close()


def test_a_part_of_a_session(page):
    page.goto(f"/#/session/{traffic.ANNA}")
    rows = page.locator("a.time-row")
    expect(rows).to_have_count(12)
    page.get_by_label("Service").select_option("payment")
    expect(rows).to_have_count(6)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Errors only").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("402")
    expect(page.locator(".lane-bar.failed")).to_have_count(2)
    page.get_by_role("button", name="trace 2").click()
    expect(page.locator("h1")).to_contain_text(traffic.trace_id("declined"))


def test_a_session_is_exported(watched):
    watched.expect("^download: ")
    page = watched.page
    page.goto(f"/#/session/{traffic.ANNA}")
    page.get_by_text("Export").click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="JSON lines").click()
    lines = waiting.value.path().read_text().splitlines()
    assert {json.loads(line)["session_id"] for line in lines} == {traffic.ANNA}
    assert len(lines) == 18


def test_what_is_no_session_is_said(watched):
    watched.expect("Failed to load resource")
    watched.page.goto("/#/session/nobody")
    expect(watched.page.locator(".problem")).to_have_text("there is no session of this id")
