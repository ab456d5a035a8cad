"""A page that is watched: whatever goes wrong in it, or leaves it, fails the test."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Download, Page, Request

SCREENSHOTS = Path(__file__).parent.parent.parent / "artifacts" / "screenshots"
_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""


class Watched:
    """What one page did that it should not."""

    def __init__(self, context: BrowserContext, page: Page, origin: str) -> None:
        self.page = page
        self.faults: list[str] = []
        self._origin = origin
        self._expected: list[str] = []
        context.add_init_script(_REPORT_VIOLATIONS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        page.on("request", self._on_request)
        page.on("dialog", self._on_dialog)
        page.on("popup", lambda opened: self.faults.append(f"a window was opened: {opened.url}"))
        page.on("download", self._on_download)
        page.on("crash", lambda _: self.faults.append("the page crashed"))

    def expect(self, pattern: str) -> None:
        """Console errors of this kind are no fault: the browser writes one for every answer of 4xx."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Raises AssertionError for what was seen."""
        unexpected = [
            fault for fault in self.faults if not any(re.search(pattern, fault) for pattern in self._expected)
        ]
        assert not unexpected, "\n".join(unexpected)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.faults.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and f"{parts.scheme}://{parts.netloc}" != self._origin:
            self.faults.append(f"a request to another place: {request.url}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _on_download(self, download: Download) -> None:
        self.faults.append(f"download: {download.suggested_filename}")
