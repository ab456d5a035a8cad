"""The view of two exchanges beside each other, and the difference of texts that it is made of."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.traffic import span_id, trace_id


def full_id(name: str) -> str:
    return f"{trace_id(name)}-{span_id(name)}"


def changed(page: Page, part: str) -> list[str]:
    """The rows of a part that differ."""
    region = page.get_by_role("region", name=part, exact=True)
    expect(region).to_be_visible()
    found: list[str] = region.locator(".diff-row.changed").evaluate_all(
        "rows => rows.map((row) => [...row.children].map((cell) => cell.textContent).join(' | '))"
    )
    return found


def test_what_differs_is_beside_each_other(page, screenshot):
    page.goto(f"/#/compare/{full_id('checkout')}/{full_id('declined')}")
    assert changed(page, "Facts") == [
        "status | 201 | 502",
        "response body | 65 B | 69 B",
        f"trace | {trace_id('checkout')} | {trace_id('declined')}",
    ]
    assert changed(page, "Request header fields") == changed(page, "Request body") == []
    expect(page.get_by_role("region", name="Request body")).to_contain_text("the same")
    assert changed(page, "Response body") == ['  "status": "paid", |   "status": "declined",']
    expect(page.locator(".diff-row.skipped")).to_have_count(0)  # too short for that
    screenshot("compare")
    page.keyboard.press("x")
    expect(page).to_have_url(re.compile(f"#/compare/{full_id('declined')}/{full_id('checkout')}$"))
    expect(page.locator(".diff-row.changed").first).to_contain_text("502")


def test_bodies_of_all_kinds(page):
    page.goto(f"/#/compare/{full_id('image')}/{full_id('binary')}")
    rows = changed(page, "Response body")
    assert rows[0].startswith("00000000  89 50 4e 47")
    assert " | 00000000  00 01 02 03" in rows[0]
    page.goto(f"/#/compare/{full_id('large')}/{full_id('xml')}")
    expect(page.get_by_role("region", name="Response body")).to_contain_text("More differences are not shown.")
    page.goto(f"/#/compare/{full_id('failed')}/{full_id('form')}")
    expect(page.get_by_role("region", name="Response body")).to_contain_text("none")


def test_from_one_exchange_to_another(page):
    page.goto(f"/#/exchange/{span_id('checkout')}")
    page.get_by_role("button", name="Compare…").click()
    expect(page.get_by_role("button", name="Marked: now open another one")).to_be_visible()
    page.goto("/#/live?q=status:502")
    expect(page.locator(".virtual .row")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("c")
    expect(page).to_have_url(re.compile(f"#/compare/{full_id('checkout')}/{full_id('declined')}$"))
    expect(page.get_by_role("heading", name="Facts")).to_be_visible()
    # The mark has done its work.
    page.goto(f"/#/exchange/{span_id('again')}")
    expect(page.get_by_role("button", name="Compare…")).to_be_visible()


@pytest.mark.parametrize("address", ["#/compare/1/2", "#/compare/x/" + "0" * 16])
def test_wrong_ids_are_one_line(page, address):
    page.goto(f"/{address}")
    expect(page.get_by_role("alert")).to_contain_text("Two ids of exchanges are needed")


LONGEST_COMMON = """async ({ rounds, seed }) => {
  const { diff } = await import("/diff.js");
  let state = seed;
  const random = (below) => (state = (state * 1103515245 + 12345) % 2147483648, Math.floor(state / 65536) % below);
  for (let round = 0; round < rounds; round++) {
    const [one, other] = [0, 1].map(() => Array.from({ length: random(12) }, () => "abc"[random(3)]));
    const steps = diff(one, other);
    const side = (name) => steps.map((step) => step[name]).filter((line) => line !== null).join("");
    const best = Array.from({ length: one.length + 1 }, () => Array(other.length + 1).fill(0));
    for (let i = one.length - 1; i >= 0; i--) for (let j = other.length - 1; j >= 0; j--) {
      best[i][j] = one[i] === other[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
    const kept = steps.filter((step) => step.one !== null && step.other !== null);
    if (side("one") !== one.join("") || side("other") !== other.join("") || kept.length !== best[0][0] || kept.some((step) => step.one !== step.other)) {
      return `${one} / ${other}: ${JSON.stringify(steps)}`;
    }
  }
  const long = (mark) => Array.from({ length: 5000 }, (_, index) => `${mark}${index}`);
  const far = diff(["same", ...long("a")], ["same", ...long("b")]);
  return far.length === 10001 && far[0].other === "same" ? "right" : "the bound";
}"""


def test_the_difference_is_the_shortest_there_is(page):
    page.goto("/#/compare/1/2")
    assert page.evaluate(LONGEST_COMMON, {"rounds": 3000, "seed": 7}) == "right"
