"""When a batch is closed: at so many records, so many bytes, or when its oldest record is so old. Pure: the caller
brings the time and gets back what is closed and when to come again.

Invariant: whatever was added is pending or in exactly one closed batch, in the order in which it was added.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from sp_proxy.core.exchange import Exchange

CloseReason = Literal["records", "size", "age", "flush"]


class BatchLimits(Struct, frozen=True):
    """A batch is closed at the first of these."""

    max_records: int
    max_bytes: int
    flush_timeout: float
    """Seconds."""


class Batch(Struct, frozen=True):
    """Records closed together, and why."""

    exchanges: list[Exchange]
    size: int
    """Bytes of captured content."""
    reason: CloseReason


def content_size(exchange: Exchange) -> int:
    """Bytes of captured content in an exchange. The struct itself takes another 1.1 KB (measured, CPython 3.12),
    which the limit on the number of records bounds.
    """
    return (
        len(exchange.target)
        + len(exchange.request_fields)
        + len(exchange.request_body)
        + len(exchange.request_trailers)
        + len(exchange.response_fields)
        + len(exchange.response_body)
        + len(exchange.response_trailers)
    )


class Batcher:
    """The open batch. At most one; it is never larger than the limits, but for a record that is so by itself."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._exchanges: list[Exchange] = []
        self._size = 0
        self._oldest = 0.0

    def limit(self, limits: BatchLimits) -> None:
        """Other limits from now on; an open batch above them is closed by the next record, or by its age."""
        self._limits = limits

    @property
    def pending(self) -> int:
        """Records in the open batch."""
        return len(self._exchanges)

    @property
    def size(self) -> int:
        """Bytes of captured content in the open batch."""
        return self._size

    @property
    def deadline(self) -> float | None:
        """When ``expire`` will close the open batch; None while it is empty."""
        return self._oldest + self._limits.flush_timeout if self._exchanges else None

    def add(self, exchanges: Iterable[Exchange], now: float) -> list[Batch]:
        """Take records; what they close, in order."""
        closed = []
        limits = self._limits
        for exchange in exchanges:
            size = content_size(exchange)
            if self._exchanges and self._size + size > limits.max_bytes:
                closed.append(self._close("size"))
            if not self._exchanges:
                self._oldest = now
            self._exchanges.append(exchange)
            self._size += size
            if len(self._exchanges) >= limits.max_records:
                closed.append(self._close("records"))
            elif self._size >= limits.max_bytes:
                closed.append(self._close("size"))
        return closed

    def expire(self, now: float) -> Batch | None:
        """Close the open batch if its time has come."""
        deadline = self.deadline
        return self._close("age") if deadline is not None and now >= deadline else None

    def flush(self) -> Batch | None:
        """Close the open batch, whatever its age."""
        return self._close("flush") if self._exchanges else None

    def _close(self, reason: CloseReason) -> Batch:
        batch = Batch(self._exchanges, self._size, reason)
        self._exchanges = []
        self._size = 0
        return batch
