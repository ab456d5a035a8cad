"""Log records as they cross the seams of the backend: on their way in, and as they are answered."""

from typing import Any

from msgspec import Struct


class StoredLog(Struct, frozen=True):
    """One log record."""

    time_unix_ns: int
    trace_id: bytes
    """Empty when it belongs to no trace; the span id likewise."""
    span_id: bytes
    severity: int
    """OTLP's severity number, 0 to 24."""
    severity_text: str
    service: str
    body: str
    """As text, cut like other listed texts; the whole of it is in the details."""
    resource: int
    """Index into the batch's resources."""
    details: dict[str, Any]


class LogBatch(Struct, frozen=True):
    """One OTLP request of log records, read."""

    tenant: str
    received_unix_ns: int
    resources: list[dict[str, Any]]
    logs: list[StoredLog]


class LogFilter(Struct, frozen=True):
    """Which log records: all the given parts must hold."""

    trace_id: bytes = b""
    span_id: bytes = b""
    service: str = ""
    severity_min: int = 0


class LogRecord(Struct, frozen=True):
    """One log record as it is answered."""

    time_unix_ns: int
    trace_id: str
    span_id: str
    severity: int
    severity_text: str
    service: str
    body: str
    resource: dict[str, Any]
    details: dict[str, Any]


class LogPage(Struct, frozen=True):
    """Newest first. ``next`` as in ``ExchangePage``."""

    logs: list[LogRecord]
    next: str
