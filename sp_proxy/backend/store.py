"""The store's interface: what the intake, the API and retention need, and nothing of how it is done.

SQLite (``sqlite/``) is the embedded engine. Another engine implements the same methods and passes the same tests.
Every method may be called from many tasks at once; none blocks the event loop. Failures are ``StoreError``.
"""

from typing import Protocol

from sp_proxy.backend.model import (
    Appended,
    Batch,
    ExchangeFilter,
    ExchangePage,
    SessionDetail,
    SessionPage,
    SpanRecord,
    StoreStats,
    TraceSpan,
)


class BadCursorError(ValueError):
    """A ``before`` cursor that this store never gave out."""


class Store(Protocol):
    """Spans by (trace id, span id), exchanges among them, sessions over those."""

    async def append(self, batch: Batch) -> Appended:
        """Keep a batch; returns when it is durable. Spans stored before (same trace and span id) are ignored, but for a
        partial one, whose place the whole one takes.
        """

    async def exchanges(self, wanted: ExchangeFilter, *, before: str, limit: int) -> ExchangePage:
        """Exchanges by start time, newest first, after the cursor. Raises BadCursorError."""

    async def span(self, span_id: bytes, trace_id: bytes | None) -> SpanRecord | None:
        """One span in full. Without a trace id the newest one of that span id."""

    async def trace(self, trace_id: bytes, *, limit: int) -> list[TraceSpan]:
        """Spans of a trace by start time, the first ``limit``."""

    async def sessions(self, *, before: str, limit: int) -> SessionPage:
        """Sessions, last seen first, after the cursor. Raises BadCursorError."""

    async def session(self, session_id: str, *, limit: int) -> SessionDetail | None:
        """One session with its first ``limit`` exchanges."""

    async def stats(self) -> StoreStats:
        """Sizes and totals, without counting scans."""

    async def expire(self, *, received_before_unix_ns: int, max_bytes: int) -> int:
        """Remove the oldest spans (in order of arrival): all received before that time, then as many as it takes to
        use no more than ``max_bytes``. Returns how many were removed.
        """
