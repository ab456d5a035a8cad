"""Accounting: every record that enters leaves in exactly one counter.

At any moment ``captured = accepted + rejected + waiting + dropped``.

``captured``, ``accepted``, ``rejected`` and ``dropped`` are counted in the ledger; ``waiting`` is what the stages say
that they hold, measured by themselves, so that the equation is a check and not a definition. A record moves between
the two without an await in between.
"""

from collections import Counter
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from sp_proxy.exporter.outcome import Accepted, Outcome, Permanent, Retryable

DropReason = Literal[
    "queue_full",  # no room in the sending queue
    "permanent_error",  # the backend refused it for good
    "retries_exhausted",  # max_elapsed_time passed
    "too_large",  # one record alone is above the limit of a request
    "encode_failed",  # a span could not be made of it
    "memory_limit",  # the exporter holds as much as it may
    "evicted",  # made room in the spool, or was there for too long
    "damaged",  # what the spool gave back is not what was stored
    "internal_error",  # a fault of ours while sending
    "shutdown",  # still waiting when the time for draining was over
]


class WorkerStats(Struct, frozen=True):
    """What one worker reported, over all its restarts."""

    worker_id: int
    connected: bool
    counters: dict[str, int]
    """Running totals by ``name`` or ``name:label``; they never decrease."""
    gauges: dict[str, float]
    """Last reported values; empty while it is not connected."""


class ExporterStats(Struct, frozen=True):
    """A snapshot; counts are records unless said otherwise."""

    captured: int
    """Received from the workers."""
    accepted: int
    rejected: int
    """By partial success."""
    dropped: dict[str, int]
    """By ``DropReason``."""
    waiting_batch: int
    """In the batcher, or being encoded."""
    waiting_queue: int
    """Encoded, not in an upload."""
    in_flight: int
    """In an upload, or between two attempts of one."""
    queue_bytes: int
    channel_dropped: dict[str, int]
    """Lost in the workers before they reached the exporter, by reason, as announced by them."""
    channel_errors: int
    """Channels closed because their stream could not be read."""
    uploads: dict[str, int]
    """Attempts, by ``accepted``, ``partial_success``, ``retryable:REASON`` and ``permanent:REASON``."""
    unreadable_answers: int
    """2xx answers whose body could not be read; accepted all the same."""
    bytes_sent: int
    """Body bytes of attempts that the backend accepted."""
    last_error: str
    """For a person; empty when there was none."""
    last_success_unix: float | None
    workers: tuple[WorkerStats, ...]

    @property
    def waiting(self) -> int:
        """Records that are not decided yet."""
        return self.waiting_batch + self.waiting_queue + self.in_flight

    @property
    def balanced(self) -> bool:
        """The equation holds."""
        return self.captured == self.accepted + self.rejected + self.waiting + sum(self.dropped.values())


class Ledger:
    """The counters behind the snapshot. ``on_settled`` is called after records left in one of them."""

    def __init__(self, on_settled: Callable[[], None] = lambda: None) -> None:
        self._on_settled = on_settled
        self.captured = 0
        self.accepted = 0
        self.rejected = 0
        self.dropped: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.unreadable_answers = 0
        self.bytes_sent = 0
        self.last_error = ""
        self.last_success_unix: float | None = None

    def drop(self, reason: DropReason, records: int) -> None:
        """Records were lost. The stage that held them has let them go."""
        if records:
            self.dropped[reason] += records
        self._on_settled()

    def accept(self, outcome: Accepted, records: int, size: int, now_unix: float) -> None:
        """Records were delivered, but for those that a partial success rejects."""
        rejected = outcome.partial.rejected if outcome.partial else 0
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
            case Retryable(reason, _, detail):
                self.uploads[f"retryable:{reason}"] += 1
                self.last_error = detail
            case Permanent(reason, detail):
                self.uploads[f"permanent:{reason}"] += 1
                self.last_error = detail
