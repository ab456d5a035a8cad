"""The browser (Debian's Chromium, driven by Playwright), two real backends with traffic, and a page that is watched.

The browser lives for one module, since Playwright's event loop runs in the thread of the tests, where those of other
directories start loops of their own. The backends live as long as the tests: processes, which nobody minds.
"""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.browser.hostile import send_all as send_hostile
from tests.browser.processes import BackendProcess, backend_process
from tests.browser.traffic import send_all as send_demo
from tests.browser.watching import SCREENSHOTS, Watched
from tests.requirements import unavailable

CHROMIUM = "chromium"
LAPTOP = ViewportSize(width=1366, height=768)
PATIENCE = 60_000
"""Milliseconds that a page may take, on a machine that has other things to do."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It resolves no name: a request to elsewhere would fail even if nobody saw it."""
    executable = shutil.which(CHROMIUM)
    if executable is None:
        unavailable("needs chromium: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    arguments = ["--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=arguments, timeout=PATIENCE)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    """A backend with the traffic of ``traffic.py``."""
    with backend_process(tmp_path_factory.mktemp("demo")) as backend:
        send_demo(backend)
        yield backend


@pytest.fixture(scope="session")
def hostile_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    """A backend with the traffic of ``hostile.py``."""
    with backend_process(tmp_path_factory.mktemp("hostile")) as backend:
        send_hostile(backend)
        yield backend


@pytest.fixture
def watched(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Watched]:
    """A page on the demo's backend, or on that of the module's or the class's ``BACKEND``, by the name of its fixture.

    Fails the test for console errors and warnings, page errors, violations of the content security policy, dialogs, new
    windows, downloads and requests to another origin, unless the test expects them.
    """
    name = getattr(request.module, "BACKEND", "demo")
    backend: BackendProcess = request.getfixturevalue(name)
    context = browser.new_context(base_url=backend.url, viewport=LAPTOP, color_scheme="light", locale="en-GB")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    watched = Watched(context, page, backend.url)
    yield watched
    context.close()
    watched.check()


@pytest.fixture
def page(watched: Watched) -> Page:
    """The page itself."""
    return watched.page


@pytest.fixture
def screenshot(watched: Watched) -> Callable[[str], None]:
    """``screenshot("live")`` keeps a picture of the page as it is, under ``artifacts/screenshots``."""

    def take(name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        watched.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    return take
