"""Queries for what has a name: a span, a trace, a session, and the lists that are kept. Exchanges are found by ``scan``."""

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sp_proxy.backend.log_model import LogFilter, LogPage, LogRecord
from sp_proxy.backend.model import (
    SessionDetail,
    SessionPage,
    SpanRecord,
    StoreStats,
    TracePage,
    TraceSpan,
    kind_name,
)
from sp_proxy.backend.sqlite import rows
from sp_proxy.backend.sqlite.packing import unpack, unpack_json
from sp_proxy.backend.sqlite.remove import used_bytes
from sp_proxy.backend.sqlite.scan import (
    BUDGET,
    FIRST_WINDOW,
    LAST_WINDOW,
    MAX_INTEGER,
    Key,
    cursor_of,
    parse_cursor,
)
from sp_proxy.backend.store import BadCursorError


def span(connection: sqlite3.Connection, span_id: bytes, trace_id: bytes | None) -> SpanRecord | None:
    """One span by its ids."""
    row = connection.execute(
        f"SELECT s.id, {rows.SPAN}, s.name, s.kind, s.service, b.tenant, b.received_unix_ns, r.attributes, d.data,"  # noqa: S608 constants only
        " o.request, o.response FROM spans s JOIN batches b ON b.id = s.batch_id JOIN resources r ON r.id ="
        " s.resource_id JOIN details d ON d.id = s.id LEFT JOIN bodies o ON o.id = s.id"
        " WHERE s.span_id = :span AND (:trace IS NULL OR s.trace_id = :trace) ORDER BY s.id DESC LIMIT 1",
        {"span": span_id, "trace": trace_id},
    ).fetchone()
    if row is None:
        return None
    found = connection.execute(f"SELECT {rows.EXCHANGE} FROM exchanges e WHERE e.id = ?", (row[0],)).fetchone()  # noqa: S608
    name, kind, service, tenant, received, resource, details, request, response = row[1 + rows.SPAN_COLUMNS :]
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
        exchange=rows.summary(row[1 : 1 + rows.SPAN_COLUMNS] + found) if found else None,
        request_body=None if request is None else unpack(request),
        response_body=None if response is None else unpack(response),
    )


def trace(connection: sqlite3.Connection, trace_id: bytes, limit: int) -> list[TraceSpan]:
    """The first spans of a trace."""
    found = connection.execute(
        f"SELECT {rows.SPAN}, s.name, s.kind, s.service, {rows.EXCHANGE} FROM spans s"  # noqa: S608 constants only
        " LEFT JOIN exchanges e ON e.id = s.id WHERE s.trace_id = ? ORDER BY s.start_unix_ns, s.id LIMIT ?",
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
            exchange=rows.summary(row[: rows.SPAN_COLUMNS] + row[10:]) if row[10] is not None else None,
        )
        for row in found
    ]


def traces(connection: sqlite3.Connection, before: str, limit: int) -> TracePage:
    """A page by (start, trace id), descending. The cursor is the time, a dot, and the id in hex."""
    where, values = "1", []
    if before:
        moment, trace_id = _time_and_name(before)
        try:
            values = [moment, bytes.fromhex(trace_id)]
        except ValueError as error:
            raise BadCursorError("not a cursor of this store") from error
        where = "(start_unix_ns, trace_id) < (?, ?)"
    found = connection.execute(
        f"SELECT {rows.TRACE} FROM traces WHERE {where} ORDER BY start_unix_ns DESC, trace_id DESC LIMIT ?",  # noqa: S608
        (*values, limit + 1),
    ).fetchall()
    page = [rows.trace(row) for row in found[:limit]]
    more = f"{page[-1].start_unix_ns}.{page[-1].trace_id}" if len(found) > limit else ""
    return TracePage(traces=page, next=more)


