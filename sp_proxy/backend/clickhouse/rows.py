"""Values to rows and back (pure)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sp_proxy.backend.log_model import LogBatch, LogRecord
from sp_proxy.backend.model import (
    Batch,
    ExchangeSummary,
    SessionSummary,
    SpanRecord,
    StoredSpan,
    TraceSpan,
    TraceSummary,
    kind_name,
)

WHOLE = 1 << 32
"""Version of a row that is no partial record: above every version that such a record may get."""
SUMMARY = (
    "trace_id, span_id, parent_span_id, start_unix_ns, duration_ns, failed, session_id, service, direction, method,"
    " scheme, host, path, status, request_size, response_size, error, partial, peer"
)
SPAN = f"{SUMMARY}, is_exchange, name, kind"
RECORD = f"{SPAN}, tenant, received_unix_ns, resource, details, request_body, response_body"
LOG = "time_unix_ns, id, trace_id, span_id, severity, severity_text, service, body, resource, details"
_encode = msgspec.json.Encoder().encode


def span_row(batch: Batch, span: StoredSpan, peer: str, arrived_unix_ns: int, expires: int) -> dict[str, Any]:
    """The row of a new span."""
    exchange = span.exchange
    return {
        "start_unix_ns": span.start_unix_ns,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "duration_ns": span.duration_ns,
        "failed": int(span.failed),
        "partial": int(span.partial),
        "service": span.service,
        "is_exchange": int(exchange is not None),
        "session_id": exchange.session_id if exchange else "",
        "direction": exchange.direction if exchange else "",
        "method": exchange.method if exchange else "",
        "scheme": exchange.scheme if exchange else "",
        "host": exchange.host if exchange else "",
        "path": exchange.path if exchange else "",
        "status": exchange.status if exchange else 0,
        "request_size": exchange.request_size if exchange else 0,
        "response_size": exchange.response_size if exchange else 0,
        "error": exchange.error if exchange else "",
        "peer": peer,
        "tags": span.tags,
        "text": span.text,
        "details": _encode(span.details).decode(),
        "resource": _encode(batch.resources[span.resource]).decode(),
        "request_body": _text(span.request_body),
        "response_body": _text(span.response_body),
        "tenant": batch.tenant,
        "received_unix_ns": batch.received_unix_ns,
        "arrived_unix_ns": arrived_unix_ns,
        "expires": expires,
        "version": 0 if span.partial else WHOLE,
        "deleted": 0,
    }


def log_rows(batch: LogBatch, ids: Sequence[int], arrived_unix_ns: int, expires: int) -> list[dict[str, Any]]:
    """The rows of new log records."""
    return [
        {
            "time_unix_ns": log.time_unix_ns,
            "id": number,
            "trace_id": log.trace_id.hex(),
            "span_id": log.span_id.hex(),
            "severity": log.severity,
            "severity_text": log.severity_text,
            "service": log.service,
            "body": log.body,
            "details": _encode(log.details).decode(),
            "resource": _encode(batch.resources[log.resource]).decode(),
            "tenant": batch.tenant,
            "received_unix_ns": batch.received_unix_ns,
            "arrived_unix_ns": arrived_unix_ns,
            "expires": expires,
        }
        for log, number in zip(batch.logs, ids, strict=True)
    ]


def _text(body: bytes | None) -> str | None:
    # What an attribute had was text, as UTF-8: bodies that are none are base64 there.
    return None if body is None else body.decode()


def summary(row: Mapping[str, Any]) -> ExchangeSummary:
    """From ``SUMMARY``."""
    values = {name: row[name] for name in ExchangeSummary.__struct_fields__}
    return ExchangeSummary(**{**values, "failed": bool(row["failed"]), "partial": bool(row["partial"])})


def trace_span(row: Mapping[str, Any]) -> TraceSpan:
    """From ``SPAN``."""
    return TraceSpan(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        name=row["name"],
        kind=kind_name(row["kind"]),
        start_unix_ns=row["start_unix_ns"],
        duration_ns=row["duration_ns"],
        failed=bool(row["failed"]),
        service=row["service"],
        exchange=summary(row) if row["is_exchange"] else None,
    )


def record(row: Mapping[str, Any]) -> SpanRecord:
    """From ``RECORD``."""
    request, response = row["request_body"], row["response_body"]
    return SpanRecord(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        name=row["name"],
        kind=kind_name(row["kind"]),
        start_unix_ns=row["start_unix_ns"],
        duration_ns=row["duration_ns"],
        failed=bool(row["failed"]),
        service=row["service"],
        tenant=row["tenant"],
        received_unix_ns=row["received_unix_ns"],
        resource=msgspec.json.decode(row["resource"]),
        details=msgspec.json.decode(row["details"]),
        exchange=summary(row) if row["is_exchange"] else None,
        request_body=None if request is None else request.encode(),
        response_body=None if response is None else response.encode(),
    )


def log_record(row: Mapping[str, Any]) -> LogRecord:
    """From ``LOG``."""
    return LogRecord(
        time_unix_ns=row["time_unix_ns"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        severity=row["severity"],
        severity_text=row["severity_text"],
        service=row["service"],
        body=row["body"],
        resource=msgspec.json.decode(row["resource"]),
        details=msgspec.json.decode(row["details"]),
    )


def session(row: Mapping[str, Any]) -> SessionSummary:
    """From the query of sessions."""
    return SessionSummary(**{name: row[name] for name in SessionSummary.__struct_fields__})


def trace(row: Mapping[str, Any]) -> TraceSummary:
    """From the query of traces."""
    return TraceSummary(**{name: row[name] for name in TraceSummary.__struct_fields__})
