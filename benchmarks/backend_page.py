"""The backend's page in a browser while exchanges arrive: for ``backend_store --page`` (needs chromium)."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

from msgspec import Struct
from playwright.sync_api import Page, sync_playwright

from benchmarks.processes import BenchmarkError

PATIENCE = 120_000
"""Milliseconds."""
_COUNT_FRAMES = """() => {
  window.drawn = { frames: 0, slowest_ms: 0, elements: 0, began: performance.now(), last: performance.now() };
  const tick = (now) => {
    drawn.frames += 1;
    drawn.slowest_ms = Math.max(drawn.slowest_ms, now - drawn.last);
    drawn.last = now;
    drawn.elements = Math.max(drawn.elements, document.getElementsByTagName("*").length);
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}"""


class Drawn(Struct, frozen=True):
    """How the page fared."""

    frames_per_second: float
    slowest_frame_ms: float
    elements: int
    """Of the document, at most."""
    newest_seconds: float
    """After the last exchange was stored, until the newest one stood at the top."""
    notice: str
    """What the page says it could not take; empty: it took everything."""


class OpenPage:
    """The live view in a browser. Use ``open_page``."""

    def __init__(self, page: Page, port: int) -> None:
        self._page = page
        self._port = port

    def report(self) -> Drawn:
        """How it has fared until now. Raises BenchmarkError when the newest exchange does not come."""
        ended = time.perf_counter()
        newest = self._newest_paths()
        deadline = ended + PATIENCE / 1000
        while self._page.locator('.virtual .row[aria-rowindex="2"] .path').text_content() not in newest:
            if time.perf_counter() > deadline:
                raise BenchmarkError("the newest exchange does not appear on the page")
            self._page.wait_for_timeout(50)
        waited = time.perf_counter() - ended
        values: dict[str, Any] = self._page.evaluate("() => drawn")
        notice = self._page.locator(".notice")
        return Drawn(
            frames_per_second=values["frames"] / (values["last"] - values["began"]) * 1000,
            slowest_frame_ms=values["slowest_ms"],
            elements=values["elements"],
            newest_seconds=waited,
            notice=notice.inner_text() if notice.is_visible() else "",
        )

    def _newest_paths(self) -> set[str]:
        """Of the exchange that began last, or of several that began together."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", "/api/v1/exchanges?limit=20")
        exchanges = json.loads(connection.getresponse().read())["exchanges"]
        connection.close()
        return {each["path"] for each in exchanges if each["start_unix_ns"] == exchanges[0]["start_unix_ns"]}


@contextmanager
def open_page(port: int) -> Iterator[OpenPage]:
    """Open the live view of the backend on a port, until the block ends."""
    executable = shutil.which("chromium")
    if executable is None:
        raise BenchmarkError("--page needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, timeout=PATIENCE)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/#/live")
        page.locator("#connection[data-state=live]").wait_for()
        page.evaluate(_COUNT_FRAMES)
        yield OpenPage(page, port)
        browser.close()
