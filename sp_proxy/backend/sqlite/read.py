"""Queries: each a function on a reading connection."""

import sqlite3
from typing import Any

import msgspec

from sp_proxy.backend.model import (
    ExchangeFilter,
    ExchangePage,
    ExchangeSummary,
    SessionDetail,
    SessionPage,
    SessionSummary,
    SpanRecord,
    StoreStats,
    TraceSpan,
    kind_name,
)
from sp_proxy.backend.sqlite.packing import unpack, unpack_json
from sp_proxy.backend.sqlite.write import used_bytes
from sp_proxy.backend.store import BadCursorError

_SPAN = "s.trace_id, s.span_id, s.parent_span_id, s.start_unix_ns, s.duration_ns, s.failed, s.partial"
_SPAN_COLUMNS = 7
_EXCHANGE = (
    "e.session_id, e.service, e.direction, e.method, e.scheme, e.host, e.path, e.status,"
    " e.request_size, e.response_size, e.error"
)
_EXCHANGE_COLUMNS = 11
_SESSION = (
    "session_id, first_seen_unix_ns, last_seen_unix_ns, exchanges, errors,"
    " (SELECT json_group_array(service) FROM session_services x WHERE x.session_id = sessions.session_id)"
)
MAX_INTEGER = 2**63 - 1


def _cursor(text: str) -> tuple[int, int]:
    first, dot, second = text.partition(".")
    numbers = [int(part) for part in (first, second) if part.isascii() and part.isdigit() and len(part) < 20]
    if not dot or len(numbers) != 2 or max(numbers) > MAX_INTEGER:
        raise BadCursorError("not a cursor of this store")
    return numbers[0], numbers[1]


