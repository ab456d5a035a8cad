"""The store's interface: what the intake, the API and retention need, and nothing of how it is done.

SQLite (``sqlite/``) is the embedded engine. Another engine implements the same methods and passes the same tests.
Every method may be called from many tasks at once; none blocks the event loop. Failures are ``StoreError``.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from sp_proxy.backend.log_model import LogBatch, LogFilter, LogPage
from sp_proxy.backend.model import (
    Appended,
    Batch,
    ExchangePage,
    ServiceMap,
    SessionDetail,
    SessionPage,
    SpanRecord,
    StoreStats,
    TracePage,
    TraceSpan,
)
from sp_proxy.backend.query.syntax import Query


class BadCursorError(ValueError):
    """A ``before`` cursor that this store never gave out."""


class Keep(Struct, frozen=True):
    """What is kept; the rest is removed in the order in which it arrived."""

    received_since_unix_ns: int
    """Spans and log records received before are too old."""
    max_bytes: int
    """The oldest go until no more than this is used."""
    tenants: Mapping[str, int] = {}
    """Tenants with another age: since when theirs are kept."""


class Store(Protocol):
    """Spans by (trace id, span id), exchanges among them, sessions over those."""

    async def append(self, batch: Batch) -> Appended:
        """Keep a batch; returns when it is durable. Spans stored before (same trace and span id) are ignored, but for a
        partial one, whose place the whole one takes.
        """

    async def append_logs(self, batch: LogBatch) -> None:
        """Keep a batch of log records; returns when it is durable."""

    async def exchanges(self, query: Query, *, before: str, limit: int) -> ExchangePage:
        """Exchanges that a query asks for, by start time, newest first, after the cursor. Raises BadCursorError."""

    async def span(self, span_id: bytes, trace_id: bytes | None) -> SpanRecord | None:
        """One span in full. Without a trace id the newest one of that span id."""

    async def records(self, ids: Sequence[tuple[str, str]]) -> list[SpanRecord]:
        """Spans in full, by trace id and span id in hex; those that are not there any more are left out."""

    async def trace(self, trace_id: bytes, *, limit: int) -> list[TraceSpan]:
        """Spans of a trace by start time, the first ``limit``."""

    async def traces(self, query: Query, *, before: str, limit: int) -> TracePage:
        """Traces by start, newest first, after the cursor. Raises BadCursorError.

        With a query those that have such an exchange, by the newest of these.
        """

    async def logs(self, wanted: LogFilter, *, before: str, limit: int) -> LogPage:
        """Log records, newest first, after the cursor. Raises BadCursorError."""

    async def service_map(self, *, since_unix_ns: int, until_unix_ns: int, limit: int) -> ServiceMap:
        """The busiest calls between services in a time, ends rounded to whole minutes."""

    async def sessions(self, query: Query, *, before: str, limit: int) -> SessionPage:
        """Sessions, last seen first, after the cursor; with a query as for traces. Raises BadCursorError."""

    async def session(self, session_id: str, *, after: str = "", limit: int) -> SessionDetail | None:
        """One session with its first ``limit`` exchanges after the cursor. Raises BadCursorError."""

    async def stats(self) -> StoreStats:
        """Sizes and totals, without counting scans."""

    async def expire(self, keep: Keep) -> int:
        """Remove what is not to be kept. Returns how many spans and log records went."""
