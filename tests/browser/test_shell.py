"""The shell of the page: routes, keys, theme, small screens, and what works without a mouse."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.traffic import ANNA, span_id, trace_id

VIEWS = {
    "live": ("Live", "Live"),
    "sessions": ("Sessions", "Sessions"),
    f"session/{ANNA}": ("Session", "Sessions"),
    "map": ("Map", "Map"),
    "health": ("Health", "Health"),
    f"trace/{trace_id('checkout')}": ("Trace", ""),
    f"exchange/{span_id('checkout')}": ("Exchange", ""),
    f"compare/{span_id('checkout')}/{span_id('again')}": ("Compare", ""),
}


def test_every_address_leads_to_its_view(page):
    page.goto("/")
    expect(page).to_have_title("Live · sp_proxy")
    for address, (title, tab) in VIEWS.items():
        page.evaluate("address => { location.hash = address; }", f"#/{address}")
        expect(page).to_have_title(f"{title} · sp_proxy")
        current = page.locator("nav a[aria-current=page]")
        expect(current).to_have_text([tab] if tab else [])
        expect(page.locator("#view > *").first).to_be_attached()
        expect(page.get_by_text("This view cannot be shown")).to_have_count(0)
    expect(page.locator("#totals")).to_contain_text("exchanges")


@pytest.mark.parametrize(
    "address", ["nothing", "constructor", "live/1", "exchange", "compare/1", "trace/%E0%A4", "session/a/b"]
)
def test_an_address_that_is_none_says_so(page, address):
    page.goto(f"/#/{address}")
    expect(page.get_by_role("alert")).to_have_text("There is no such view.")
    page.locator("main").get_by_role("link", name="Live").click()
    expect(page).to_have_title("Live · sp_proxy")


def test_a_view_that_is_left_leaves_nothing_behind(page, demo):
    page.goto("/#/live")
    expect(page.locator("#connection")).to_have_text("live")
    for _ in range(3):
        page.keyboard.press("2")
        expect(page).to_have_title("Sessions · sp_proxy")
        page.keyboard.press("1")
        expect(page.locator("#connection")).to_have_text("live")
    page.keyboard.press("2")
    expect(page.locator("#connection")).to_have_text("")
    # No stream goes on: the backend notices within moments that its reader has gone.
    for _ in range(300):
        if demo.get("/api/v1/stats")["live_subscribers"] == 0:
            break
        page.wait_for_timeout(100)
    assert demo.get("/api/v1/stats")["live_subscribers"] == 0
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_be_visible()
    expect(keys).not_to_contain_text("Pause")
    keys.get_by_role("button", name="Close").click()
    expect(keys).to_have_count(0)


def background(page) -> str:
    colour: str = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    return colour


LIGHT, DARK = "rgb(251, 251, 253)", "rgb(16, 16, 22)"


def test_dark_and_light(page, screenshot):
    page.goto(f"/#/exchange/{span_id('checkout')}")
    expect(page.locator(".tree").first).to_be_visible()
    assert background(page) == LIGHT
    page.emulate_media(color_scheme="dark")
    assert background(page) == DARK
    screenshot("exchange-dark")
    button = page.get_by_role("button", name=re.compile("^Theme"))
    expect(button).to_have_attribute("title", "Theme: system")
    button.click()
    expect(button).to_have_attribute("title", "Theme: light")
    assert background(page) == LIGHT
    page.emulate_media(color_scheme="light")
    button.click()
    assert background(page) == DARK
    page.reload()
    expect(button).to_have_attribute("title", "Theme: dark")
    assert background(page) == DARK
    page.goto("/#/live")
    expect(page.locator(".row").nth(5)).to_be_visible()
    screenshot("live-dark")
    button.click()
    assert background(page) == LIGHT


CONTRAST = """() => {
  const channel = (value) => (value /= 255, value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = numbers(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest(".skip")) continue;
    const [one, other] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out(page, scheme):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 or more."""
    page.emulate_media(color_scheme=scheme)
    page.goto("/#/live?q=status>=300 or path:/api/orders")
    expect(page.locator(".virtual .row").nth(5)).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    page.goto(f"/#/exchange/{span_id('redacted')}")
    expect(page.locator(".tree").first).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    page.goto(f"/#/compare/{span_id('checkout')}/{span_id('declined')}")
    expect(page.locator(".diff-row.changed").first).to_be_visible()
    assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (420, 800)])
def test_nothing_is_wider_than_the_screen(page, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for address in ("live", f"exchange/{span_id('checkout')}", f"compare/{span_id('checkout')}/{span_id('large')}"):
        page.goto(f"/#/{address}")
        expect(page.locator(".row, .side").nth(1)).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), address


def test_without_a_mouse(page):
    page.goto("/#/live")
    expect(page.locator(".virtual .row").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#view")).to_be_focused()
    expect(page).to_have_url(re.compile("#/live$"))
    page.keyboard.press("/")
    expect(page.get_by_label("Query")).to_be_focused()
    page.keyboard.type("p")  # a letter in a field, no key
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Query")).not_to_be_focused()
