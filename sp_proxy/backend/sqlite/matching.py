"""Traces and sessions that have an exchange which a query asks for: each once, where its newest such exchange stands.

The exchanges are walked as for a list of them, so time is limited in the same way. On a later page a trace or session
was listed before if a newer exchange of it fits, which is looked up.
"""

import sqlite3
import time
from collections.abc import Callable

from sp_proxy.backend.model import ExchangeSummary, SessionPage, TracePage
from sp_proxy.backend.query.syntax import Match, Query, Trace, all_of, exactly
from sp_proxy.backend.sqlite import rows, scan

CHUNK = 200
"""Exchanges looked at in one step."""
CHECK_SECONDS = 0.05
"""For finding out whether one was listed before."""
_Name = Callable[[ExchangeSummary], str]
_Narrow = Callable[[str], Query]


def traces(
    connection: sqlite3.Connection, query: Query, before: str, limit: int, *, budget: float = scan.BUDGET
) -> TracePage:
    """A page of traces. Called inside a transaction."""
    names, more = _distinct(
        connection, query, before, limit, budget, lambda one: one.trace_id, lambda name: Trace(bytes.fromhex(name))
    )
    found = [
        connection.execute(f"SELECT {rows.TRACE} FROM traces WHERE trace_id = ?", (bytes.fromhex(name),)).fetchone()  # noqa: S608
        for name in names
    ]
    return TracePage(traces=[rows.trace(row) for row in found if row], next=more)


def sessions(
    connection: sqlite3.Connection, query: Query, before: str, limit: int, *, budget: float = scan.BUDGET
) -> SessionPage:
    """A page of sessions. Called inside a transaction."""
    names, more = _distinct(
        connection,
        query,
        before,
        limit,
        budget,
        lambda one: one.session_id,
        lambda name: Match("session", exactly(name)),
    )
    found = [
        connection.execute(f"SELECT {rows.SESSION} FROM sessions WHERE session_id = ?", (name,)).fetchone()  # noqa: S608
        for name in names
    ]
    return SessionPage(sessions=[rows.session(row) for row in found if row], next=more)


def _distinct(
    connection: sqlite3.Connection,
    query: Query,
    before: str,
    limit: int,
    budget: float,
    name_of: _Name,
    narrowed: _Narrow,
) -> tuple[list[str], str]:
    """Names in order, and the cursor of the next page."""
    deadline = time.monotonic() + budget
    names: dict[str, None] = {}
    cursor, looked_at = before, 0
    while True:
        page = scan.found(connection, query, cursor, CHUNK, deadline=deadline)
        for key, exchange in page.exchanges:
            name = name_of(exchange)
            if len(names) == limit or (looked_at and time.monotonic() > deadline):
                # This one begins the next page: the cursor is right above it.
                return list(names), scan.cursor_of((key[0], key[1] + 1))
            looked_at += 1
            if name and name not in names and (not before or _is_newest(connection, exchange, query, narrowed(name))):
                names[name] = None
        if not page.next or time.monotonic() > deadline:
            return list(names), page.next
        cursor = page.next


def _is_newest(connection: sqlite3.Connection, exchange: ExchangeSummary, query: Query, within: Query) -> bool:
    page = scan.found(connection, all_of(query, within), "", 1, deadline=time.monotonic() + CHECK_SECONDS)
    if not page.exchanges:
        return True  # there was no time to find out: rather listed twice than never
    _, newest = page.exchanges[0]
    return (newest.trace_id, newest.span_id) == (exchange.trace_id, exchange.span_id)
