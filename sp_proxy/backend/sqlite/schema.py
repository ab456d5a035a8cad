"""The tables, and how an older file becomes a current one.

Rows of ``spans`` are numbered in order of arrival and mostly removed in that order, so what expires is the front of
every table. ``exchanges`` is the index that lists and filters read: narrow rows, no bodies. ``details`` and ``bodies``
are read one span at a time, by number. What lists and the map show (``sessions``, ``traces``, ``calls``) and all counts
are kept by the writer: nothing is counted by scanning. The text index is in pieces (``segments``, one FTS5 table
``search_N`` each), since of FTS5 a whole table is dropped at a fraction of what removing its rows costs.

A migration, once released, is never edited: a change is a new entry at the end.
"""

import sqlite3
from collections.abc import Callable

from sp_proxy.backend.sqlite.backfill import backfill

APPLICATION_ID = 0x73705F70
"""``sp_p``, in the header of the file: tells our file from another program's."""

_FIRST = """
CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    received_unix_ns INTEGER NOT NULL,
    last_span INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE resources (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    attributes BLOB NOT NULL,
    last_span INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE spans (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    parent_span_id BLOB NOT NULL,
    batch_id INTEGER NOT NULL,
    resource_id INTEGER NOT NULL,
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    start_unix_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    failed INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX spans_identity ON spans (span_id, trace_id);
CREATE INDEX spans_trace ON spans (trace_id, start_unix_ns);

CREATE TABLE details (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;

CREATE TABLE bodies (id INTEGER PRIMARY KEY, request BLOB, response BLOB) STRICT;

CREATE TABLE exchanges (
    id INTEGER PRIMARY KEY,
    start_unix_ns INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    service TEXT NOT NULL,
    direction TEXT NOT NULL,
    method TEXT NOT NULL,
    scheme TEXT NOT NULL,
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    request_size INTEGER NOT NULL,
    response_size INTEGER NOT NULL,
    error TEXT NOT NULL
) STRICT;
CREATE INDEX exchanges_time ON exchanges (start_unix_ns);
CREATE INDEX exchanges_session ON exchanges (session_id, start_unix_ns);
CREATE INDEX exchanges_service ON exchanges (service, start_unix_ns);
CREATE INDEX exchanges_host ON exchanges (host, start_unix_ns);

CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    first_seen_unix_ns INTEGER NOT NULL,
    last_seen_unix_ns INTEGER NOT NULL,
    exchanges INTEGER NOT NULL,
    errors INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_last_seen ON sessions (last_seen_unix_ns);

CREATE TABLE session_services (
    session_id TEXT NOT NULL,
    service TEXT NOT NULL,
    exchanges INTEGER NOT NULL,
    PRIMARY KEY (session_id, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO totals VALUES
    ('spans', 0), ('exchanges', 0), ('sessions', 0), ('appended', 0), ('duplicates', 0), ('expired', 0);
"""

_PARTIAL = """
ALTER TABLE spans ADD COLUMN partial INTEGER NOT NULL DEFAULT 0;
"""

