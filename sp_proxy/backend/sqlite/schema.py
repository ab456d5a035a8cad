"""The tables, and how an older file becomes a current one.

Rows of ``spans`` are numbered in order of arrival and removed in that order, so what expires is always the front of
every table. ``exchanges`` is the index that lists and filters read: narrow rows, no bodies. ``details`` and ``bodies``
are read one span at a time, by number. Counts (``totals``, ``sessions``) are kept by the writer: nothing is counted by
scanning. A migration, once released, is never edited: a change is a new entry at the end.
"""

import sqlite3

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

MIGRATIONS = (_FIRST, _PARTIAL)
"""The entry at index N takes a file from version N to N + 1 (``PRAGMA user_version``)."""


class ForeignError(Exception):
    """The file is a database, but not one to write in: the message says whose."""


def migrate(connection: sqlite3.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Bring a new or older file to the current version, one transaction a step. Raises ForeignError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise ForeignError("it is the database of another program")
    if version > len(migrations):
        raise ForeignError(
            f"its schema version {version} is newer than this sp_proxy knows ({len(migrations)}): use a newer sp_proxy"
        )
    if not tables:
        # Before the first table: it decides the layout. Space is then given back in steps, never in one long VACUUM.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for step in range(version, len(migrations)):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {migrations[step]}"
            f" PRAGMA user_version = {step + 1}; COMMIT;"
        )
