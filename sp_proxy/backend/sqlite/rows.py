"""Rows of the tables as the values that are answered."""

import json
from typing import Any

import msgspec

from sp_proxy.backend.model import ExchangeSummary, SessionSummary, TraceSummary

SPAN = "s.trace_id, s.span_id, s.parent_span_id, s.start_unix_ns, s.duration_ns, s.failed, s.partial"
SPAN_COLUMNS = 7
EXCHANGE = (
    "e.session_id, e.service, e.direction, e.method, e.scheme, e.host, e.path, e.status,"
    " e.request_size, e.response_size, e.error, e.peer"
)
EXCHANGE_COLUMNS = 12
SESSION = (
    "session_id, first_seen_unix_ns, last_seen_unix_ns, exchanges, errors,"
    " (SELECT json_group_array(service) FROM session_services x WHERE x.session_id = sessions.session_id)"
)
TRACE = "trace_id, name, service, start_unix_ns, end_unix_ns - start_unix_ns, spans, exchanges, errors, services"


def summary(row: tuple[Any, ...]) -> ExchangeSummary:
    """From ``SPAN, EXCHANGE``."""
    assert len(row) == SPAN_COLUMNS + EXCHANGE_COLUMNS
    return ExchangeSummary(
        trace_id=row[0].hex(),
        span_id=row[1].hex(),
        parent_span_id=row[2].hex(),
        start_unix_ns=row[3],
        duration_ns=row[4],
        failed=bool(row[5]),
        partial=bool(row[6]),
        session_id=row[7],
        service=row[8],
        direction=row[9],
        method=row[10],
        scheme=row[11],
        host=row[12],
        path=row[13],
        status=row[14],
        request_size=row[15],
        response_size=row[16],
        error=row[17],
        peer=row[18],
    )


def session(row: tuple[Any, ...]) -> SessionSummary:
    """From ``SESSION``."""
    return SessionSummary(
        session_id=row[0],
        first_seen_unix_ns=row[1],
        last_seen_unix_ns=row[2],
        exchanges=row[3],
        errors=row[4],
        services=sorted(msgspec.json.decode(row[5], type=list[str])),
    )


def trace(row: tuple[Any, ...]) -> TraceSummary:
    """From ``TRACE``."""
    services = sorted({*json.loads(row[8])} - {""})
    return TraceSummary(row[0].hex(), row[1], row[2], row[3], row[4], row[5], row[6], row[7], services)