_LISTS = """
ALTER TABLE batches ADD COLUMN first_span INTEGER NOT NULL DEFAULT 0;
UPDATE batches SET first_span = 1 + coalesce((SELECT max(last_span) FROM batches b WHERE b.id < batches.id), 0);
CREATE INDEX batches_tenant ON batches (tenant);

ALTER TABLE resources ADD COLUMN last_log INTEGER NOT NULL DEFAULT 0;

ALTER TABLE exchanges ADD COLUMN duration_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exchanges ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exchanges ADD COLUMN partial INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exchanges ADD COLUMN peer TEXT NOT NULL DEFAULT '';
ALTER TABLE exchanges ADD COLUMN tagset INTEGER NOT NULL DEFAULT 0;
UPDATE exchanges SET (duration_ns, failed, partial) =
    (SELECT duration_ns, failed, partial FROM spans WHERE spans.id = exchanges.id);
CREATE INDEX exchanges_errors ON exchanges (start_unix_ns) WHERE status >= 400;

-- A combination of custom tags, and what is in it.
CREATE TABLE tagsets (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, last_span INTEGER NOT NULL) STRICT;
CREATE TABLE tags (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    tagset INTEGER NOT NULL,
    PRIMARY KEY (name, value, tagset)
) STRICT, WITHOUT ROWID;

-- Each text index covers the spans from its first to its last; the newest one is open, its last span is not known yet.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    first_span INTEGER NOT NULL,
    last_span INTEGER NOT NULL,
    documents INTEGER NOT NULL DEFAULT 0,
    characters INTEGER NOT NULL DEFAULT 0,
    min_start_unix_ns INTEGER NOT NULL DEFAULT 9223372036854775807,
    max_start_unix_ns INTEGER NOT NULL DEFAULT -1
) STRICT;

CREATE TABLE traces (
    trace_id BLOB PRIMARY KEY,
    start_unix_ns INTEGER NOT NULL,
    end_unix_ns INTEGER NOT NULL,
    name TEXT NOT NULL,
    service TEXT NOT NULL,
    spans INTEGER NOT NULL,
    exchanges INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    services TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX traces_start ON traces (start_unix_ns);

-- Inbound exchanges whose other half, the outbound exchange that is their parent, has not come.
CREATE TABLE waiting (id INTEGER PRIMARY KEY, parent_span_id BLOB NOT NULL, trace_id BLOB NOT NULL) STRICT;
CREATE INDEX waiting_parent ON waiting (parent_span_id, trace_id);

CREATE TABLE edges (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    host TEXT NOT NULL,
    target TEXT NOT NULL,
    UNIQUE (source, host, target)
) STRICT;
-- What went over an edge in a time of so many seconds, by how long it took: a histogram.
CREATE TABLE calls (
    seconds INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    edge INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    PRIMARY KEY (seconds, slot, edge, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    received_unix_ns INTEGER NOT NULL,
    resource_id INTEGER NOT NULL,
    time_unix_ns INTEGER NOT NULL,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    severity INTEGER NOT NULL,
    severity_text TEXT NOT NULL,
    service TEXT NOT NULL,
    body TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX logs_time ON logs (time_unix_ns);
CREATE INDEX logs_trace ON logs (trace_id, time_unix_ns) WHERE trace_id <> x'';
CREATE INDEX logs_tenant ON logs (tenant);

INSERT INTO totals VALUES ('logs', 0), ('traces', 0);
"""

Step = str | Callable[[sqlite3.Connection], None]

MIGRATIONS: tuple[tuple[Step, ...], ...] = ((_FIRST,), (_PARTIAL,), (_LISTS, backfill))
"""The entry at index N takes a file from version N to N + 1 (``PRAGMA user_version``): statements and functions."""


class ForeignError(Exception):
    """The file is a database, but not one to write in: the message says whose."""


def migrate(connection: sqlite3.Connection, migrations: tuple[tuple[Step, ...], ...] = MIGRATIONS) -> None:
    """Bring a new or older file to the current version, one transaction each. Raises ForeignError."""
    # In one statement, so of one moment: another process may be opening the same new file.
    version, application, tables = connection.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise ForeignError("it is the database of another program")
    if version > len(migrations):
        raise ForeignError(
            f"its schema version {version} is newer than this sp_proxy knows ({len(migrations)}): use a newer sp_proxy"
        )
    if not tables:
        # Before the first table: it decides the layout. Space is then given back in steps, never in one long VACUUM.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for number in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have done it while this one waited for the lock.
            if connection.execute("PRAGMA user_version").fetchone()[0] > number:
                connection.execute("ROLLBACK")
                continue
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for step in migrations[number]:
                _take(connection, step)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _take(connection: sqlite3.Connection, step: Step) -> None:
    if not isinstance(step, str):
        step(connection)
        return
    # Not executescript, which would commit first.
    statement = ""
    for line in step.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if statement.strip():
        connection.execute(statement)
