"""What lists of sessions and traces show, kept while spans come and go.

What one transaction adds is gathered first and written once for each session and trace: most spans of a batch share
theirs.
"""

import sqlite3
from collections import Counter

import msgspec

from sp_proxy.backend.model import StoredSpan

MAX_SERVICES = 50
"""Services that a trace names in a list."""
_encode = msgspec.json.Encoder().encode
_decode_names = msgspec.json.Decoder(list[str]).decode


class _Session:
    def __init__(self, start: int) -> None:
        self.first = self.last = start
        self.exchanges = self.errors = 0
        self.services: Counter[str] = Counter()


class _Trace:
    def __init__(self, span: StoredSpan) -> None:
        self.start, self.end = span.start_unix_ns, 0
        self.name, self.service = name_of(span), span.service
        self.spans = self.exchanges = self.errors = 0
        self.services: set[str] = set()


class Tally:
    """What a transaction adds, until it is written."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._traces: dict[bytes, _Trace] = {}

    def add(self, span: StoredSpan) -> None:
        """Count a new span."""
        trace = self._traces.get(span.trace_id)
        if trace is None:
            trace = self._traces[span.trace_id] = _Trace(span)
        if span.start_unix_ns < trace.start:
            trace.start, trace.name, trace.service = span.start_unix_ns, name_of(span), span.service
        trace.end = max(trace.end, span.start_unix_ns + span.duration_ns)
        trace.spans += 1
        trace.errors += span.failed
        trace.services.add(span.service)
        exchange = span.exchange
        if exchange is None:
            return
        trace.exchanges += 1
        if not exchange.session_id:
            return
        session = self._sessions.get(exchange.session_id)
        if session is None:
            session = self._sessions[exchange.session_id] = _Session(span.start_unix_ns)
        session.first = min(session.first, span.start_unix_ns)
        session.last = max(session.last, span.start_unix_ns)
        session.exchanges += 1
        session.errors += span.failed
        session.services[exchange.service] += 1

    def write(self, connection: sqlite3.Connection) -> None:
        """Add it to what is stored."""
        self._write_sessions(connection)
        self._write_traces(connection)

    def _write_sessions(self, connection: sqlite3.Connection) -> None:
        new = connection.executemany(
            "INSERT INTO sessions VALUES (?, ?, ?, 0, 0) ON CONFLICT DO NOTHING",
            [(name, session.first, session.last) for name, session in self._sessions.items()],
        ).rowcount
        connection.executemany(
            "UPDATE sessions SET exchanges = exchanges + ?, errors = errors + ?,"
            " first_seen_unix_ns = min(first_seen_unix_ns, ?), last_seen_unix_ns = max(last_seen_unix_ns, ?)"
            " WHERE session_id = ?",
            [
                (session.exchanges, session.errors, session.first, session.last, name)
                for name, session in self._sessions.items()
            ],
        )
        connection.executemany(
            "INSERT INTO session_services VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET exchanges = exchanges + excluded.exchanges",
            [
                (name, service, count)
                for name, session in self._sessions.items()
                for service, count in session.services.items()
            ],
        )
        add_totals(connection, sessions=max(0, new))
        self._sessions.clear()

    def _write_traces(self, connection: sqlite3.Connection) -> None:
        new = 0
        rows = []
        for trace_id, trace in self._traces.items():
            known = connection.execute(
                "SELECT start_unix_ns, end_unix_ns, name, service, spans, exchanges, errors, services FROM traces"
                " WHERE trace_id = ?",
                (trace_id,),
            ).fetchone()
            if known is None:
                new += 1
            else:
                start, end, name, service, spans, exchanges, errors, services = known
                if start <= trace.start:
                    trace.start, trace.name, trace.service = start, name, service
                trace.end = max(trace.end, end)
                trace.spans += spans
                trace.exchanges += exchanges
                trace.errors += errors
                trace.services.update(_decode_names(services))
            services = _encode(sorted(trace.services - {""})[:MAX_SERVICES]).decode()
            rows.append(
                (
                    trace_id,
                    trace.start,
                    trace.end,
                    trace.name,
                    trace.service,
                    trace.spans,
                    trace.exchanges,
                    trace.errors,
                    services,
                )
            )
        connection.executemany(
            "INSERT INTO traces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (trace_id) DO UPDATE SET"
            " start_unix_ns = excluded.start_unix_ns, end_unix_ns = excluded.end_unix_ns, name = excluded.name,"
            " service = excluded.service, spans = excluded.spans, exchanges = excluded.exchanges,"
            " errors = excluded.errors, services = excluded.services",
            rows,
        )
        add_totals(connection, traces=new)
        self._traces.clear()


def name_of(span: StoredSpan) -> str:
    """What a trace that begins with this span is called."""
    return f"{span.exchange.method} {span.exchange.path}" if span.exchange else span.name


def add_totals(connection: sqlite3.Connection, **changes: int) -> None:
    """Change the counts of ``totals``."""
    connection.executemany(
        "UPDATE totals SET value = value + ? WHERE name = ?",
        [(change, name) for name, change in changes.items() if change],
    )


class Gone:
    """What spans that are about to be removed count for; ``write`` takes it off once they are removed."""

    def __init__(self, connection: sqlite3.Connection, first: int, last: int) -> None:
        numbers = (first, last)
        self._sessions = connection.execute(
            "SELECT session_id, count(*), sum(failed) FROM exchanges"
            " WHERE id BETWEEN ? AND ? AND session_id <> '' GROUP BY session_id",
            numbers,
        ).fetchall()
        self._services = connection.execute(
            "SELECT count(*), session_id, service FROM exchanges WHERE id BETWEEN ? AND ? AND session_id <> ''"
            " GROUP BY session_id, service",
            numbers,
        ).fetchall()
        self._traces = connection.execute(
            "SELECT count(*), count(e.id), sum(s.failed), s.trace_id FROM spans s LEFT JOIN exchanges e ON e.id = s.id"
            " WHERE s.id BETWEEN ? AND ? GROUP BY s.trace_id",
            numbers,
        ).fetchall()

    def write(self, connection: sqlite3.Connection) -> None:
        """Take it off. What is left of a session has its first and last times found again."""
        connection.executemany(
            "UPDATE session_services SET exchanges = exchanges - ? WHERE session_id = ? AND service = ?", self._services
        )
        removed = 0
        for session_id, count, failed in self._sessions:
            connection.execute(
                "UPDATE sessions SET exchanges = exchanges - ?, errors = errors - ? WHERE session_id = ?",
                (count, failed, session_id),
            )
            connection.execute("DELETE FROM session_services WHERE session_id = ? AND exchanges <= 0", (session_id,))
            removed += connection.execute(
                "DELETE FROM sessions WHERE session_id = ? AND exchanges <= 0", (session_id,)
            ).rowcount
        # By the index on (session_id, start_unix_ns): two look-ups, however long the session is.
        end = "(SELECT start_unix_ns FROM exchanges e WHERE e.session_id = sessions.session_id ORDER BY start_unix_ns"
        connection.executemany(
            f"UPDATE sessions SET first_seen_unix_ns = {end} LIMIT 1), last_seen_unix_ns = {end} DESC LIMIT 1)"  # noqa: S608
            " WHERE session_id = ?",
            [(session_id,) for session_id, _, _ in self._sessions],
        )
        connection.executemany(
            "UPDATE traces SET spans = spans - ?, exchanges = exchanges - ?, errors = errors - ? WHERE trace_id = ?",
            self._traces,
        )
        traces = connection.executemany(
            "DELETE FROM traces WHERE trace_id = ? AND spans <= 0", [(row[3],) for row in self._traces]
        ).rowcount
        add_totals(connection, sessions=-removed, traces=-max(0, traces))
