"""Content of attackers in every view: nothing of it runs, is loaded, or becomes more than text. And pages of attackers."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.hostile import BIDI, MARKUP, NAMES, SESSION
from tests.browser.processes import backend_process
from tests.browser.traffic import NOW, exchange, span_id, trace_id
from tests.browser.watching import Watched

BACKEND = "hostile_backend"

ESCAPED = """() => {
  const found = [];
  if (globalThis.hacked || ({}).hacked) found.push("code ran");
  const allowed = new Set(["img", "script", "link", "meta", "canvas", "svg"]);
  for (const element of document.querySelectorAll("*")) {
    const name = element.localName;
    for (const { name: attribute, value } of element.attributes) {
      if (/^on/i.test(attribute) || attribute === "style" && /url\\(/i.test(value)) found.push(`${name} ${attribute}`);
      if (["href", "src", "action", "formaction", "data", "srcset", "xlink:href"].includes(attribute) && !/^(#|\\/(?!\\/)|blob:)/.test(value)) {
        found.push(`${name} ${attribute}=${value}`);
      }
    }
    if (["iframe", "object", "embed", "base", "frame", "video", "audio", "style", "template"].includes(name)) found.push(name);
    if (name === "script" && !["/app.js", "/theme.js"].includes(element.getAttribute("src"))) found.push("script");
    if (name === "img" && element.getAttribute("src") !== "/icon.svg") found.push("img");
    if (name === "meta" && element.httpEquiv) found.push("meta");
  }
  return found;
}"""


def check(page: Page, origin: str) -> None:
    """Nothing broke out, and the page is the page."""
    assert page.evaluate(ESCAPED) == []
    assert page.title().endswith("sp_proxy")
    assert page.url.startswith(origin)


@pytest.mark.parametrize("name", NAMES)
def test_an_exchange_in_every_way_of_showing_it(page, hostile_backend, name):
    page.goto(f"/#/exchange/{span_id(name)}?trace={trace_id(name)}")
    expect(page.locator(".side")).to_have_count(2)
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for part in page.locator(".bodybox").all():
        tabs = part.get_by_role("tab")
        expect(tabs.first).to_be_visible()
        for tab in tabs.all():
            tab.click()
            expect(part.locator(".panel > *").first).to_be_visible()
    check(page, hostile_backend.url)


def test_lists_and_trees(page, hostile_backend, screenshot):
    page.goto("/#/live")
    expect(page.locator(".virtual .row")).to_have_count(len(NAMES) + 2)
    check(page, hostile_backend.url)
    screenshot("hostile-live")
    for address, shown in [
        (f"trace/{trace_id('markup')}", MARKUP[:20]),
        (f"trace/{trace_id('huge')}", "ppp"),
        ("sessions", "session/"),
        (f"session/{quote(SESSION, safe='')}", "session/"),
        ("map", ""),
        ("health", ""),
        (f"compare/{span_id('markup')}/{span_id('control')}", "Facts"),
        (f"compare/{span_id('huge')}/{span_id('deep')}", "Facts"),
    ]:
        page.goto(f"/#/{address}")
        expect(page.locator("#view")).to_contain_text(shown or re.compile("."))
        expect(page.locator("#view")).not_to_contain_text("cannot be shown")
        check(page, hostile_backend.url)


def test_texts_say_what_they_are(page):
    page.goto(f"/#/exchange/{span_id('bidi')}")
    heading = page.locator("h1 .target")
    expect(heading).to_contain_text("invoice⟨U+202E⟩fdp.exe⟨U+2066⟩⟨U+200F⟩⟨U+FEFF⟩")
    assert BIDI not in (page.locator("body").text_content() or "")
    page.goto(f"/#/exchange/{span_id('control')}")
    expect(page.locator("h1 .target")).to_contain_text(
        "a⟨U+0000⟩b⟨U+0007⟩c⟨U+001B⟩[2Jd⟨U+007F⟩e⟨U+009B⟩f⟨U+2028⟩g⟨U+2029⟩h"
    )
    page.goto(f"/#/exchange/{span_id('svg')}")
    response = page.get_by_role("region", name="Response")
    expect(response.get_by_role("tab")).to_have_text(["Tree", "Raw", "Hex"])  # a document, not a picture
    expect(response.locator(".tree")).to_contain_text("@onload")
    page.goto(f"/#/exchange/{span_id('laughs')}")
    expect(page.get_by_role("region", name="Response").locator(".tree")).to_contain_text("&c;&f;")
    page.goto(f"/#/exchange/{span_id('picture')}")
    expect(page.get_by_role("region", name="Response")).to_contain_text("60000: too large to be drawn")
    expect(page.get_by_role("region", name="Request")).to_contain_text("cannot be decoded")
    page.goto(f"/#/exchange/{span_id('bomb')}")
    expect(page.get_by_role("region", name="Request")).to_contain_text("compressed (gzip), cannot be read")


def test_what_is_saved_is_a_file_and_nothing_else(page, watched, hostile_backend):
    watched.expect("^download: ")
    for name in ("markup", "page", "svg"):
        page.goto(f"/#/exchange/{span_id(name)}?trace={trace_id(name)}")
        response = page.get_by_role("region", name="Response")
        with page.expect_download() as download:
            response.get_by_role("button", name="Save").click()
        assert re.fullmatch(r"response-[0-9a-f]{16}\.(bin|json|xml|txt)", download.value.suggested_filename)
    for form in ("har", "curl", "httpie", "otlp", "jsonl"):
        answer = page.request.get(f"/api/v1/export/{form}")
        assert re.fullmatch(r'attachment; filename="exchanges\.[a-z.]+"', answer.headers["content-disposition"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].split(";")[0] in {"application/json", "application/jsonl", "text/plain"}
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    check(page, hostile_backend.url)


def test_wild_addresses(page, watched, hostile_backend):
    watched.expect("status of 4")
    for address in (
        MARKUP,
        f"exchange/{MARKUP}",
        f"session/{MARKUP}",
        f"trace/{MARKUP}",
        "__proto__",
        "live?q=" + MARKUP,
    ):
        page.goto(f"/#/{quote(address, safe='/?=')}")
        page.goto(f"/#/{address}")
        expect(page.locator("#view > *").first).to_be_visible()
        check(page, hostile_backend.url)


def test_the_policy_stops_what_would_get_through(page, watched, hostile_backend):
    """Were there a hole, this is what stands behind it."""
    page.goto("/#/live")
    watched.expect(
        "Content Security Policy|CSP violation|TrustedHTML|TrustedScript|Trusted Types|trusted-types|violates"
    )
    results = page.evaluate(
        """async () => {
          const results = {};
          const attempt = async (name, run) => { try { results[name] = await run(); } catch (error) { results[name] = error.name; } };
          await attempt("markup", () => { document.createElement("div").innerHTML = "<b>x</b>"; return "done"; });
          await attempt("fetch", () => fetch("http://evil.test/").then(() => "done"));
          await attempt("image", () => new Promise((resolve) => {
            const image = new Image();
            image.onerror = () => resolve("refused");
            image.onload = () => resolve("done");
            image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=";
          }));
          await attempt("script", () => {
            const script = document.createElement("script");
            script.append("window.hacked = true");
            document.head.append(script);
            return window.hacked ? "done" : "refused";
          });
          await attempt("frame", () => { const frame = document.createElement("iframe"); frame.src = "/"; document.body.append(frame); return "tried"; });
          return results;
        }"""
    )
    assert results == {
        "markup": "TypeError",
        "fetch": "TypeError",
        "image": "refused",
        "script": "refused",
        "frame": "tried",
    }
    page.reload()
    check(page, hostile_backend.url)


ATTACK = """<!doctype html><meta charset=utf-8><title>attack</title><script>
const backend = "BACKEND";
const results = {};
const attempt = async (name, run) => { try { results[name] = await run(); } catch (error) { results[name] = "refused"; } };
(async () => {
  await attempt("read", () => fetch(backend + "/api/v1/exchanges").then((answer) => answer.text()));
  await attempt("send", () => fetch(backend + "/v1/traces", { method: "POST", body: "{}", headers: { "content-type": "application/json" } }).then(() => "sent"));
  await fetch(backend + "/v1/traces", { method: "POST", mode: "no-cors", body: BODY, headers: { "content-type": "text/plain" } }).catch(() => 0);
  await attempt("stream", () => new Promise((resolve) => {
    const stream = new EventSource(backend + "/api/v1/live");
    stream.onopen = () => resolve("listening");
    stream.onerror = () => resolve("refused");
  }));
  await attempt("script", () => new Promise((resolve) => {
    const script = document.createElement("script");
    script.onload = () => resolve("loaded");
    script.onerror = () => resolve("refused");
    script.src = backend + "/api/v1/export/jsonl";
    document.head.append(script);
  }));
  await attempt("frame", () => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.onload = () => { try { resolve(frame.contentDocument ? "readable" : "opaque"); } catch { resolve("opaque"); } };
    frame.src = backend + "/";
    document.body.append(frame);
  }));
  results.frames = frames.length ? frames[0].length : 0;
  document.title = "finished";
})();
window.results_ = results;
</script>"""


@contextmanager
def page_of_an_attacker(backend_url: str) -> Iterator[str]:
    """The URL of a web page on another origin that turns on the backend."""
    body = json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "1" * 32, "spanId": "2" * 16, "name": "forged"}]}]}]}
    )
    content = ATTACK.replace("BACKEND", backend_url).replace("BODY", json.dumps(body)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(content if self.path == "/" else b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_a_foreign_page_reads_and_writes_nothing(browser, hostile_backend):
    before = hostile_backend.get("/api/v1/stats")["spans"]
    with page_of_an_attacker(hostile_backend.url) as attacker:
        context = browser.new_context()
        page = context.new_page()
        page.goto(attacker)
        expect(page).to_have_title("finished")
        results = page.evaluate("() => results_")
        context.close()
    assert results == {
        "read": "refused",
        "send": "refused",
        "stream": "refused",
        "script": "refused",
        "frame": "opaque",
        "frames": 0,
    }
    assert hostile_backend.get("/api/v1/stats")["spans"] == before


def test_a_foreign_name_of_this_machine_is_refused(browser, hostile_backend):
    """DNS rebinding: the browser takes the name for its own origin, the backend does not."""
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(f"http://rebound.test:{hostile_backend.port}/")
    assert answer is not None
    assert answer.status == 403
    expect(page.locator("body")).to_contain_text("the Host header must name this machine")
    context.close()


def test_on_another_address_the_browser_asks_for_the_token(browser, tmp_path):
    with backend_process(tmp_path, host="0.0.0.0", token="correct horse") as backend:
        backend.send([exchange("known", "known", start=NOW, path="/known")])
        stranger = browser.new_context(http_credentials={"username": "me", "password": "wrong"})
        answer = stranger.new_page().goto(backend.url)
        assert answer is not None
        assert answer.status == 401
        stranger.close()
        context = browser.new_context(http_credentials={"username": "me", "password": "correct horse"})
        watched = Watched(context, context.new_page(), backend.url)
        watched.page.goto(f"{backend.url}/#/live")
        expect(watched.page.locator("#connection")).to_have_text("live")
        backend.send([exchange("live", "live", start=NOW + 1, path="/came-live")])
        expect(watched.page.get_by_role("row", name="/came-live")).to_be_visible()
        watched.page.keyboard.press("j")
        watched.page.keyboard.press("Enter")
        expect(watched.page.locator(".side")).to_have_count(2)
        context.close()
        watched.check()
