"""What expires, in transactions of limited length: old batches of each tenant, and the oldest when there is too much.

"Oldest" is by arrival. A clock that was set back costs nothing: of each tenant only the front is looked at, and a batch
to be kept keeps what came after it.
"""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from sp_proxy.backend.sqlite import search, traffic
from sp_proxy.backend.sqlite.tally import Gone, add_totals

CHUNK = 2000
"""Spans or log records removed in one transaction, so that an insert never waits long behind it."""

Cutoff = Callable[[str], int]
"""From a tenant to the time (Unix nanoseconds) before which what was received is too old."""


def remove(connection: sqlite3.Connection, first: int, last: int) -> int:
    """Remove the spans with these numbers from every table and every count. Returns how many there were."""
    numbers = (first, last)
    gone = Gone(connection, first, last)
    exchanges = connection.execute("DELETE FROM exchanges WHERE id BETWEEN ? AND ?", numbers).rowcount
    for table in ("details", "bodies", "waiting"):
        connection.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", numbers)  # noqa: S608
    spans = connection.execute("DELETE FROM spans WHERE id BETWEEN ? AND ?", numbers).rowcount
    gone.write(connection)
    add_totals(connection, spans=-spans, exchanges=-exchanges)
    return spans


class Removed(NamedTuple):
    """How many spans and log records went, and whether there may be more of the kind."""

    removed: int
    more: bool


def remove_old(connection: sqlite3.Connection, cutoff: Cutoff) -> Removed:
    """Remove up to a chunk of spans and of log records that are too old."""
    removed, room = 0, CHUNK
    for tenant in _tenants(connection, "batches"):
        rows = connection.execute(
            "SELECT id, received_unix_ns, first_span, last_span FROM batches WHERE tenant = ? ORDER BY id LIMIT ?",
            (tenant, CHUNK),
        )
        old = []
        for row in rows:
            if row[1] >= cutoff(tenant) or room <= 0:
                break
            old.append(row)
            room -= row[3] - row[2] + 1
        rows.close()
        if old:
            removed += _remove_batches(connection, old)
    for tenant in _tenants(connection, "logs"):
        until = _last_old_log(connection, tenant, cutoff(tenant))
        count = connection.execute("DELETE FROM logs WHERE tenant = ? AND id <= ?", (tenant, until)).rowcount
        add_totals(connection, logs=-count, expired=count)
        removed += count
        room -= count
    if room < CHUNK:
        _tidy(connection)
    return Removed(removed, room < CHUNK)


def _remove_batches(connection: sqlite3.Connection, batches: list[tuple[int, int, int, int]]) -> int:
    ranges: list[list[int]] = []
    for _, _, first, last in batches:
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1][1] = last
        else:
            ranges.append([first, last])
    removed = sum(remove(connection, first, last) for first, last in ranges)
    add_totals(connection, expired=removed)
    connection.executemany("DELETE FROM batches WHERE id = ?", [(batch[0],) for batch in batches])
    return removed


def _tenants(connection: sqlite3.Connection, table: str) -> list[str]:
    """All of them, by one look-up each in the index."""
    found: list[str] = []
    row = connection.execute(f"SELECT min(tenant) FROM {table}").fetchone()  # noqa: S608
    while row[0] is not None:
        found.append(row[0])
        row = connection.execute(f"SELECT min(tenant) FROM {table} WHERE tenant > ?", (row[0],)).fetchone()  # noqa: S608
    return found


def _last_old_log(connection: sqlite3.Connection, tenant: str, cutoff: int) -> int:
    last = 0
    rows = connection.execute(
        "SELECT id, received_unix_ns FROM logs WHERE tenant = ? ORDER BY id LIMIT ?", (tenant, CHUNK)
    )
    for number, received in rows:
        if received >= cutoff:
            break
        last = number
    rows.close()
    return last


def remove_oldest(connection: sqlite3.Connection, chunk: int = CHUNK) -> int:
    """Remove up to ``chunk`` of the oldest spans, or of the log records if these are older. Returns how many."""
    span = connection.execute(
        "SELECT s.id, b.received_unix_ns FROM spans s JOIN batches b ON b.id = s.batch_id ORDER BY s.id LIMIT 1"
    ).fetchone()
    log = connection.execute("SELECT id, received_unix_ns FROM logs ORDER BY id LIMIT 1").fetchone()
    if log and (not span or log[1] < span[1]):
        (end,) = connection.execute(
            "SELECT max(id) FROM (SELECT id FROM logs WHERE received_unix_ns < ? ORDER BY id LIMIT ?)",
            (span[1] if span else 2**63 - 1, chunk),
        ).fetchone()
        removed = connection.execute("DELETE FROM logs WHERE id <= ?", (end,)).rowcount
        add_totals(connection, logs=-removed)
    elif span:
        (end,) = connection.execute(
            "SELECT max(id) FROM (SELECT id FROM spans ORDER BY id LIMIT ?)", (chunk,)
        ).fetchone()
        removed = remove(connection, 0, end)
        connection.execute(
            "DELETE FROM batches WHERE id < coalesce((SELECT batch_id FROM spans ORDER BY id LIMIT 1), ?)", (2**63 - 1,)
        )
    else:
        return 0
    add_totals(connection, expired=removed)
    _tidy(connection)
    return removed


def _tidy(connection: sqlite3.Connection) -> None:
    """Remove what nothing that is left refers to."""
    fronts = []
    for table in ("spans", "logs"):
        (front,) = connection.execute(f"SELECT min(id) FROM {table}").fetchone()  # noqa: S608
        fronts.append(2**63 - 1 if front is None else front)
    span, log = fronts
    connection.execute("DELETE FROM resources WHERE last_span < ? AND last_log < ?", (span, log))
    for (tagset,) in connection.execute("SELECT id FROM tagsets WHERE last_span < ?", (span,)).fetchall():
        connection.execute("DELETE FROM tags WHERE tagset = ?", (tagset,))
        connection.execute("DELETE FROM tagsets WHERE id = ?", (tagset,))
    search.drop_until(connection, span - 1)
    traffic.forget(connection)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold data."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def excess(connection: sqlite3.Connection, max_bytes: int) -> int:
    """About how many spans and log records have to go until no more than ``max_bytes`` are used; 0 when none has to."""
    used = used_bytes(connection)
    if used <= max_bytes:
        return 0
    (rows,) = connection.execute("SELECT sum(value) FROM totals WHERE name IN ('spans', 'logs')").fetchone()
    return 1 + int(rows * (used - max_bytes) / used)


def give_back(connection: sqlite3.Connection, pages: int = 1000) -> None:
    """Return free pages at the end of the file to the filesystem."""
    connection.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()
