"""Health: the demo's own daemons, and one that says hostile things."""

import re
from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import expect

from sp_proxy.admin.metrics import SupervisorStats
from sp_proxy.admin.status import status_document
from sp_proxy.exporter.stats import DestinationStats, ExporterStats, SpoolStats, WorkerStats
from tests.backend.serving import threaded
from tests.backend.test_daemons import admin
from tests.browser.hostile import BIDI, MARKUP
from tests.browser.processes import BackendProcess
from tests.browser.shop import open_shop
from tests.browser.watching import Watched

BACKEND = "shop"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    with open_shop(tmp_path_factory.mktemp("shop")) as backend:
        yield backend


def number(page, daemon: str, term: str) -> int:
    text = page.get_by_role("region", name=daemon, exact=True).locator(f"[data-term={term}] b").inner_text()
    return int(text.replace(",", ""))


def test_every_daemon_of_the_demo_is_well(page, screenshot):
    page.goto("/#/health")
    for name in ("orders", "inventory", "payment"):
        card = page.get_by_role("region", name=name, exact=True)
        expect(card.locator("h2 .pill")).to_have_text("well")
        expect(card.locator(".equation .pill")).to_have_text("holds")
        assert number(page, name, "captured") == number(page, name, "accepted") > 0
        expect(card.locator("table").first).to_contain_text("relay 0")
    parts = page.locator(".health-part").all()
    assert len(parts) == 4 * 3
    assert all(part.evaluate("part => part.scrollWidth <= part.clientWidth") for part in parts)  # none over the next
    screenshot("health")


def test_workers_tell_what_they_use(page):
    page.goto("/#/health")
    cells = page.get_by_role("region", name="orders", exact=True).locator("table").first.locator("tbody tr td")
    assert re.fullmatch(r"\d+\.\d MiB", cells.nth(1).inner_text())
    # A part of a second after the second look: the processor time between the two.
    expect(cells.nth(2)).to_have_text(re.compile(r"^\d+\.\d %$"))
    assert int(cells.nth(4).inner_text()) >= int(cells.nth(5).inner_text()) > 0


def test_rules_are_counted(page):
    page.goto("/#/health")
    card = page.get_by_role("region", name="orders", exact=True)
    expect(card.locator("tr", has_text="exemption[0]")).to_contain_text("pathPatterns /v1/traces")
    expect(card.locator(".health-part", has_text="Requests by decision")).to_contain_text("captured")


def test_the_backend_tells_of_itself(page):
    page.goto("/#/health")
    expect(page.get_by_role("region", name="Backend", exact=True)).to_contain_text("duplicates ignored")


def test_what_daemons_say_is_shown_as_text(browser):
    name = f"{MARKUP}{BIDI}"[:120]
    stats = ExporterStats(
        captured=9,
        shed={MARKUP: 1},
        waiting_batch=0,
        held_bytes=0,
        channel_dropped={MARKUP: 2},
        channel_errors=0,
        destinations=(
            DestinationStats(
                name=MARKUP,
                accepted=1,
                breaker="open",
                last_error=MARKUP,
                spool=SpoolStats("degraded", problem=MARKUP, entries=3, size=5, oldest_unix=1e9),
            ),
        ),
        workers=(WorkerStats(0, True, {f"requests:{MARKUP}:{MARKUP}": 3, f"dropped:{MARKUP}": 1}, {}),),
    )
    supervisor = SupervisorStats(2, 1, 0, True, 0, 0, 0, True, False)
    status = msgspec.json.encode(status_document(supervisor, stats))
    config = msgspec.json.encode({"settings": {"collectionRules": {"http": {"server": [{"path": MARKUP}]}}}})
    with admin(status=(200, status), config=(200, config)) as daemon:
        daemons = [{"address": str(daemon.address), "name": name}, {"address": "127.0.0.1:1", "name": "gone"}]
        with threaded(daemons=daemons) as url:
            context = browser.new_context(base_url=url)
            page = context.new_page()
            watched = Watched(context, page, url)
            page.goto("/#/health")
            card = page.locator(".daemon").first
            expect(card).to_contain_text("records are missing")
            expect(card).to_contain_text("failing open")
            expect(card).to_contain_text("does not hold")
            expect(card.locator("h2")).to_contain_text("<script>")
            expect(card.locator(".health-part", has_text="Rules")).to_contain_text("<script>")
            expect(page.locator(".daemon").nth(1)).to_contain_text("does not answer")
            assert page.evaluate("window.hacked") is None
            assert page.locator("main script, main img, main svg").count() == 0
            context.close()
    watched.check()
