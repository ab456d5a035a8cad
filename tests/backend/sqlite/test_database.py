import os
import sqlite3

import pytest
from structlog.testing import capture_logs

from sp_proxy.backend.model import BackendError
from sp_proxy.backend.sqlite.database import MEMORY, is_damage, open_or_replace, open_reader, open_writer, set_aside


def test_a_file_is_made_in_wal_mode_and_readers_cannot_write(tmp_path):
    path = str(tmp_path / "new.sqlite3")
    writer, replaced = open_or_replace(path)
    assert replaced == 0
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) > 1  # and so are SQLite's own files beside it
    reader = open_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM totals")
    reader.close()
    writer.close()


def test_memory():
    writer, replaced = open_or_replace(MEMORY)
    assert replaced == 0
    writer.close()


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"SQLite format 3\x00" + os.urandom(8192), b"x"])
def test_a_damaged_file_is_set_aside(tmp_path, content):
    path = tmp_path / "db.sqlite3"
    for number in (1, 2):
        path.write_bytes(content)
        with capture_logs() as logs:
            writer, replaced = open_or_replace(str(path))
        writer.close()
        assert replaced == 1
        assert (tmp_path / f"db.sqlite3.damaged-{number}").read_bytes() == content
        (event,) = [log for log in logs if log["event"] == "database_set_aside"]
        assert event["log_level"] == "warning"
        assert event["moved_to"] == f"{path}.damaged-{number}"


def test_damage_inside_a_table_is_found_at_the_start(tmp_path):
    path = tmp_path / "db.sqlite3"
    writer = open_writer(str(path))
    writer.execute(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 5000)"
        " INSERT INTO details SELECT x, zeroblob(200) FROM n"
    )
    writer.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    writer, replaced = open_or_replace(str(path))
    assert replaced == 1
    assert writer.execute("SELECT count(*) FROM details").fetchone() == (0,)
    writer.close()


def test_an_empty_file_is_a_new_database(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    writer, replaced = open_or_replace(str(path))
    writer.close()
    assert replaced == 0


def test_companions_go_with_the_file(tmp_path):
    path = tmp_path / "db"
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"db{suffix}").write_text(suffix)
    target = set_aside(str(path), "test")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "db.damaged-1",
        "db.damaged-1-shm",
        "db.damaged-1-wal",
    ]
    assert target.name == "db.damaged-1"


@pytest.mark.parametrize(
    "name, reason",
    [
        ("", "it is a directory"),
        ("no/such/db", "there is no directory"),
        ("file/db", "there is no directory"),
        ("x" * 300, "x: "),
    ],
)
def test_paths_that_cannot_be(tmp_path, name, reason):
    (tmp_path / "file").touch()
    with pytest.raises(BackendError) as caught:
        open_or_replace(str(tmp_path / name))
    message = str(caught.value)
    assert message.startswith("backend.database: cannot open ")
    assert reason in message
    assert "\n" not in message


def test_the_database_of_another_program_is_not_touched(tmp_path):
    path = tmp_path / "theirs"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE t (x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(BackendError, match="it is the database of another program"):
        open_or_replace(str(path))
    assert path.read_bytes() == before


def test_a_newer_schema_is_one_line(tmp_path):
    path = str(tmp_path / "db")
    writer = open_writer(path)
    writer.execute("PRAGMA user_version = 42")
    writer.close()
    with pytest.raises(BackendError, match=r"schema version 42 is newer .* use a newer sp_proxy"):
        open_or_replace(path)


def test_a_locked_file_is_no_damage(tmp_path):
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    assert not is_damage(error)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT | (2 << 8)
    assert is_damage(error)
    assert not is_damage(sqlite3.ProgrammingError("closed"))


class WithoutSearch(sqlite3.Connection):
    """As a connection of a library that was built without FTS5: what ``sqlite3_drop_modules`` leaves, in its words."""

    def execute(self, sql, *values):
        if "fts5" in sql.lower():
            raise sqlite3.OperationalError("no such module: fts5")
        return super().execute(sql, *values)


def test_a_library_without_full_text_search_is_told_at_once(tmp_path, monkeypatch):
    path = tmp_path / "db.sqlite3"
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *where, **how: connect(*where, factory=WithoutSearch, **how))
    with pytest.raises(BackendError) as caught:
        open_or_replace(str(path))
    message = str(caught.value)
    assert message.startswith(f"backend.database: the SQLite library of this Python ({sqlite3.sqlite_version}) has no")
    assert "\n" not in message
    assert not path.exists() or path.stat().st_size == 0


def test_nothing_is_left_of_looking_for_it(tmp_path):
    writer, _ = open_or_replace(str(tmp_path / "db.sqlite3"))
    assert writer.execute("SELECT count(*) FROM sqlite_temp_master").fetchone() == (0,)
    writer.close()
