import sqlite3

import pytest

from sp_proxy.backend.sqlite.schema import APPLICATION_ID, MIGRATIONS, ForeignError, migrate


def version(connection):
    return connection.execute("PRAGMA user_version").fetchone()[0]


@pytest.fixture
def connection():
    opened = sqlite3.connect(":memory:", isolation_level=None)
    yield opened
    opened.close()


def test_a_new_file_becomes_current_and_stays_so(connection):
    migrate(connection)
    connection.execute("UPDATE totals SET value = 7 WHERE name = 'spans'")
    migrate(connection)
    assert version(connection) == len(MIGRATIONS)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("SELECT value FROM totals WHERE name = 'spans'").fetchone() == (7,)


def more(connection):
    connection.execute("INSERT INTO extra VALUES (2)")


def test_an_older_file_gets_the_missing_steps(connection):
    migrate(connection)
    later = (*MIGRATIONS, ("CREATE TABLE extra (x); -- more;\n",), ("INSERT INTO extra VALUES (1);", more))
    migrate(connection, later)
    assert version(connection) == len(later)
    assert connection.execute("SELECT * FROM extra").fetchall() == [(1,), (2,)]


def test_spans_of_a_first_version_are_whole(connection):
    migrate(connection, MIGRATIONS[:1])
    connection.execute("INSERT INTO spans VALUES (1, x'00', x'00', x'', 1, 1, '', '', 0, 0, 0, 0)")
    migrate(connection)
    assert connection.execute("SELECT partial FROM spans").fetchall() == [(0,)]


def test_a_failed_step_leaves_the_version_before_it(connection):
    migrate(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*MIGRATIONS, ("CREATE TABLE extra (x);\nCREATE TABLE extra (x);\n",)))
    assert not connection.in_transaction
    assert version(connection) == len(MIGRATIONS)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)


class Late(sqlite3.Connection):
    """A connection that waits for the lock until another one has done the work."""

    other: sqlite3.Connection | None = None

    def execute(self, sql, *values):
        if sql == "BEGIN IMMEDIATE" and self.other is not None:
            other, self.other = self.other, None
            migrate(other)
        return super().execute(sql, *values)


def test_two_processes_may_open_a_new_file_at_once(tmp_path):
    path = tmp_path / "db"
    late = sqlite3.connect(path, isolation_level=None, factory=Late)
    late.other = other = sqlite3.connect(path, isolation_level=None)
    migrate(late)
    assert version(late) == version(other) == len(MIGRATIONS)
    late.close()
    other.close()


def test_a_newer_file_is_refused(connection):
    migrate(connection)
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ForeignError, match=r"schema version 99 is newer than this sp_proxy knows"):
        migrate(connection)


def test_the_file_of_another_program_is_refused(connection):
    connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ForeignError, match="another program"):
        migrate(connection)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM exchanges ORDER BY start_unix_ns DESC, id DESC LIMIT 100",
        "SELECT * FROM exchanges WHERE (start_unix_ns, id) < (5, 5) ORDER BY start_unix_ns DESC, id DESC LIMIT 100",
        "SELECT * FROM exchanges WHERE service = 'x' ORDER BY start_unix_ns DESC, id DESC LIMIT 100",
        "SELECT * FROM exchanges WHERE host = 'x' ORDER BY start_unix_ns DESC, id DESC LIMIT 100",
        "SELECT * FROM exchanges WHERE session_id = 'x' ORDER BY start_unix_ns, id LIMIT 100",
        "SELECT * FROM spans WHERE trace_id = x'00' ORDER BY start_unix_ns, id LIMIT 100",
        "SELECT * FROM spans WHERE span_id = x'00' AND trace_id = x'00'",
        "SELECT * FROM exchanges WHERE status >= 400 AND (start_unix_ns, id) < (5, 5) ORDER BY start_unix_ns DESC, id DESC",
        "SELECT * FROM traces WHERE (start_unix_ns, trace_id) < (1, x'00') ORDER BY start_unix_ns DESC, trace_id DESC",
        "SELECT * FROM logs ORDER BY time_unix_ns DESC, id DESC LIMIT 100",
        "SELECT * FROM logs WHERE trace_id = x'01' AND trace_id <> x'' ORDER BY time_unix_ns DESC, id DESC LIMIT 100",
        "SELECT * FROM waiting WHERE parent_span_id = x'00' AND trace_id = x'00'",
        "SELECT * FROM batches WHERE tenant = '' ORDER BY id LIMIT 100",
        "SELECT min(tenant) FROM batches WHERE tenant > 'a'",
        "SELECT * FROM sessions ORDER BY last_seen_unix_ns DESC, session_id DESC LIMIT 100",
    ],
)
def test_the_queries_of_lists_sort_and_scan_nothing(connection, query):
    migrate(connection)
    plan = " | ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert "USING" in plan
    assert "TEMP B-TREE" not in plan
