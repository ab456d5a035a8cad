"""Who called whom, from the exchanges that the backend has (pure).

The two halves of a call between services are one call: the outbound half counts, and its ``peer`` names the service at the
other end. An inbound half without a captured caller is a call from outside.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

OUTSIDE = ""
"""The caller of what was called from outside."""
MAX_KEPT = 10_000
_MAX_DEPTH = 12


class Call(Struct):
    """From one to another, over the whole run."""

    source: str
    target: str
    """A service, or the host of something else."""
    service: bool
    """The target is a service of the run."""
    requests: int = 0
    errors: int = 0
    duration_ns: int = 0

    @property
    def mean_ms(self) -> float:
        """Of a request."""
        return self.duration_ns / self.requests / 1e6 if self.requests else 0.0


class Node(Struct, frozen=True):
    """A line of the tree."""

    depth: int
    call: Call
    again: bool
    """What it calls itself stands elsewhere in the tree already."""


class Exchanges:
    """The exchanges of a run as they come, the latest of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self.forgotten = 0
        """Beyond ``MAX_KEPT``: they count no more."""

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, exchanges: Iterable[dict[str, Any]]) -> None:
        """Exchanges as the API has them, again or for the first time: a later word on one replaces the earlier."""
        for exchange in exchanges:
            self._kept[exchange["trace_id"], exchange["span_id"]] = exchange
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
            self.forgotten += 1

    def latest(self, count: int) -> list[dict[str, Any]]:
        """By start, newest first."""
        return sorted(self._kept.values(), key=lambda each: -int(each["start_unix_ns"]))[:count]

    def of(self, service: str) -> tuple[int, int, int]:
        """Inbound, outbound and failed exchanges of a service."""
        ours = [each for each in self._kept.values() if each["service"] == service]
        inbound = sum(each["direction"] == "inbound" for each in ours)
        return inbound, len(ours) - inbound, sum(bool(each["failed"]) for each in ours)

    def calls(self, services: frozenset[str]) -> list[Call]:
        """Who called whom."""
        found: dict[tuple[str, str], Call] = {}
        for each in self._kept.values():
            if each["direction"] == "outbound":
                source, target = each["service"], each["peer"] or each["host"]
            elif each["peer"]:
                continue  # the other half is the caller's
            else:
                source, target = OUTSIDE, each["service"]
            call = found.setdefault((source, target), Call(source, target, target in services))
            call.requests += 1
            call.errors += bool(each["failed"])
            call.duration_ns += each["duration_ns"]
        return sorted(found.values(), key=lambda call: (call.source, -call.requests, call.target))


def tree(calls: Iterable[Call]) -> Iterator[Node]:
    """The calls as a tree, from outside inwards. A service that several call has its own calls below the first of them."""
    by_source: dict[str, list[Call]] = {}
    for call in calls:
        by_source.setdefault(call.source, []).append(call)
    called = {call.target for each in by_source.values() for call in each if call.service}
    roots = by_source.get(OUTSIDE, [])
    alone = [source for source in by_source if source != OUTSIDE and source not in called]
    shown: set[str] = set()
    for call in roots:
        yield from _below(by_source, call, 0, shown)
    for source in [*alone, *(source for source in by_source if source != OUTSIDE)]:
        if source not in shown:  # called by nobody, or only in a circle
            yield from _below(by_source, Call(OUTSIDE, source, service=True), 0, shown)


def _below(by_source: dict[str, list[Call]], call: Call, depth: int, shown: set[str]) -> Iterator[Node]:
    further = by_source.get(call.target, []) if call.service else []
    again = call.target in shown and bool(further)
    yield Node(depth, call, again)
    if again or depth >= _MAX_DEPTH:
        return
    shown.add(call.target)
    for each in further:
        yield from _below(by_source, each, depth + 1, shown)