def sessions(connection: sqlite3.Connection, before: str, limit: int) -> SessionPage:
    """A page by (last seen, session id), descending. The cursor is the time, a dot, and the id."""
    where = "1"
    values: tuple[Any, ...] = ()
    if before:
        where, values = "(last_seen_unix_ns, session_id) < (?, ?)", _time_and_name(before)
    found = connection.execute(
        f"SELECT {rows.SESSION} FROM sessions WHERE {where}"  # noqa: S608 constants only
        " ORDER BY last_seen_unix_ns DESC, session_id DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    page = [rows.session(row) for row in found[:limit]]
    more = f"{page[-1].last_seen_unix_ns}.{page[-1].session_id}" if len(found) > limit else ""
    return SessionPage(sessions=page, next=more)


def session(connection: sqlite3.Connection, session_id: str, after: str, limit: int) -> SessionDetail | None:
    """One session, with a page of its exchanges by (start, row number)."""
    key = parse_cursor(after) if after else (-1, -1)
    row = connection.execute(f"SELECT {rows.SESSION} FROM sessions WHERE session_id = ?", (session_id,)).fetchone()  # noqa: S608
    if row is None:
        return None
    found = connection.execute(
        f"SELECT e.id, {rows.SPAN}, {rows.EXCHANGE} FROM exchanges e JOIN spans s ON s.id = e.id"  # noqa: S608 constants only
        " WHERE e.session_id = ? AND (e.start_unix_ns, e.id) > (?, ?) ORDER BY e.start_unix_ns, e.id LIMIT ?",
        (session_id, *key, limit + 1),
    ).fetchall()
    exchanges = [rows.summary(one[1:]) for one in found[:limit]]
    more = cursor_of((exchanges[-1].start_unix_ns, found[limit - 1][0])) if len(found) > limit else ""
    return SessionDetail(session=rows.session(row), exchanges=exchanges, truncated=bool(more), next=more)


def logs(
    connection: sqlite3.Connection,
    wanted: LogFilter,
    before: str,
    limit: int,
    *,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> LogPage:
    """A page by (time, row number), descending. Found in limited time: by the index of a trace, else in windows along the
    time, as ``scan`` finds exchanges.
    """
    deadline = clock() + budget
    where, values = _log_condition(wanted)
    below = parse_cursor(before) if before else (MAX_INTEGER, MAX_INTEGER)
    size = FIRST_WINDOW
    found: list[tuple[Any, ...]] = []
    while True:
        end = None if wanted.trace_id else _log_window(connection, below, size)
        found += connection.execute(
            "SELECT l.id, l.time_unix_ns, l.trace_id, l.span_id, l.severity, l.severity_text, l.service, l.body, r.attributes,"  # noqa: S608 constants only
            f" l.data FROM logs l JOIN resources r ON r.id = l.resource_id WHERE {where}"
            " AND (l.time_unix_ns, l.id) < (?, ?) AND (l.time_unix_ns, l.id) >= (?, ?)"
            " ORDER BY l.time_unix_ns DESC, l.id DESC LIMIT ?",
            (*values, *below, *(end or (-1, -1)), limit + 1 - len(found)),
        ).fetchall()
        if end is None or len(found) > limit or clock() > deadline:
            break
        below = end
        size = min(2 * size, LAST_WINDOW)
    more = cursor_of(end) if end else ""
    if len(found) > limit:
        more = cursor_of((found[limit - 1][1], found[limit - 1][0]))
    return LogPage(logs=[_log(row) for row in found[:limit]], next=more)


def _log_window(connection: sqlite3.Connection, below: Key, size: int) -> Key | None:
    """The last place of the next so many log records; None when there are no more than these."""
    end: Key | None = connection.execute(
        "SELECT time_unix_ns, id FROM logs WHERE (time_unix_ns, id) < (?, ?)"
        " ORDER BY time_unix_ns DESC, id DESC LIMIT 1 OFFSET ?",
        (*below, size - 1),
    ).fetchone()
    return end


def _log_condition(wanted: LogFilter) -> tuple[str, list[Any]]:
    where, values = ["1"], []
    for condition, value in (
        ("l.trace_id = ?", wanted.trace_id),
        ("l.span_id = ?", wanted.span_id),
        ("l.service = ?", wanted.service),
        ("l.severity >= ?", wanted.severity_min),
    ):
        if value:
            where.append(condition)
            values.append(value)
    if wanted.trace_id:
        where.append("l.trace_id <> x''")  # what the index on traces is limited to
    return " AND ".join(where), values


def _log(row: tuple[Any, ...]) -> LogRecord:
    return LogRecord(
        time_unix_ns=row[1],
        trace_id=row[2].hex(),
        span_id=row[3].hex(),
        severity=row[4],
        severity_text=row[5],
        service=row[6],
        body=row[7],
        resource=unpack_json(row[8]),
        details=unpack_json(row[9]),
    )


def stats(connection: sqlite3.Connection, databases_set_aside: int) -> StoreStats:
    """The writer's counts."""
    totals: dict[str, int] = dict(connection.execute("SELECT name, value FROM totals").fetchall())
    return StoreStats(**totals, bytes=used_bytes(connection), databases_set_aside=databases_set_aside)


def _time_and_name(cursor: str) -> tuple[int, str]:
    moment, dot, name = cursor.partition(".")
    if not (dot and moment.isascii() and moment.isdigit() and len(moment) < 20 and int(moment) <= MAX_INTEGER):
        raise BadCursorError("not a cursor of this store")
    return int(moment), name
