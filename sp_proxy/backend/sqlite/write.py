"""What the writer inserts, in one transaction: batches of spans and of log records."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sp_proxy.backend.model import Appended, Arrived, StoredSpan, summary_of
from sp_proxy.backend.sqlite import search, traffic
from sp_proxy.backend.sqlite.packing import PackedBatch, PackedLogs, PackedSpan
from sp_proxy.backend.sqlite.remove import remove
from sp_proxy.backend.sqlite.tally import Tally, add_totals
from sp_proxy.backend.sqlite.traffic import Calls

MAX_CHARACTERS = 32 << 20
"""Of a segment of the text index, where the caller does not say."""


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


def insert_batches(
    connection: sqlite3.Connection, batches: Sequence[PackedBatch], *, max_characters: int = MAX_CHARACTERS
) -> list[Appended]:
    """Keep several batches at the cost of one commit."""
    with transaction(connection):
        group = _Group(connection)
        results = [group.insert(batch) for batch in batches]
        group.write()
        search.add(connection, group.documents, max_characters=max_characters)
        return results


class _Group:
    """One transaction's batches: the rows go in at once, what is counted and indexed of them at the end."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tally = Tally()
        self._calls = Calls()
        self._tagsets: dict[bytes, int] = {}
        self.documents: list[search.Document] = []

    def insert(self, batch: PackedBatch) -> Appended:
        """Insert one batch."""
        if not batch.spans:
            return Appended(stored=0, duplicates=0, exchanges=[])
        batch_id = self._connection.execute(
            "INSERT INTO batches (tenant, received_unix_ns) VALUES (?, ?)", (batch.tenant, batch.received_unix_ns)
        ).lastrowid
        assert batch_id is not None
        resource_ids = insert_resources(self._connection, batch.resources)
        arrived: list[Arrived] = []
        stored, first_id, last_id = 0, 0, 0
        for packed in batch.spans:
            row_id = self._insert_span(packed, batch_id, resource_ids[packed.span.resource])
            if not row_id:
                continue
            stored, first_id, last_id = stored + 1, first_id or row_id, row_id
            span = packed.span
            self._tally.add(span)
            if span.exchange is not None:
                peer = traffic.join(self._connection, row_id, span, self._calls)
                arrived.append(Arrived(summary_of(span, peer), span.tags, span.text))
                self.documents.append(search.Document(row_id, span.start_unix_ns, span.text))
        if stored:
            self._connection.execute(
                "UPDATE batches SET first_span = ?, last_span = ? WHERE id = ?", (first_id, last_id, batch_id)
            )
        else:
            self._connection.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
        self._connection.executemany(
            "UPDATE resources SET last_span = max(last_span, ?) WHERE id = ?",
            [(last_id, resource_id) for resource_id in set(resource_ids)],
        )
        self._connection.executemany(
            "UPDATE tagsets SET last_span = max(last_span, ?) WHERE id = ?",
            [(last_id, tagset) for tagset in self._tagsets.values()],
        )
        duplicates = len(batch.spans) - stored
        add_totals(self._connection, spans=stored, exchanges=len(arrived), appended=stored, duplicates=duplicates)
        return Appended(stored=stored, duplicates=duplicates, exchanges=arrived)

    def write(self) -> None:
        """Write what was counted."""
        self._tally.write(self._connection)
        self._calls.write(self._connection)

    def _insert_span(self, packed: PackedSpan, batch_id: int, resource_id: int) -> int:
        """The number of the new row; 0 for a span that is there already, unless that is a partial one: it makes room."""
        span = packed.span
        inserted = self._connection.execute(
            "INSERT INTO spans (trace_id, span_id, parent_span_id, batch_id, resource_id, service, name, kind,"
            " start_unix_ns, duration_ns, failed, partial) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
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
            if span.partial or not self._remove_partial(span):
                return 0
            return self._insert_span(packed, batch_id, resource_id)
        row_id = inserted.lastrowid
        assert row_id is not None
        self._connection.execute("INSERT INTO details (id, data) VALUES (?, ?)", (row_id, packed.details))
        if packed.request_body is not None or packed.response_body is not None:
            self._connection.execute(
                "INSERT INTO bodies (id, request, response) VALUES (?, ?, ?)",
                (row_id, packed.request_body, packed.response_body),
            )
        if span.exchange is not None:
            self._insert_exchange(row_id, span, packed.tags_digest)
        return row_id

    def _insert_exchange(self, row_id: int, span: StoredSpan, tags_digest: bytes) -> None:
        exchange = span.exchange
        assert exchange is not None
        self._connection.execute(
            "INSERT INTO exchanges (id, start_unix_ns, session_id, service, direction, method, scheme, host, path, status,"
            " request_size, response_size, error, duration_ns, failed, partial, tagset)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                span.duration_ns,
                span.failed,
                span.partial,
                self._tagset(span.tags, tags_digest) if span.tags else 0,
            ),
        )

    def _tagset(self, tags: dict[str, str], digest: bytes) -> int:
        known = self._tagsets.get(digest)
        if known is None:
            known = self._tagsets[digest] = insert_tagset(self._connection, tags, digest)
        return known

    def _remove_partial(self, span: StoredSpan) -> bool:
        """Take away the partial exchange in whose place this span comes; whether there was one."""
        row = self._connection.execute(
            "SELECT id FROM spans WHERE span_id = ? AND trace_id = ? AND partial", (span.span_id, span.trace_id)
        ).fetchone()
        if row is None:
            return False
        self.write()  # it may have been counted just now
        self.documents = [document for document in self.documents if document.span != row[0]]
        remove(self._connection, row[0], row[0])
        return True


def insert_resources(connection: sqlite3.Connection, resources: Sequence[tuple[bytes, bytes]]) -> list[int]:
    """The numbers of resources, each stored once."""
    return [
        connection.execute(
            "INSERT INTO resources (digest, attributes) VALUES (?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET digest = digest RETURNING id",
            resource,
        ).fetchone()[0]
        for resource in resources
    ]


def insert_tagset(connection: sqlite3.Connection, tags: dict[str, str], digest: bytes) -> int:
    """The number of a combination of tags, stored once."""
    known = connection.execute("SELECT id FROM tagsets WHERE digest = ?", (digest,)).fetchone()
    if known:
        return int(known[0])
    tagset = connection.execute("INSERT INTO tagsets (digest, last_span) VALUES (?, 0)", (digest,)).lastrowid
    assert tagset is not None
    connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(*tag, tagset) for tag in tags.items()])
    return tagset


def insert_logs(connection: sqlite3.Connection, batches: Sequence[PackedLogs]) -> None:
    """Keep several batches of log records at the cost of one commit."""
    with transaction(connection):
        for batch in batches:
            resource_ids = insert_resources(connection, batch.resources)
            cursor = connection.cursor()
            for log, data in zip(batch.logs, batch.details, strict=True):
                cursor.execute(
                    "INSERT INTO logs (tenant, received_unix_ns, resource_id, time_unix_ns, trace_id, span_id, severity,"
                    " severity_text, service, body, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        batch.tenant,
                        batch.received_unix_ns,
                        resource_ids[log.resource],
                        log.time_unix_ns,
                        log.trace_id,
                        log.span_id,
                        log.severity,
                        log.severity_text,
                        log.service,
                        log.body,
                        data,
                    ),
                )
            connection.executemany(
                "UPDATE resources SET last_log = max(last_log, ?) WHERE id = ?",
                [(cursor.lastrowid or 0, resource_id) for resource_id in set(resource_ids)],
            )
            add_totals(connection, logs=len(batch.logs))
