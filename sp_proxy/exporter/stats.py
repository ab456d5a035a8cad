"""Accounting: every record that enters leaves in exactly one counter.

At any moment, for each destination::

    captured + recovered = accepted + rejected + waiting + spooled + dropped + elsewhere

``captured`` came from the workers, ``recovered`` is what an earlier life has left in the spool. Records that are dropped
before there is a payload of them (``shed``), or are still in the batcher, count for every destination alike. ``waiting``
and ``spooled`` are what the stages say that they hold, measured by themselves, so that the equation is a check and not a
definition. ``elsewhere`` is what was captured while the destination did not exist: settings may change at run time. A record
moves between two counters without an await in between.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from sp_proxy.addons.tally import AddonStats
from sp_proxy.core.breaker import State
from sp_proxy.exporter.outcome import Accepted, Outcome, Permanent, Retryable, TooLarge

DropReason = Literal[
    "rate_limit",  # above the limit of exchanges or bytes a second
    "sampled_out",  # not chosen by sampling
    "addon_dropped",  # an addon wanted it so
    "addon_failed",  # an addon without which nothing may be sent could not see it
    "redaction_failed",  # nothing is sent of which we do not know what it says
    "memory_limit",  # the exporter holds as much as it may
    "encode_failed",  # a span could not be made of it
    "queue_full",  # no room in the sending queue
    "evicted",  # made room in the spool, or was there for too long
    "damaged",  # what the spool gave back is not what was stored
    "permanent_error",  # the backend refused it for good
    "too_large",  # one record alone is above the limit of a request, ours or the backend's
    "retries_exhausted",  # max_elapsed_time passed, and there was no spool to keep it
    "internal_error",  # a fault of ours
    "shutdown",  # still waiting when the time for draining was over, and there was no spool to keep it
]

MAX_REJECTION_REASONS = 16
"""Reasons of partial successes counted by themselves: they are foreign text, and become labels of a metric."""
OTHER = "other"


class WorkerStats(Struct, frozen=True):
    """What one worker reported, over all its restarts."""

    worker_id: int
    connected: bool
    counters: dict[str, int]
    """Running totals by ``name`` or ``name:label``; they never decrease."""
    gauges: dict[str, float]
    """Last reported values; empty while it is not connected."""


class SpoolStats(Struct, frozen=True):
    """The disk's side of a sending queue."""

    state: Literal["off", "ready", "degraded"] = "off"
    """``degraded``: the disk refuses, so memory has to do."""
    problem: str = ""
    """Why it is degraded, for a person."""
    entries: int = 0
    size: int = 0
    """Bytes on disk."""
    oldest_unix: float | None = None
    damaged_files: int = 0
    """Set aside in this life."""
    write_errors: int = 0


class DestinationStats(Struct, frozen=True):
    """A snapshot of one destination; counts are records unless said otherwise."""

    name: str
    elsewhere: int = 0
    """Went to other destinations only: this one did not exist yet, or the settings knew it no more."""
    recovered: int = 0
    """Found in the spool: an earlier life's."""
    accepted: int = 0
    rejected: int = 0
    """By partial success."""
    rejections: dict[str, int] = {}
    """The rejected ones by the backend's words, the first few of them."""
    dropped: dict[str, int] = {}
    """By ``DropReason``."""
    waiting_queue: int = 0
    """In memory, not in an upload."""
    spooled: int = 0
    """On disk, not in an upload."""
    in_flight: int = 0
    """In an upload, or between two attempts of one."""
    queue_bytes: int = 0
    """Payloads in memory."""
    spool: SpoolStats = SpoolStats()
    uploads: dict[str, int] = {}
    """Attempts, by ``accepted``, ``partial_success``, ``too_large``, ``retryable:REASON`` and ``permanent:REASON``."""
    unreadable_answers: int = 0
    """2xx answers whose body could not be read; accepted all the same."""
    bytes_sent: int = 0
    """Body bytes of attempts that the backend accepted."""
    concurrency: int = 0
    """Uploads that may run side by side now."""
    breaker: State = "closed"
    breaker_opened: int = 0
    """How often."""
    last_error: str = ""
    """For a person; empty when there was none."""
    last_success_unix: float | None = None

    @property
    def held(self) -> int:
        """Records that are not decided yet, on disk or not."""
        return self.waiting_queue + self.spooled + self.in_flight

    @property
    def decided(self) -> int:
        """Records that left."""
        return self.accepted + self.rejected + sum(self.dropped.values())


