"""The view of one exchange: decoded bodies, what was left out of them, and what can be done with it."""

import json
import re
import subprocess

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.traffic import MULTIPART, REDACTED, XML, png, span_id, trace_id


def go(page: Page, name: str) -> None:
    """To the exchange of that name, until it is shown. The name of its trace is its first part."""
    page.goto(f"/#/exchange/{span_id(name)}?trace={trace_id(name.partition('/')[0])}")
    expect(page.get_by_text(span_id(name), exact=True).first).to_be_visible()


def side(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def tab(part: Locator, name: str) -> Locator:
    """The panel after a click on a tab."""
    part.get_by_role("tab", name=name, exact=True).click()
    expect(part.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
    return part.locator(".panel")


def leaves(part: Locator) -> list[str]:
    """The values of a tree that are in sight, with their labels."""
    expect(part.locator(".tree")).to_be_visible()
    rows = part.locator(".tree .t-leaf").all()
    return [": ".join(row.locator("> span").all_text_contents()) for row in rows if row.is_visible()]


def saved(page: Page, button: Locator) -> bytes:
    with page.expect_download() as download:
        button.click()
    return download.value.path().read_bytes()


def test_json_is_a_tree_a_text_and_bytes(page, screenshot):
    go(page, "checkout")
    expect(page.locator("h1")).to_have_text(re.compile(r"201\s*POST\s*shop\.local:8080/api/orders"))
    request, response = side(page, "Request"), side(page, "Response")
    assert leaves(request) == ['sku: "kettle-2"', "quantity: 1", 'name: "Anna"', f'card: "{REDACTED}"']
    # More than a double can hold: as it was written.
    assert "reference: 9007199254740993" in leaves(response)
    screenshot("exchange")
    request.locator("summary", has_text="items").click()
    expect(request.locator(".tree .t-leaf").first).to_be_hidden()
    expect(tab(response, "Text")).to_contain_text('{\n  "status": "paid",\n  "amount": 49.9,')
    expect(tab(response, "Raw")).to_have_text('{"status": "paid", "amount": 49.9, "reference": 9007199254740993}')
    expect(tab(response, "Hex")).to_contain_text(
        '00000000  7b 22 73 74 61 74 75 73  22 3a 20 22 70 61 69 64  |{"status": "paid|'
    )
    expect(request.get_by_role("tab")).to_have_text(["Tree", "Text", "Raw", "Hex"])
    expect(page.locator(".timing")).to_contain_text("first byte after 4.5 ms")
    expect(page.locator(".timing")).to_contain_text("complete after 180 ms")


def test_grpc_is_messages_and_fields(page, screenshot):
    go(page, "grpc")
    request, response = side(page, "Request"), side(page, "Response")
    assert leaves(request) == ['1: "sku"', '1: "kettle-2"', '1: "amount"', "3: 3", '1: "sku"', '1: "mug"']
    expect(request.locator("summary").first).to_have_text(re.compile(r"message 1.*33 bytes"))
    expect(request.locator("summary", has_text="message 2")).to_have_text(re.compile("gzip, 14 bytes inflated"))
    expect(response.locator("summary", has_text="message 2")).to_have_text(
        re.compile("4 bytes, 29 more were not captured")
    )
    screenshot("exchange-grpc")


def test_forms_and_xml(page, screenshot):
    go(page, "form")
    assert leaves(side(page, "Request")) == ["user: anna b", f"password: {REDACTED}", "next: /orders?page=2"]
    expect(side(page, "Response")).to_contain_text("No body.")
    go(page, "multipart")
    assert leaves(side(page, "Request")) == [
        "note: leave it at the door",
        'Content-Disposition: form-data; name="photo"; filename="door.png"',
        "Content-Type: image/png",
        f"content: {len(png(8, 8))} bytes",
    ]
    go(page, "xml")
    response = side(page, "Response")
    assert leaves(response) == [
        '<? ?>: xml version="1.0"',
        "<!-- -->: a price list",
        "@currency: EUR",
        "@sku: kettle-2",
        "49.90",
        "@sku: mug",
        "7.50 & less",
        "empty: (empty)",
    ]
    expect(tab(response, "Raw")).to_have_text(XML)
    screenshot("exchange-xml")


def test_a_picture_is_drawn(page, screenshot):
    go(page, "image")
    picture = side(page, "Response").get_by_role("img", name="image/png, 96")
    expect(picture).to_be_visible()
    # The gradient of traffic.png: red grows to the right.
    assert picture.evaluate("canvas => [...canvas.getContext('2d').getImageData(48, 0, 1, 1).data]") == [
        127,
        0,
        160,
        255,
    ]
    screenshot("exchange-image")


def test_bytes_come_as_they_were_captured(page, watched):
    watched.expect("^download: ")
    go(page, "binary")
    response = side(page, "Response")
    expect(response.get_by_role("tab")).to_have_text(["Hex"])
    assert saved(page, response.get_by_role("button", name="Save")) == bytes(range(256)) * 300
    expect(response.locator("pre")).to_contain_text("000000f0  f0 f1 f2")
    response.get_by_role("button", name="more").click()
    expect(response.locator("pre")).to_contain_text("00007ff0  f0 f1 f2")
    go(page, "multipart")
    assert saved(page, side(page, "Request").get_by_role("button", name="Save")) == MULTIPART


def test_what_was_left_out_is_said(page, screenshot):
    go(page, "truncated")
    expect(side(page, "Response").get_by_role("note")).to_have_text("Cut here: 17 B were captured of 4.8 MiB.")
    expect(side(page, "Response").get_by_role("tab")).to_have_text(["Raw", "Hex"])
    screenshot("exchange-truncated")
    go(page, "redacted")
    expect(page.locator("h1 mark.redacted")).to_have_text(REDACTED)
    expect(side(page, "Request").locator("mark.redacted")).to_have_text("hash:abcdefgh234567ab")
    expect(side(page, "Request")).to_contain_text("Never among them: authorization")
    go(page, "failed")
    expect(page.locator(".problem")).to_have_text("This exchange did not end as it should: timeout")
    go(page, "ongoing")
    expect(page.locator(".notice")).to_contain_text("still going on")


def test_a_large_body_is_shown_piece_by_piece(page):
    go(page, "large")
    response = side(page, "Response")
    expect(response.locator(".tree > .t-branch")).to_have_count(200)
    response.get_by_role("button", name="3800 more").click()
    expect(response.locator(".tree > .t-branch")).to_have_count(400)
    expect(response.locator(".tree .t-leaf")).to_have_count(0)
    response.locator(".tree > .t-branch > summary").nth(3).click()
    assert leaves(response) == ['sku: "s3"', "n: 3"]


def test_it_leads_to_its_trace_and_session(page):
    go(page, "checkout/charge")
    page.locator("h1").wait_for()
    page.keyboard.press("t")
    expect(page).to_have_url(re.compile(f"#/trace/{trace_id('checkout')}$"))
    page.go_back()
    page.get_by_role("link", name="Session", exact=True).click()
    expect(page).to_have_url(re.compile("#/session/session-anna$"))


def test_the_command_is_copied(page, watched):
    watched.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    go(page, "checkout")
    page.keyboard.press("y")
    expect(page.locator(".said")).to_have_text("Copied as curl")
    command = page.evaluate("() => navigator.clipboard.readText()")
    assert command.startswith("curl --globoff --request POST --header 'accept: */*'")
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True).stdout
    assert "http://shop.local:8080/api/orders" in words.splitlines()


def test_without_a_clipboard_it_is_shown_to_be_copied(page):
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    go(page, "checkout")
    page.get_by_role("button", name="Copy as HTTPie").click()
    expect(page.get_by_role("textbox", name="httpie")).to_have_value(re.compile("^http --ignore-stdin --raw"))
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("name, suffix", [("HAR", "har"), ("JSON", "jsonl"), ("OTLP", "otlp.json")])
def test_it_is_saved_as_a_file(page, watched, name, suffix):
    watched.expect("^download: exchanges")
    go(page, "checkout")
    with page.expect_download() as download:
        page.get_by_role("link", name=name, exact=True).click()
    assert download.value.suggested_filename == f"exchanges.{suffix}"
    text = download.value.path().read_text()
    assert json.loads(text)
    assert "kettle-2" in text


@pytest.mark.parametrize(
    "address, message",
    [
        ("#/exchange/xyz", "This is no id of an exchange: 16 hex digits."),
        (f"#/exchange/{'0' * 16}", "there is no exchange of this span id"),
    ],
)
def test_a_wrong_id_is_one_line(page, watched, address, message):
    watched.expect("status of 404")
    page.goto(f"/{address}")
    expect(page.get_by_role("alert")).to_have_text(message)
