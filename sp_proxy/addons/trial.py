"""An addon tried with an exchange of no traffic, and measured: for who writes one."""

import time
from collections import defaultdict
from itertools import count
from typing import Final

from msgspec import Struct, structs

from sp_proxy.addons.heads import RequestAddon, RequestHooks
from sp_proxy.addons.process import AddonProcess, CapturePlan
from sp_proxy.addons.source import AddonFile
from sp_proxy.core.exchange import Direction, Exchange

_FIELDS: Final = (
    b"Host: orders.shop:8080\r\nUser-Agent: sample/1.0\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJ0ZW5hbnQiOiJhY21lIn0.c2lnbmF0dXJl\r\nContent-Length: 48\r\n"
)
SAMPLE: Final = Exchange(
    Direction.INBOUND,
    1_700_000_000_000_000_000,
    1_000_000,
    2_000_000,
    bytes(range(16)),
    bytes(range(8)),
    b"",
    b"sp-session-sample",
    b"orders",
    "http",
    "1.1",
    b"POST",
    b"/v2/orders/17?page=3",
    b"orders.shop:8080",
    _FIELDS,
    b'{"customer": "c-42", "items": [{"sku": "A-1"}]} ',
    48,
    200,
    b"Content-Type: application/json\r\nContent-Length: 24\r\n",
    b'{"id": 17, "total": 9.5}',
    24,
    "10.0.0.1",
    40000,
    "10.0.0.2",
    8080,
)
"""What hooks are tried with."""
RECORDS: Final = 256
"""Of a batch."""
TRIAL_SECONDS: Final = 1.0
"""For one call of a hook that is tried: one that never returns must not keep who tries it waiting."""


class CaptureCost(Struct, frozen=True):
    """Of a capture hook, in microseconds a record."""

    whole: float
    """With the way to its process and back."""
    hook: float
    """In its process."""
    failed: int


class RequestCost(Struct, frozen=True):
    """Of a request hook, in microseconds a request."""

    hook: float
    remembered: bool
    """The answer for a head that came before costs nothing."""
    failed: int


def plan(file: AddonFile) -> CapturePlan:
    """With limits for a trial."""
    return CapturePlan(file, TRIAL_SECONDS, 30.0, 1 << 30)


async def try_capture(file: AddonFile) -> list[str]:
    """Call the hook once; what it did, a line each."""
    process = AddonProcess(plan(file))
    try:
        outcome = await process.work([SAMPLE])
        series = process.stats().series
    finally:
        process.close()
    (made,) = outcome.made
    if outcome.missed:
        said = [f"exchange(ex): failed with the sample: {process.stats().last_problem}"]
    elif made is None:
        said = ["exchange(ex): leaves the sample as it is"]
    elif not made:
        said = ["exchange(ex): drops the sample"]
    else:
        said = (
            [f"exchange(ex): makes {len(made)} of the sample"]
            if len(made) > 1
            else ["exchange(ex): changes the sample"]
        )
        said += [f"  tag {name}: {value}" for each in made for name, value in each.tags]
    said += [f"  metric {name} {dict(labels)}: {each.amount:g}" for (name, labels), each in series.items()]
    return said


def try_request(file: AddonFile) -> list[str]:
    """Likewise."""
    counters: defaultdict[str, int] = defaultdict(int)
    edit = _hooks(file, counters, TRIAL_SECONDS).edit(*_head(0))
    if counters[f"addon_request_faults:{file.name}"]:
        return ["request(head): failed with the sample"]
    if edit is None:
        return ["request(head): leaves the sample as it is"]
    said = ["request(head): changes the sample"]
    said += [f"  adds {line.decode('utf-8', 'replace')}" for line in edit.lines.split(b"\r\n") if line]
    said += [f"  host: {edit.authority.decode()}"] if edit.authority else []
    said += [f"  capture: {edit.capture}"] if edit.capture is not None else []
    return said + [f"  tag {name}: {value}" for name, value in edit.tags]


async def bench_capture(file: AddonFile, seconds: float) -> CaptureCost:
    """Call the hook for so long, in its process."""
    process = AddonProcess(plan(file))
    numbers = count(1)
    try:
        await process.work([SAMPLE])
        process.tally.seconds, before = 0.0, process.tally.called
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            batch = [structs.replace(SAMPLE, span_id=next(numbers).to_bytes(8)) for _ in range(RECORDS)]
            await process.work(batch)
        took = time.perf_counter() - began
        called = max(1, process.tally.called - before)
        return CaptureCost(took / called * 1e6, process.tally.seconds / called * 1e6, process.tally.failed)
    finally:
        process.close()


def bench_request(file: AddonFile, seconds: float) -> RequestCost:
    """Likewise, in this process."""
    counters: defaultdict[str, int] = defaultdict(int)
    hooks = _hooks(file, counters)
    called = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(100):
            hooks.edit(*_head(called))
            called += 1
    took = time.perf_counter() - began
    return RequestCost(took / called * 1e6, file.pure, counters[f"addon_request_faults:{file.name}"])


def _hooks(file: AddonFile, counters: defaultdict[str, int], interrupt: float = 0.0) -> RequestHooks:
    return RequestHooks(
        [RequestAddon(file.name, file.path, file.text, file.pure)], 3600.0, counters, interrupt=interrupt
    )


def _head(number: int) -> tuple[Direction, bytes, bytes, bytes, bytes]:
    return SAMPLE.direction, SAMPLE.method, b"/v2/orders/%d" % number, SAMPLE.authority, b"\r\n" + _FIELDS
