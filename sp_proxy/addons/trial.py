"""An addon tried with an exchange of no traffic, and measured: for who writes one."""

import faulthandler
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import Final

from msgspec import Struct, structs

from sp_proxy.addons import wire
from sp_proxy.addons.heads import RequestAddon, RequestHooks
from sp_proxy.addons.loading import end_after
from sp_proxy.addons.process import AddonProcess, CapturePlan
from sp_proxy.addons.source import AddonFile
from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.head_edits import HeadEdit

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
TOLD: Final = "the sample: POST /v2/orders/17?page=3 of orders.shop:8080, inbound, answered with 200, JSON both ways"
RECORDS: Final = 256
"""Of a batch."""
TRIAL_SECONDS: Final = 1.0
"""For one call of a hook that is tried: one that never returns must not keep who tries it waiting."""
MAX_SWALLOWED: Final = 5
"""Interruptions, a tenth of a second apart."""
UNHEARD_SECONDS: Final = 10.0
"""In a loop in C nothing is heard: then a traceback says where."""


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


class UselessError(Exception):
    """What is measured does not work. One line for a person."""


def plan(file: AddonFile, batch_seconds: float = 30.0) -> CapturePlan:
    """With limits for a trial."""
    return CapturePlan(file, TRIAL_SECONDS, batch_seconds, 1 << 30)


async def try_capture(file: AddonFile) -> list[str]:
    """Call the hook once; what it did, a line each."""
    process = AddonProcess(plan(file))
    printed: list[str] = []
    process.says = printed.append
    try:
        outcome = await process.work([SAMPLE])
        series = process.stats().series
    finally:
        process.close()
    (made,) = outcome.made
    if outcome.missed:
        said = [f"exchange(ex): failed with the sample: {_problem(process)}"]
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
    said += [f"  prints {wire.clean(line)}" for line in printed]
    said += [f"  metric {name} {dict(labels)}: {each.amount:g}" for (name, labels), each in series.items()]
    return said


def try_request(file: AddonFile) -> list[str]:
    """Likewise."""
    counters: defaultdict[str, int] = defaultdict(int)
    hooks = _hooks(file, counters)
    edit: HeadEdit | None = None
    with _ended(file, hooks, TRIAL_SECONDS):
        edit = hooks.edit(*_head(0))
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
    """Call the hook for so long, in its process. Raises UselessError."""
    process = AddonProcess(plan(file, seconds))
    numbers = count(1)
    try:
        if (await process.work([SAMPLE])).missed:
            raise UselessError(f"exchange(ex): failed with the sample: {_problem(process)}; nothing to measure")
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
    """Likewise, in this process, which ends for a hook that does not."""
    counters: defaultdict[str, int] = defaultdict(int)
    hooks = _hooks(file, counters)
    off = f"addon_switched_off:{file.name}"
    called, took = 0, 0.0
    with _ended(file, hooks, TRIAL_SECONDS):
        hooks.edit(*_head(called))
    with _ended(file, hooks, seconds + TRIAL_SECONDS):
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds and not counters[off]:
            hooks.edit(*_head(called))
            called += 1
    if counters[off]:
        raise UselessError("request(head): failed again and again, or did not return; nothing to measure")
    return RequestCost(took / max(1, called) * 1e6, file.pure, counters[f"addon_request_faults:{file.name}"])


def _problem(process: AddonProcess) -> str:
    return process.stats().last_problem or "it took too long"


@contextmanager
def _ended(file: AddonFile, hooks: RequestHooks, seconds: float) -> Iterator[None]:
    """Interrupt a call that does not return, and end this process if the hook swallows that, or does not even hear it."""
    heard = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if heard > MAX_SWALLOWED:
            # Not by print: what of the interpreter the hook is in the middle of, nobody knows.
            os.write(
                2, f"sp-proxy: {file.path}: request(head) does not return, and swallows what would end it\n".encode()
            )
            os._exit(1)
        hooks.interrupt()

    end_after(seconds + UNHEARD_SECONDS)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def _hooks(file: AddonFile, counters: defaultdict[str, int]) -> RequestHooks:
    return RequestHooks([RequestAddon(file.name, file.path, file.text, file.pure)], 3600.0, counters)


def _head(number: int) -> tuple[Direction, bytes, bytes, bytes, bytes]:
    return SAMPLE.direction, SAMPLE.method, b"/v2/orders/%d" % number, SAMPLE.authority, b"\r\n" + _FIELDS
