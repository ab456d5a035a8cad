"""Hooks are called in order, and what they raise goes no further."""

import asyncio
import logging
from collections import defaultdict

from sp_proxy.mitm.hooks import LOGGED_FAULTS, NAMES, Hooks


class Addon:
    def __init__(self, seen: list[str], name: str) -> None:
        self.seen = seen
        self.name = name

    def request(self, data: str) -> None:
        self.seen.append(f"{self.name}:{data}")

    async def response(self, data: str) -> None:
        await asyncio.sleep(0)
        self.seen.append(f"{self.name}:later {data}")

    def error(self, data: str) -> None:
        raise RuntimeError(data)

    def unknown(self, data: str) -> None:
        self.seen.append("unknown")


def call(hooks: Hooks, *names: str) -> None:
    async def run() -> None:
        for name in names:
            await hooks.call(name, "data")

    asyncio.run(run())


def test_in_the_order_of_the_addons():
    seen: list[str] = []
    hooks = Hooks(defaultdict(int))
    hooks.add(Addon(seen, "a"))
    hooks.add(Addon(seen, "b"))
    call(hooks, "request", "response", "unknown", "tcp_start")
    assert seen == ["a:data", "b:data", "a:later data", "b:later data"]


def test_only_the_named_hooks():
    seen: list[str] = []
    hooks = Hooks(defaultdict(int))
    hooks.add(Addon(seen, "a"), ("response",))
    call(hooks, "request", "response")
    assert seen == ["a:later data"]


def test_a_fault_is_counted_logged_and_stays_here(caplog):
    counters: defaultdict[str, int] = defaultdict(int)
    seen: list[str] = []
    hooks = Hooks(counters)
    hooks.add(Addon(seen, "a"))
    with caplog.at_level(logging.ERROR):
        call(hooks, *["error"] * (LOGGED_FAULTS + 5), "request")
    assert counters["hook_faults"] == LOGGED_FAULTS + 5
    assert len(caplog.records) == LOGGED_FAULTS
    assert seen == ["a:data"]


def test_every_name_is_one_of_mitmproxy_s():
    from mitmproxy import eventsequence  # noqa: F401, PLC0415  # declares them, with the next
    from mitmproxy.hooks import all_hooks  # noqa: PLC0415
    from mitmproxy.proxy import server_hooks  # noqa: F401, PLC0415

    assert set(NAMES) <= set(all_hooks)