def exchanges(connection: sqlite3.Connection, wanted: ExchangeFilter, before: str, limit: int) -> ExchangePage:
    """A page by (start time, row number), descending: stable whatever arrives meanwhile."""
    where, values = _conditions(wanted)
    if before:
        where.append("(e.start_unix_ns, e.id) < (?, ?)")
        values += _cursor(before)
    condition = " AND ".join(where) or "1"
    rows = connection.execute(
        f"SELECT e.id, {_SPAN}, {_EXCHANGE} FROM exchanges e JOIN spans s ON s.id = e.id"  # noqa: S608 constants only
        f" WHERE {condition} ORDER BY e.start_unix_ns DESC, e.id DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    page = rows[:limit]
    more = f"{page[-1][4]}.{page[-1][0]}" if len(rows) > limit else ""
    return ExchangePage(exchanges=[_summary(row[1:]) for row in page], next=more)


def _conditions(wanted: ExchangeFilter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    for column in ("service", "direction", "method", "host"):
        value = getattr(wanted, column)
        if value:
            where.append(f"e.{column} = ?")
            values.append(value)
    if wanted.session:
        where.append("e.session_id = ?")
        values.append(wanted.session)
    if wanted.path:
        # instr, not LIKE: the text is searched as it is, and case counts, as in a path.
        where.append("instr(e.path, ?) > 0")
        values.append(wanted.path)
    if wanted.status_min >= 0:
        where.append("e.status BETWEEN ? AND ?")
        values += [wanted.status_min, wanted.status_max]
    if wanted.trace:
        where.append("e.id IN (SELECT id FROM spans WHERE trace_id = ?)")
        values.append(bytes.fromhex(wanted.trace))
    return where, values


def span(connection: sqlite3.Connection, span_id: bytes, trace_id: bytes | None) -> SpanRecord | None:
    """One span by its ids."""
    row = connection.execute(
        f"SELECT s.id, {_SPAN}, s.name, s.kind, s.service, b.tenant, b.received_unix_ns, r.attributes, d.data,"  # noqa: S608 constants only
        " o.request, o.response FROM spans s JOIN batches b ON b.id = s.batch_id JOIN resources r ON r.id ="
        " s.resource_id JOIN details d ON d.id = s.id LEFT JOIN bodies o ON o.id = s.id"
        " WHERE s.span_id = :span AND (:trace IS NULL OR s.trace_id = :trace) ORDER BY s.id DESC LIMIT 1",
        {"span": span_id, "trace": trace_id},
    ).fetchone()
    if row is None:
        return None
    found = connection.execute(f"SELECT {_EXCHANGE} FROM exchanges e WHERE e.id = ?", (row[0],)).fetchone()  # noqa: S608
    name, kind, service, tenant, received, resource, details, request, response = row[1 + _SPAN_COLUMNS :]
    return SpanRecord(
        trace_id=row[1].hex(),
        span_id=row[2].hex(),
        parent_span_id=row[3].hex(),
        start_unix_ns=row[4],
        duration_ns=row[5],
        failed=bool(row[6]),
        name=name,
        kind=kind_name(kind),
        service=service,
        tenant=tenant,
        received_unix_ns=received,
        resource=unpack_json(resource),
        details=unpack_json(details),
        exchange=_summary(row[1 : 1 + _SPAN_COLUMNS] + found) if found else None,
        request_body=None if request is None else unpack(request),
        response_body=None if response is None else unpack(response),
    )


def trace(connection: sqlite3.Connection, trace_id: bytes, limit: int) -> list[TraceSpan]:
    """The first spans of a trace."""
    rows = connection.execute(
        f"SELECT {_SPAN}, s.name, s.kind, s.service, {_EXCHANGE} FROM spans s LEFT JOIN exchanges e ON e.id = s.id"  # noqa: S608 constants only
        " WHERE s.trace_id = ? ORDER BY s.start_unix_ns, s.id LIMIT ?",
        (trace_id, limit),
    ).fetchall()
    return [
        TraceSpan(
            trace_id=row[0].hex(),
            span_id=row[1].hex(),
            parent_span_id=row[2].hex(),
            start_unix_ns=row[3],
            duration_ns=row[4],
            failed=bool(row[5]),
            name=row[7],
            kind=kind_name(row[8]),
            service=row[9],
            exchange=_summary(row[:_SPAN_COLUMNS] + row[10:]) if row[10] is not None else None,
        )
        for row in rows
    ]


def sessions(connection: sqlite3.Connection, before: str, limit: int) -> SessionPage:
    """A page by (last seen, session id), descending. The cursor is the time, a dot, and the id."""
    where = "1"
    values: tuple[Any, ...] = ()
    if before:
        moment, dot, session_id = before.partition(".")
        if not (dot and moment.isascii() and moment.isdigit() and len(moment) < 20 and int(moment) <= MAX_INTEGER):
            raise BadCursorError("not a cursor of this store")
        where, values = "(last_seen_unix_ns, session_id) < (?, ?)", (int(moment), session_id)
    rows = connection.execute(
        f"SELECT {_SESSION} FROM sessions WHERE {where}"  # noqa: S608 constants only
        " ORDER BY last_seen_unix_ns DESC, session_id DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    page = [_session(row) for row in rows[:limit]]
    more = f"{page[-1].last_seen_unix_ns}.{page[-1].session_id}" if len(rows) > limit else ""
    return SessionPage(sessions=page, next=more)


def session(connection: sqlite3.Connection, session_id: str, limit: int) -> SessionDetail | None:
    """One session, with its first exchanges."""
    row = connection.execute(f"SELECT {_SESSION} FROM sessions WHERE session_id = ?", (session_id,)).fetchone()  # noqa: S608
    if row is None:
        return None
    rows = connection.execute(
        f"SELECT {_SPAN}, {_EXCHANGE} FROM exchanges e JOIN spans s ON s.id = e.id"  # noqa: S608 constants only
        " WHERE e.session_id = ? ORDER BY e.start_unix_ns, e.id LIMIT ?",
        (session_id, limit + 1),
    ).fetchall()
    return SessionDetail(
        session=_session(row), exchanges=[_summary(row) for row in rows[:limit]], truncated=len(rows) > limit
    )


def stats(connection: sqlite3.Connection, databases_set_aside: int) -> StoreStats:
    """The writer's counts."""
    totals: dict[str, int] = dict(connection.execute("SELECT name, value FROM totals").fetchall())
    return StoreStats(
        spans=totals["spans"],
        exchanges=totals["exchanges"],
        sessions=totals["sessions"],
        bytes=used_bytes(connection),
        appended=totals["appended"],
        duplicates=totals["duplicates"],
        expired=totals["expired"],
        databases_set_aside=databases_set_aside,
    )


def _summary(row: tuple[Any, ...]) -> ExchangeSummary:
    assert len(row) == _SPAN_COLUMNS + _EXCHANGE_COLUMNS
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
    )


def _session(row: tuple[Any, ...]) -> SessionSummary:
    return SessionSummary(
        session_id=row[0],
        first_seen_unix_ns=row[1],
        last_seen_unix_ns=row[2],
        exchanges=row[3],
        errors=row[4],
        services=sorted(msgspec.json.decode(row[5], type=list[str])),
    )
