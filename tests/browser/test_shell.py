"""The shell of the page: routes, keys, theme, and what the browser refuses in it."""

from playwright.sync_api import expect


def test_every_tab_leads_to_its_view(page):
    page.goto("/")
    expect(page.locator("nav a[aria-current=page]")).to_have_text("Live")
    page.goto("/#/sessions")
    expect(page.locator("nav a[aria-current=page]")).to_have_text("Sessions")
    expect(page).to_have_title("Sessions · sp_proxy")


def test_a_picture(page, screenshot):
    page.goto("/")
    expect(page.locator(".row").nth(5)).to_be_visible()
    screenshot("live")
