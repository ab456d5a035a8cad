"""The call tree of a trace: halves in one row, the critical path, what is missing, logs, keys, exports."""

import itertools
import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser import traffic

CHECKOUT = f"/#/trace/{traffic.trace_id('checkout')}"


def labels(page):
    rows = page.locator(".w-row:not(.w-head)")
    return [" ".join(row.locator(".w-label").inner_text().split()) for row in rows.all() if row.is_visible()]


def selected(page):
    return page.locator(".w-row[aria-selected=true]")


def test_the_call_tree_has_a_row_for_each_hop(page, screenshot):
    page.goto(CHECKOUT)
    expect(page.locator(".w-row:not(.w-head)")).to_have_count(5)
    assert labels(page) == [
        "▾ ↘ orders 201 POST /api/orders",
        "▾ ↗ orders → inventory 200 GET /stock/kettle-2",
        "• inventory SELECT stock",
        "▾ ↗ orders → payment 200 POST /charge",
        "↗ payment 200 POST /v1/authorise",
    ]
    assert page.locator(".w-row:not(.w-head) .w-network").all_inner_texts() == ["", "8.0 ms", "", "10 ms", ""]
    assert page.locator(".w-row:not(.w-head) .w-duration").all_inner_texts() == [
        *("180 ms", "46 ms", "24 ms", "110 ms", "82 ms"),
    ]
    # An outbound bar with the inbound one inside it.
    charge = page.locator(".w-row").nth(4)
    outer, inner = (charge.locator(f".span-bar.{name}").bounding_box() for name in ("outer", "inner"))
    assert outer["x"] < inner["x"]
    assert inner["x"] + inner["width"] < outer["x"] + outer["width"]
    screenshot("trace")


def test_the_critical_path_is_drawn_and_added_up(page):
    page.goto(CHECKOUT)
    expect(page.locator(".spent li")).to_have_count(6)
    assert page.locator(".spent li").all_inner_texts() == [
        "bank.example, where nothing was captured82 ms46 %",
        "inventory38 ms21 %",
        "orders24 ms13 %",
        "payment18 ms10 %",
        "orders → payment, between them10 ms6 %",
        "orders → inventory, between them8.0 ms4 %",
    ]
    # Its parts, one after the other, are the width of the whole.
    track = page.locator(".w-track").first.bounding_box()
    parts = sorted(
        (box["x"], box["width"]) for box in (part.bounding_box() for part in page.locator(".w-critical").all())
    )
    assert parts[0][0] == pytest.approx(track["x"], abs=1)
    for (start, width), (following, _) in itertools.pairwise(parts):
        assert start + width == pytest.approx(following, abs=1)
    assert sum(parts[-1]) == pytest.approx(track["x"] + track["width"], abs=1)


def test_what_was_not_captured_is_said(page):
    page.goto(CHECKOUT)
    expect(page.locator(".w-note")).to_have_text(["payment called bank.example; nothing was captured there."])


def test_logs_stand_beside_the_rows_that_wrote_them(page, screenshot):
    page.goto(CHECKOUT)
    expect(page.locator(".log-row")).to_have_count(2)
    assert page.locator(".log-row .log-body").all_inner_texts() == ["asking the bank", "the bank is slow"]
    assert page.locator(".w-row").nth(4).locator(".w-log").count() == 2
    page.locator(".log-row").nth(1).click()
    expect(selected(page).locator(".w-name")).to_have_text("POST /charge")
    expect(page.locator(".log-row.selected")).to_have_count(2)
    expect(page.locator(".span-panel h2")).to_have_text("orders → payment")
    expect(page.locator(".span-logs li")).to_have_count(2)
    screenshot("trace-logs")


def test_spans_of_sdks_show_what_they_say(page):
    page.goto(CHECKOUT)
    page.get_by_text("SELECT stock").click()
    panel = page.locator(".span-panel")
    expect(panel).to_contain_text("db.system")
    expect(panel).to_contain_text("postgresql")
    expect(panel).to_contain_text("inventory")


def test_keys_move_hide_and_open(page):
    page.goto(CHECKOUT)
    expect(selected(page)).to_have_attribute("data-index", "0")
    page.keyboard.press("j")
    page.keyboard.press("ArrowLeft")
    expect(selected(page)).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_text("SELECT stock")).to_be_hidden()
    page.keyboard.press("ArrowDown")
    expect(selected(page).locator(".w-name")).to_have_text("POST /charge")
    page.keyboard.press("k")
    page.keyboard.press("l")
    expect(page.get_by_text("SELECT stock")).to_be_visible()
    page.keyboard.press("c")
    expect(selected(page).locator(".w-name")).to_have_text("SELECT stock")
    page.keyboard.press("h")
    page.keyboard.press("h")
    page.keyboard.press("h")
    expect(selected(page)).to_have_attribute("data-index", "0")
    expect(page.locator(".w-row:not(.w-head):visible")).to_have_count(4)
    page.keyboard.press("?")
    expect(page.locator("dialog.keys")).to_contain_text("Next row on the critical path")
    page.keyboard.press("?")
    expect(page.locator("dialog.keys")).to_have_count(0)
    page.keyboard.press("Enter")
    opened = f"#/exchange/{traffic.span_id('checkout')}?trace={traffic.trace_id('checkout')}"
    expect(page).to_have_url(re.compile(re.escape(opened) + "$"))


def test_errors_stand_out(page):
    page.goto(f"/#/trace/{traffic.trace_id('declined')}")
    expect(page.locator(".w-row.failed")).to_have_count(2)
    page.keyboard.press("e")
    expect(selected(page).locator(".w-name")).to_have_text("POST /charge")
    expect(page.locator(".facts .bad")).to_have_text("2 errors")


def test_a_trace_is_exported(watched):
    watched.expect("^download: ")
    page = watched.page
    page.goto(CHECKOUT)
    page.get_by_text("Export").click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="HAR").click()
    entries = json.loads(waiting.value.path().read_text())["log"]["entries"]
    assert len(entries) == 6


def test_the_session_and_the_list_are_a_step_away(page):
    page.goto(CHECKOUT)
    expect(page.get_by_role("link", name="As a list")).to_have_attribute(
        "href", f"#/live?trace={traffic.trace_id('checkout')}"
    )
    page.get_by_role("link", name="Session", exact=True).click()
    expect(page.locator("h1")).to_have_text(f"Session {traffic.ANNA}")


@pytest.mark.parametrize("trace, said", [("0" * 32, "there is no trace of this id"), ("xyz", "32 hex digits")])
def test_what_is_no_trace_is_said(watched, trace, said):
    watched.expect("Failed to load resource")
    watched.page.goto(f"/#/trace/{trace}")
    expect(watched.page.locator(".problem")).to_contain_text(said)
