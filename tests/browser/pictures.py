"""The pictures of the README, taken of the demo's own traffic: ``make pictures`` writes them into ``docs/pictures``."""

import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from tests.browser.conftest import CHROMIUM
from tests.browser.processes import BackendProcess
from tests.browser.shop import open_shop

PICTURES = Path(__file__).parent.parent.parent / "docs" / "pictures"
SIZE = ViewportSize(width=1280, height=700)


def take(backend: BackendProcess, page: Page, directory: Path) -> None:
    """All of them."""
    trace = widest_trace(backend)
    page.goto(f"{backend.url}/#/trace/{trace['trace_id']}")
    expect(page.locator(".w-row").nth(3)).to_be_visible()
    page.keyboard.press("j")
    page.screenshot(path=directory / "trace.png", animations="disabled")
    session = backend.get("/api/v1/sessions?q=status>%3D400%20service:payment&limit=1")["sessions"][0]
    page.goto(f"{backend.url}/#/session/{session['session_id']}")
    expect(page.locator("a.time-row").nth(5)).to_be_visible()
    page.screenshot(path=directory / "session.png", animations="disabled")


def widest_trace(backend: BackendProcess) -> dict[str, Any]:
    """Of the latest orders that were paid, the one with the most spans."""
    paid = backend.get("/api/v1/exchanges?service=payment&direction=inbound&status=2xx&limit=20")["exchanges"]
    traces: list[dict[str, Any]] = [backend.get(f"/api/v1/traces/{each['trace_id']}") for each in paid]
    return max(traces, key=lambda trace: (len(trace["services"]), trace["spans"]))


def main() -> None:
    """The command."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        open_shop(Path(directory)) as backend,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=f"/usr/bin/{CHROMIUM}")
        page = chromium.new_page(viewport=SIZE, color_scheme="light", locale="en-GB")
        take(backend, page, PICTURES)
        chromium.close()
    for picture in sorted(PICTURES.glob("*.png")):
        print(f"{picture.relative_to(PICTURES.parent.parent)}: {picture.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
