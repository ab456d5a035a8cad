"""Opening the file: connections as this store needs them, and a damaged file moved out of the way."""

import contextlib
import os
import sqlite3
from pathlib import Path

import structlog

from sp_proxy.backend.model import BackendError
from sp_proxy.backend.sqlite.condition import register
from sp_proxy.backend.sqlite.schema import ForeignError, migrate

MEMORY = ":memory:"
BUSY_TIMEOUT = 5.0
"""Seconds that a statement waits for another process's lock."""
CHECKED_SIZE = 64 << 20
"""A file up to this size is checked whole when it is opened (about 0.1 s); damage in a larger one is met on the way."""
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
WRITER_CACHE = 32 << 20
"""Bytes of pages that the writer keeps: of a large file it would read them again and again."""
_MAGIC = b"SQLite format 3\x00"
_COMPANIONS = ("-wal", "-shm")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file itself is broken (not the disk full, not the file locked)."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def open_writer(path: str) -> sqlite3.Connection:
    """The connection that writes, its file at the current schema. Raises sqlite3.Error, ForeignError, BackendError."""
    if path != MEMORY and not _is_database_or_new(Path(path)):
        raise _damage("the file is not an SQLite database")
    _make(path)
    connection = _connect(path)
    try:
        require_search(connection)
        # Debian's SQLite overwrites what is deleted; with FAST it does where that costs no further write.
        connection.execute("PRAGMA secure_delete = FAST").fetchone()
        connection.execute(f"PRAGMA cache_size = {-(WRITER_CACHE >> 10)}")
        migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        # WAL with NORMAL: a power cut may lose the last moments, never the file (SQLite, "PRAGMA synchronous").
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        if path != MEMORY and Path(path).stat().st_size <= CHECKED_SIZE:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise _damage(verdict)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: str) -> None:
    """A new file is its owner's alone, for captured traffic is in it; SQLite's own files beside it become like it."""
    if path != MEMORY:
        with contextlib.suppress(OSError):  # it is there; or SQLite says better than we why it cannot be
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def require_search(connection: sqlite3.Connection) -> None:
    """Raises BackendError when the SQLite library was built without FTS5: better now than at the first exchange."""
    try:
        connection.execute("CREATE VIRTUAL TABLE temp.search_probe USING fts5 (text)")
    except sqlite3.OperationalError as error:
        if "no such module" not in str(error):
            raise
        raise BackendError(
            f"backend.database: the SQLite library of this Python ({sqlite3.sqlite_version}) has no full-text search"
            " (FTS5): run with a Python whose library has it, or use backend.engine: clickhouse"
        ) from error
    connection.execute("DROP TABLE temp.search_probe")


def open_reader(path: str) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_or_replace(path: str) -> tuple[sqlite3.Connection, int]:
    """The writing connection, and how many damaged files (0 or 1) were set aside for it. Raises BackendError."""
    try:
        try:
            return open_writer(path), 0
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            set_aside(path, str(error))
            return open_writer(path), 1
    except ForeignError as error:
        raise BackendError(f"backend.database: cannot use {path}: {error}") from error
    except (sqlite3.Error, OSError) as error:
        raise BackendError(f"backend.database: cannot open {path}: {_reason(path, error)}") from error


def set_aside(path: str, reason: str) -> Path:
    """Rename a damaged file to ``NAME.damaged-N``, its companions with it, so that it can be looked at later."""
    number = 1
    while (target := Path(f"{path}.damaged-{number}")).exists():
        number += 1
    Path(path).rename(target)
    for companion in _COMPANIONS:
        beside = Path(path + companion)
        if beside.exists():
            beside.rename(f"{target}{companion}")
    log.warning("database_set_aside", database=path, moved_to=str(target), reason=reason)
    return target


def _connect(path: str) -> sqlite3.Connection:
    # Used by one thread at a time, but not always the same one: trio hands out its threads in turn.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    register(connection)
    return connection


def _is_database_or_new(path: Path) -> bool:
    # SQLite takes a file of less than a page as empty, and would overwrite whatever it was.
    if not path.exists() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _damage(verdict: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(" ".join(verdict.split()))
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _reason(path: str, error: Exception) -> str:
    target = Path(path)
    try:
        if target.is_dir():
            return "it is a directory"
        if not target.parent.is_dir():
            return f"there is no directory {target.parent}"
    except OSError as refused:  # it may not even be looked at
        error = refused
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
