"""What the writer does, in one transaction each: insert batches, remove the oldest spans."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sp_proxy.backend.model import Appended, ExchangeSummary, StoredSpan
from sp_proxy.backend.sqlite.packing import PackedBatch, PackedSpan

CHUNK = 2000
"""Spans removed in one transaction, so that an insert never waits long behind it."""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def insert_batches(connection: sqlite3.Connection, batches: Sequence[PackedBatch]) -> list[Appended]:
    """Keep several batches at the cost of one commit."""
    with transaction(connection):
        return [_insert_batch(connection, batch) for batch in batches]


def _insert_batch(connection: sqlite3.Connection, batch: PackedBatch) -> Appended:
    if not batch.spans:
        return Appended(stored=0, duplicates=0, exchanges=[])
    batch_id = connection.execute(
        "INSERT INTO batches (tenant, received_unix_ns) VALUES (?, ?)", (batch.tenant, batch.received_unix_ns)
    ).lastrowid
    assert batch_id is not None
    resource_ids = [
        connection.execute(
            "INSERT INTO resources (digest, attributes) VALUES (?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET digest = digest RETURNING id",
            resource,
        ).fetchone()[0]
        for resource in batch.resources
    ]
    exchanges: list[ExchangeSummary] = []
    stored, last_id = 0, 0
    for packed in batch.spans:
        span_id = _insert_span(connection, packed, batch_id, resource_ids[packed.span.resource])
        if span_id:
            stored, last_id = stored + 1, span_id
            if packed.span.exchange is not None:
                exchange = summary_of(packed)
                exchanges.append(exchange)
                _count_session(connection, exchange)
    if stored:
        connection.execute("UPDATE batches SET last_span = ? WHERE id = ?", (last_id, batch_id))
    else:
        connection.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
    connection.executemany(
        "UPDATE resources SET last_span = max(last_span, ?) WHERE id = ?",
        [(last_id, resource_id) for resource_id in set(resource_ids)],
    )
    duplicates = len(batch.spans) - stored
    _add_totals(connection, spans=stored, exchanges=len(exchanges), appended=stored, duplicates=duplicates)
    return Appended(stored=stored, duplicates=duplicates, exchanges=exchanges)


def _insert_span(connection: sqlite3.Connection, packed: PackedSpan, batch_id: int, resource_id: int) -> int:
    """The number of the new row; 0 for a span that is there already, unless that is a partial one: it makes room."""
    span = packed.span
    inserted = connection.execute(
        "INSERT INTO spans (trace_id, span_id, parent_span_id, batch_id, resource_id, service, name, kind,"
        " start_unix_ns, duration_ns, failed, partial) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            batch_id,
            resource_id,
            span.service,
            span.name,
            span.kind,
            span.start_unix_ns,
            span.duration_ns,
            span.failed,
            span.partial,
        ),
    )
    if inserted.rowcount == 0:
        if span.partial or not _remove_partial(connection, span):
            return 0
        return _insert_span(connection, packed, batch_id, resource_id)
    row_id = inserted.lastrowid
    assert row_id is not None
    connection.execute("INSERT INTO details (id, data) VALUES (?, ?)", (row_id, packed.details))
    if packed.request_body is not None or packed.response_body is not None:
        connection.execute(
            "INSERT INTO bodies (id, request, response) VALUES (?, ?, ?)",
            (row_id, packed.request_body, packed.response_body),
        )
    exchange = span.exchange
    if exchange is not None:
        connection.execute(
            "INSERT INTO exchanges (id, start_unix_ns, session_id, service, direction, method, scheme, host, path,"
            " status, request_size, response_size, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row_id,
                span.start_unix_ns,
                exchange.session_id,
                exchange.service,
                exchange.direction,
                exchange.method,
                exchange.scheme,
                exchange.host,
                exchange.path,
                exchange.status,
                exchange.request_size,
                exchange.response_size,
                exchange.error,
            ),
        )
    return row_id


def summary_of(packed: PackedSpan) -> ExchangeSummary:
    """The summary which a query would give of this exchange."""
    span, exchange = packed.span, packed.span.exchange
    assert exchange is not None
    return ExchangeSummary(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        start_unix_ns=span.start_unix_ns,
        duration_ns=span.duration_ns,
        failed=span.failed,
        session_id=exchange.session_id,
        service=exchange.service,
        direction=exchange.direction,
        method=exchange.method,
        scheme=exchange.scheme,
        host=exchange.host,
        path=exchange.path,
        status=exchange.status,
        request_size=exchange.request_size,
        response_size=exchange.response_size,
        error=exchange.error,
        partial=span.partial,
    )


def _remove_partial(connection: sqlite3.Connection, span: StoredSpan) -> bool:
    """Take away the partial exchange in whose place this span comes; whether there was one."""
    row = connection.execute(
        "SELECT id FROM spans WHERE span_id = ? AND trace_id = ? AND partial", (span.span_id, span.trace_id)
    ).fetchone()
    if row is None:
        return False
    _remove(connection, row[0], row[0])
    return True


def _count_session(connection: sqlite3.Connection, exchange: ExchangeSummary) -> None:
    if not exchange.session_id:
        return
    new = connection.execute(
        "INSERT INTO sessions VALUES (?, ?, ?, 0, 0) ON CONFLICT DO NOTHING",
        (exchange.session_id, exchange.start_unix_ns, exchange.start_unix_ns),
    ).rowcount
    connection.execute(
        "UPDATE sessions SET exchanges = exchanges + 1, errors = errors + ?,"
        " first_seen_unix_ns = min(first_seen_unix_ns, ?), last_seen_unix_ns = max(last_seen_unix_ns, ?)"
        " WHERE session_id = ?",
        (exchange.failed, exchange.start_unix_ns, exchange.start_unix_ns, exchange.session_id),
    )
    connection.execute(
        "INSERT INTO session_services VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET exchanges = exchanges + 1",
        (exchange.session_id, exchange.service),
    )
    _add_totals(connection, sessions=new)


def _add_totals(connection: sqlite3.Connection, **changes: int) -> None:
    connection.executemany(
        "UPDATE totals SET value = value + ? WHERE name = ?",
        [(change, name) for name, change in changes.items() if change],
    )


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold data."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def excess_spans(connection: sqlite3.Connection, max_bytes: int) -> int:
    """About how many spans have to go until no more than ``max_bytes`` are used; 0 when none has to."""
    used = used_bytes(connection)
    if used <= max_bytes:
        return 0
    (spans,) = connection.execute("SELECT value FROM totals WHERE name = 'spans'").fetchone()
    return 1 + int(spans * (used - max_bytes) / used)


def expired_until(connection: sqlite3.Connection, received_before_unix_ns: int) -> int:
    """The last span (in order of arrival) of the batches received before a time; 0 when there is none."""
    (last,) = connection.execute(
        # The clock may have been set back: what arrived after a batch to be kept is kept too.
        "SELECT coalesce(max(last_span), 0) FROM batches WHERE id <"
        " coalesce((SELECT id FROM batches WHERE received_unix_ns >= ? ORDER BY id LIMIT 1), 9223372036854775807)",
        (received_before_unix_ns,),
    ).fetchone()
    return int(last)


def remove_oldest(connection: sqlite3.Connection, *, until: int, chunk: int = CHUNK) -> int:
    """Remove up to ``chunk`` of the oldest spans, none after the span ``until``. Returns how many: 0 at the end."""
    with transaction(connection):
        (end,) = connection.execute(
            "SELECT max(id) FROM (SELECT id FROM spans WHERE id <= ? ORDER BY id LIMIT ?)", (until, chunk)
        ).fetchone()
        if end is None:
            return 0
        spans = _remove(connection, 0, end)
        connection.execute("DELETE FROM batches WHERE last_span <= ?", (end,))
        connection.execute("DELETE FROM resources WHERE last_span <= ?", (end,))
        _add_totals(connection, expired=spans)
        return spans


def _remove(connection: sqlite3.Connection, first: int, last: int) -> int:
    """Remove the spans with these numbers from every table and every count. Returns how many there were."""
    numbers = (first, last)
    _uncount_sessions(connection, first, last)
    exchanges = connection.execute("DELETE FROM exchanges WHERE id BETWEEN ? AND ?", numbers).rowcount
    connection.execute("DELETE FROM details WHERE id BETWEEN ? AND ?", numbers)
    connection.execute("DELETE FROM bodies WHERE id BETWEEN ? AND ?", numbers)
    spans = connection.execute("DELETE FROM spans WHERE id BETWEEN ? AND ?", numbers).rowcount
    _add_totals(connection, spans=-spans, exchanges=-exchanges)
    return spans


def give_back(connection: sqlite3.Connection, pages: int = 1000) -> None:
    """Return free pages at the end of the file to the filesystem."""
    connection.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()


def _uncount_sessions(connection: sqlite3.Connection, first: int, last: int) -> None:
    gone = connection.execute(
        "SELECT session_id, count(*), sum(failed) FROM exchanges JOIN spans USING (id)"
        " WHERE exchanges.id BETWEEN ? AND ? AND session_id <> '' GROUP BY session_id",
        (first, last),
    ).fetchall()
    connection.executemany(
        "UPDATE session_services SET exchanges = exchanges - ? WHERE session_id = ? AND service = ?",
        connection.execute(
            "SELECT count(*), session_id, service FROM exchanges WHERE id BETWEEN ? AND ? AND session_id <> ''"
            " GROUP BY session_id, service",
            (first, last),
        ).fetchall(),
    )
    removed = 0
    for session_id, count, failed in gone:
        connection.execute(
            "UPDATE sessions SET exchanges = exchanges - ?, errors = errors - ? WHERE session_id = ?",
            (count, failed, session_id),
        )
        connection.execute("DELETE FROM session_services WHERE session_id = ? AND exchanges <= 0", (session_id,))
        removed += connection.execute(
            "DELETE FROM sessions WHERE session_id = ? AND exchanges <= 0", (session_id,)
        ).rowcount
        connection.execute(
            "UPDATE sessions SET (first_seen_unix_ns, last_seen_unix_ns) ="
            " (SELECT min(start_unix_ns), max(start_unix_ns) FROM exchanges WHERE session_id = :session"
            " AND id NOT BETWEEN :first AND :last) WHERE session_id = :session",
            {"session": session_id, "first": first, "last": last},
        )
    _add_totals(connection, sessions=-removed)