class ExporterStats(Struct, frozen=True):
    """A snapshot; counts are records unless said otherwise. Totals over several destinations count each of them."""

    captured: int
    """Received from the workers."""
    shed: dict[str, int]
    """Dropped before there was a payload for any destination, by ``DropReason``."""
    waiting_batch: int
    """In the batcher, or being encoded."""
    held_bytes: int
    """Captured content and payloads in memory."""
    channel_dropped: dict[str, int]
    """Lost in the workers before they reached the exporter, by reason, as announced by them."""
    channel_errors: int
    """Channels closed because their stream could not be read."""
    destinations: tuple[DestinationStats, ...]
    workers: tuple[WorkerStats, ...]
    faults: dict[str, int] = {}
    """Faults of ours, by the stage that was begun again after each."""
    down: tuple[str, ...] = ()
    """Stages that wait to be begun again."""
    addons: tuple[AddonStats, ...] = ()
    """Capture hooks."""

    @property
    def recovered(self) -> int:
        """Left by an earlier life."""
        return sum(each.recovered for each in self.destinations)

    @property
    def accepted(self) -> int:
        """Delivered."""
        return sum(each.accepted for each in self.destinations)

    @property
    def rejected(self) -> int:
        """Refused by a backend that took the others of their request."""
        return sum(each.rejected for each in self.destinations)

    @property
    def dropped(self) -> dict[str, int]:
        """By ``DropReason``."""
        return dict(_sum([self.shed, *(each.dropped for each in self.destinations)]))

    @property
    def waiting_queue(self) -> int:
        """Encoded, in memory, not in an upload."""
        return sum(each.waiting_queue for each in self.destinations)

    @property
    def in_flight(self) -> int:
        """In an upload, or between two attempts of one."""
        return sum(each.in_flight for each in self.destinations)

    @property
    def spooled(self) -> int:
        """On disk, not in an upload."""
        return sum(each.spooled for each in self.destinations)

    @property
    def queue_bytes(self) -> int:
        """Payloads in memory."""
        return sum(each.queue_bytes for each in self.destinations)

    @property
    def uploads(self) -> dict[str, int]:
        """Attempts, by what they led to."""
        return dict(_sum(each.uploads for each in self.destinations))

    @property
    def unreadable_answers(self) -> int:
        """2xx answers whose body could not be read; accepted all the same."""
        return sum(each.unreadable_answers for each in self.destinations)

    @property
    def bytes_sent(self) -> int:
        """Body bytes of attempts that were accepted."""
        return sum(each.bytes_sent for each in self.destinations)

    @property
    def last_error(self) -> str:
        """One destination's, for a person; empty when there was none."""
        return next((each.last_error for each in self.destinations if each.last_error), "")

    @property
    def last_success_unix(self) -> float | None:
        """When a destination last accepted something."""
        return max((each.last_success_unix for each in self.destinations if each.last_success_unix), default=None)

    @property
    def waiting(self) -> int:
        """Records in memory that are not decided yet."""
        return self.waiting_batch + self.waiting_queue + self.in_flight

    def missing(self, destination: DestinationStats) -> int:
        """Records that entered and are nowhere; 0 when the equation holds for this destination."""
        entered = self.captured - destination.elsewhere + destination.recovered
        return entered - sum(self.shed.values()) - self.waiting_batch - destination.held - destination.decided

    @property
    def balanced(self) -> bool:
        """The equation holds."""
        return not any(self.missing(each) for each in self.destinations)


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


class IntakeLedger:
    """The counters before the destinations."""

    def __init__(self) -> None:
        self.captured = 0
        self.shed: Counter[str] = Counter()

    def drop(self, reason: DropReason, records: int) -> None:
        """Records were lost for all destinations. The stage that held them has let them go."""
        if records:
            self.shed[reason] += records


class Ledger:
    """The counters of one destination. ``on_settled`` is called after records left in one of them."""

    def __init__(self, on_settled: Callable[[], None] = lambda: None) -> None:
        self._on_settled = on_settled
        self.recovered = 0
        self.accepted = 0
        self.rejected = 0
        self.rejections: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.unreadable_answers = 0
        self.bytes_sent = 0
        self.last_error = ""
        self.last_success_unix: float | None = None

    def recover(self, records: int) -> None:
        """An earlier life's records were found."""
        self.recovered += records

    def settle(self) -> None:
        """Records left for good, to wherever."""
        self._on_settled()

    def drop(self, reason: DropReason, records: int) -> None:
        """Records were lost. The stage that held them has let them go."""
        if records:
            self.dropped[reason] += records
        self._on_settled()

    def accept(self, outcome: Accepted, records: int, size: int, now_unix: float) -> None:
        """Records were delivered, but for those that a partial success rejects."""
        rejected = outcome.partial.rejected if outcome.partial else 0
        if rejected and outcome.partial:
            known = outcome.partial.message in self.rejections or len(self.rejections) < MAX_REJECTION_REASONS
            self.rejections[outcome.partial.message if known else OTHER] += rejected
        self.accepted += records - rejected
        self.rejected += rejected
        self.bytes_sent += size
        self.last_success_unix = now_unix
        self._on_settled()

    def attempt(self, outcome: Outcome) -> None:
        """An attempt has ended, whatever follows."""
        match outcome:
            case Accepted(partial, unreadable):
                self.uploads["partial_success" if partial else "accepted"] += 1
                self.unreadable_answers += bool(unreadable)
            case TooLarge(detail):
                self.uploads["too_large"] += 1
                self.last_error = detail
            case Retryable(reason, _, detail):
                self.uploads[f"retryable:{reason}"] += 1
                self.last_error = detail
            case Permanent(reason, detail):
                self.uploads[f"permanent:{reason}"] += 1
                self.last_error = detail
