"""What the third version of the schema keeps beside spans, made of the spans of an older file.

About 150 µs an exchange, once, when the file is opened. Log records there are none in such a file.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

from sp_proxy.backend.model import ExchangeFields, StoredSpan
from sp_proxy.backend.spans import search_text, tags_of
from sp_proxy.backend.sqlite import search, traffic
from sp_proxy.backend.sqlite.packing import digest_of, unpack, unpack_json

_CHUNK = 1000
_MAX_CHARACTERS = 32 << 20
_TRACES = """
INSERT INTO traces
SELECT t.trace_id, t.first, t.last, coalesce(e.method || ' ' || e.path, s.name), s.service, t.spans, t.exchanges, t.errors,
    t.services
FROM (
    SELECT s.trace_id, min(s.start_unix_ns) AS first, max(s.start_unix_ns + s.duration_ns) AS last, count(*) AS spans,
        count(e.id) AS exchanges, sum(s.failed) AS errors, json_group_array(DISTINCT s.service) AS services
    FROM spans s LEFT JOIN exchanges e ON e.id = s.id GROUP BY s.trace_id
) t
JOIN spans s ON s.id = (SELECT id FROM spans x WHERE x.trace_id = t.trace_id ORDER BY x.start_unix_ns, x.id LIMIT 1)
LEFT JOIN exchanges e ON e.id = s.id
"""


def backfill(connection: sqlite3.Connection) -> None:
    """Make the lists of traces and calls, the tags and the text index. Called inside a transaction."""
    connection.execute(_TRACES)
    connection.execute("UPDATE totals SET value = (SELECT count(*) FROM traces) WHERE name = 'traces'")
    calls = traffic.Calls()
    for chunk in _chunks(connection):
        documents = []
        for row_id, span in chunk:
            if span.tags:
                _tag(connection, row_id, span.tags)
            traffic.join(connection, row_id, span, calls)
            documents.append(search.Document(row_id, span.start_unix_ns, span.text))
        search.add(connection, documents, max_characters=_MAX_CHARACTERS)
    calls.write(connection)


def _chunks(connection: sqlite3.Connection) -> Iterator[list[tuple[int, StoredSpan]]]:
    last = 0
    while True:
        rows = connection.execute(
            "SELECT e.id, s.trace_id, s.span_id, s.parent_span_id, s.start_unix_ns, s.duration_ns, s.failed, s.partial,"
            " e.session_id, e.service, e.direction, e.method, e.scheme, e.host, e.path, e.status, e.request_size,"
            " e.response_size, e.error, r.attributes, d.data, b.request, b.response FROM exchanges e"
            " JOIN spans s ON s.id = e.id JOIN resources r ON r.id = s.resource_id JOIN details d ON d.id = e.id"
            " LEFT JOIN bodies b ON b.id = e.id WHERE e.id > ? ORDER BY e.id LIMIT ?",
            (last, _CHUNK),
        ).fetchall()
        if not rows:
            return
        yield [(row[0], _span(row)) for row in rows]
        last = rows[-1][0]


def _span(row: tuple[Any, ...]) -> StoredSpan:
    exchange = ExchangeFields(*row[8:19])
    resource, details = unpack_json(row[19]), unpack_json(row[20])
    request, response = (None if blob is None else unpack(blob) for blob in row[21:23])
    attributes = details.get("attributes", {})
    return StoredSpan(
        trace_id=row[1],
        span_id=row[2],
        parent_span_id=row[3],
        name="",
        kind=0,
        start_unix_ns=row[4],
        duration_ns=row[5],
        failed=bool(row[6]),
        service=exchange.service,
        resource=0,
        details=details,
        exchange=exchange,
        partial=bool(row[7]),
        tags=tags_of(resource) | tags_of(attributes),
        text=search_text(exchange, details.get("events", ()), attributes, request, response),
    )


def _tag(connection: sqlite3.Connection, row_id: int, tags: dict[str, str]) -> None:
    digest = digest_of(tags)
    connection.execute(
        "INSERT INTO tagsets (digest, last_span) VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET last_span = ?",
        (digest, row_id, row_id),
    )
    (tagset,) = connection.execute("SELECT id FROM tagsets WHERE digest = ?", (digest,)).fetchone()
    connection.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", [(*tag, tagset) for tag in tags.items()])
    connection.execute("UPDATE exchanges SET tagset = ? WHERE id = ?", (tagset, row_id))
