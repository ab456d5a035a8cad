"""Counting: what was sent, what each daemon says, what the backend has, and whether all of it agrees."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from sp_proxy.demo.shop.report import CUSTOMERS, Call


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one daemon, or the sum of several; records."""

    captured: int = 0
    accepted: int = 0
    dropped: int = 0
    """Everything that was lost, rejected by the backend included."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.captured + other.captured, self.accepted + other.accepted, self.dropped + other.dropped)


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that is counted, at one moment."""

    sent: Mapping[tuple[str, str], int]
    """Requests, by caller and service."""
    unanswered: int
    """Of these, requests without an answer."""
    daemons: Mapping[str, Counts]
    """By service."""
    stored: int
    """Exchanges in the backend."""

    @property
    def requests(self) -> int:
        """All requests that were sent."""
        return sum(self.sent.values())

    @property
    def total(self) -> Counts:
        """The daemons together."""
        return sum(self.daemons.values(), Counts())

    def expected(self, service: str) -> int:
        """Exchanges which the daemon of a service should capture: its inbound and its outbound halves."""
        return sum(number for pair, number in self.sent.items() if service in pair)

    @property
    def expected_total(self) -> int:
        """All halves. A customer has no daemon, so what customers send has an inbound half only."""
        return sum(number * (1 if source == CUSTOMERS else 2) for (source, _), number in self.sent.items())

    def disagreements(self) -> list[str]:
        """What does not agree, a line each; empty when everything does."""
        found = [f"{self.unanswered} requests had no answer"] if self.unanswered else []
        for service, counts in self.daemons.items():
            expected = self.expected(service)
            if counts.captured != expected:
                found.append(f"{service}: {counts.captured} captured, but {expected} exchanges passed its daemon")
            if counts.accepted != counts.captured:
                found.append(f"{service}: {counts.captured} captured, but {counts.accepted} accepted")
            if counts.dropped:
                found.append(f"{service}: {counts.dropped} dropped")
        if self.stored != self.total.accepted:
            found.append(f"{self.total.accepted} accepted, but {self.stored} in the backend")
        return found


class CallBook:
    """Adds up calls, from any thread."""

    def __init__(self) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self.unanswered = 0
        self._adding = threading.Lock()

    def add(self, call: Call) -> None:
        """Count a call."""
        with self._adding:
            self.sent[call.source, call.to] += 1
            self.unanswered += call.status == 0

    def snapshot(self) -> tuple[dict[tuple[str, str], int], int]:
        """What was sent, and how much of it was not answered, at one moment."""
        with self._adding:
            return dict(self.sent), self.unanswered


_COLUMNS = {
    "sp_proxy_exchanges_captured_total": "captured",
    "sp_proxy_records_accepted_total": "accepted",
    "sp_proxy_records_rejected_total": "dropped",
    "sp_proxy_records_dropped_total": "dropped",
    "sp_proxy_channel_records_dropped_total": "dropped",
}


def parse_metrics(text: str) -> Counts:
    """The counts in a daemon's ``/metrics``."""
    numbers = dict.fromkeys(_COLUMNS.values(), 0)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if column := _COLUMNS.get(sample.name):
                numbers[column] += int(sample.value)
    return Counts(**numbers)
