"""The store on SQLite: who may use which connection when.

Writing is one at a time, with a group commit: while one transaction runs, what arrives waits, and the next one takes
all of it. Reading has connections of its own (WAL readers never wait for the writer), except in memory, where there is
but one connection and everything takes its turn. All of it happens in threads.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from sp_proxy.backend.log_model import LogBatch, LogFilter, LogPage
from sp_proxy.backend.model import (
    Appended,
    BackendError,
    Batch,
    ExchangePage,
    ServiceMap,
    SessionDetail,
    SessionPage,
    SpanRecord,
    StoreError,
    StoreStats,
    TracePage,
    TraceSpan,
)
from sp_proxy.backend.query.syntax import EVERYTHING, Query
from sp_proxy.backend.sqlite import database, matching, read, remove, scan, search, traffic, write
from sp_proxy.backend.sqlite.packing import PackedBatch, pack_batch, pack_logs
from sp_proxy.backend.store import Keep

READERS = 4
QUERY_TIMEOUT = 10.0
"""Seconds after which a query is given up, so that a wide search cannot hold a reader for good."""
GROUP_SPANS = 8192
"""Spans after which a group commit takes no further batch."""
_PROGRESS_STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock: some tens of microseconds."""


class _Pending:
    """A batch that waits for its commit, then its outcome."""

    def __init__(self, packed: PackedBatch) -> None:
        self.packed = packed
        self.outcome: Appended | StoreError | None = None


class SqliteStore:
    """``Store`` on one SQLite file. Use ``open_store``."""

    def __init__(self, path: str, writer: sqlite3.Connection, set_aside: int, max_bytes: int) -> None:
        self._path = path
        self._max_characters = max(1, max_bytes // search.SHARE)
        self._writer = writer
        self._set_aside = set_aside
        self._file = 1
        """The number of the present file: that of a connection tells whether it is of this one."""
        self._closed = False
        """A damaged file was left, and no fresh one could be opened."""
        self._write_lock = trio.Lock()
        self._pending: list[_Pending] = []
        self._readers = trio.CapacityLimiter(READERS)
        self._idle: list[sqlite3.Connection] = []
        """Reading connections of the present file; touched by tasks only, never by threads."""
        self._packers = trio.CapacityLimiter(2)

    async def append(self, batch: Batch) -> Appended:
        """``Store.append``. Whoever gets the lock first commits for all who wait."""
        pending = _Pending(await trio.to_thread.run_sync(pack_batch, batch, limiter=self._packers))
        self._pending.append(pending)
        try:
            async with self._write_lock:
                # First come, first stored, so it may take more than one group until this batch's turn.
                while pending.outcome is None:
                    await self._commit_group()
        except BaseException:
            if pending in self._pending:
                self._pending.remove(pending)
            raise
        if isinstance(pending.outcome, StoreError):
            raise pending.outcome
        return pending.outcome

    async def _commit_group(self) -> None:
        group, spans = [], 0
        while self._pending and spans < GROUP_SPANS:
            group.append(self._pending.pop(0))
            spans += len(group[-1].packed.spans)
        try:
            results = await self._write(
                partial(
                    write.insert_batches,
                    batches=[one.packed for one in group],
                    max_characters=self._max_characters,
                )
            )
        except StoreError as error:
            for one in group:
                one.outcome = error
        else:
            for one, result in zip(group, results, strict=True):
                one.outcome = result

    async def _write[R](self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Run on the writing connection; the caller holds the lock. A damaged file is replaced, and the work fails."""
        if self._closed:
            await self._open_fresh()
        try:
            return await trio.to_thread.run_sync(work, self._writer)
        except sqlite3.Error as error:
            await self._replace_damaged(error, self._file)
            raise StoreError(f"the database cannot be written: {error}") from error

    async def _replace_damaged(self, error: sqlite3.Error, file: int) -> None:
        """If that is what the error says, set the file aside and start a fresh one. The caller holds the lock, and
        names the file that it saw damaged: another task may have replaced it already.
        """
        if file != self._file or self._path == database.MEMORY or not database.is_damage(error):
            return

        # Its readers go with it: one of them, kept, would find the same damage later, and the fresh file would be blamed.
        writer, readers, self._idle = self._writer, self._idle, []
        self._file += 1

        def leave() -> None:
            for connection in (*readers, writer):
                connection.close()
            database.set_aside(self._path, str(error))

        self._closed = True
        try:
            await trio.to_thread.run_sync(leave)
        except OSError as failure:
            raise StoreError(f"the database is damaged and cannot be set aside: {failure}") from failure
        self._set_aside += 1
        await self._open_fresh()

    async def _open_fresh(self) -> None:
        """Begin a fresh file. What hinders it (a full disk) may pass: the next write tries again."""
        try:
            self._writer, replaced = await trio.to_thread.run_sync(database.open_or_replace, self._path)
        except BackendError as failure:
            raise StoreError(f"a damaged database cannot be replaced: {failure}") from failure
        self._set_aside += replaced
        self._closed = False

    async def _read[R](self, query: Callable[[sqlite3.Connection], R]) -> R:
        """Run a query on a reading connection, within the time limit."""
        file = self._file
        try:
            if self._path == database.MEMORY:
                async with self._write_lock:
                    return await trio.to_thread.run_sync(_timed, self._writer, query)
            async with self._readers:
                return await self._read_file(query)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise StoreError(f"the query took longer than {QUERY_TIMEOUT:.0f} seconds: narrow it") from error
            async with self._write_lock:
                await self._replace_damaged(error, file)
            raise StoreError(f"the database cannot be read: {error}") from error

    async def _read_file[R](self, query: Callable[[sqlite3.Connection], R]) -> R:
        file = self._file
        known = self._idle.pop() if self._idle else None

        def run() -> tuple[R, sqlite3.Connection]:
            connection = known or database.open_reader(self._path)
            try:
                return _timed(connection, query), connection
            except BaseException:
                connection.close()
                raise

        result, connection = await trio.to_thread.run_sync(run)
        if file == self._file:
            self._idle.append(connection)
        else:  # the file was replaced meanwhile
            connection.close()
        return result

    async def append_logs(self, batch: LogBatch) -> None:
        """``Store.append_logs``."""
        packed = await trio.to_thread.run_sync(pack_logs, batch, limiter=self._packers)
        async with self._write_lock:
            await self._write(partial(write.insert_logs, batches=[packed]))

    async def exchanges(self, query: Query, *, before: str, limit: int) -> ExchangePage:
        """``Store.exchanges``."""
        return await self._read(lambda connection: scan.exchanges(connection, query, before, limit))

    async def span(self, span_id: bytes, trace_id: bytes | None) -> SpanRecord | None:
        """``Store.span``."""
        return await self._read(lambda connection: read.span(connection, span_id, trace_id))

    async def records(self, ids: Sequence[tuple[str, str]]) -> list[SpanRecord]:
        """``Store.records``."""

        def each(connection: sqlite3.Connection) -> list[SpanRecord]:
            found = (read.span(connection, bytes.fromhex(span), bytes.fromhex(trace)) for trace, span in ids)
            return [record for record in found if record is not None]

        return await self._read(each)

    async def trace(self, trace_id: bytes, *, limit: int) -> list[TraceSpan]:
        """``Store.trace``."""
        return await self._read(lambda connection: read.trace(connection, trace_id, limit))

    async def traces(self, query: Query, *, before: str, limit: int) -> TracePage:
        """``Store.traces``."""
        if query == EVERYTHING:
            return await self._read(lambda connection: read.traces(connection, before, limit))
        return await self._read(lambda connection: matching.traces(connection, query, before, limit))

    async def logs(self, wanted: LogFilter, *, before: str, limit: int) -> LogPage:
        """``Store.logs``."""
        return await self._read(lambda connection: read.logs(connection, wanted, before, limit))

    async def service_map(self, *, since_unix_ns: int, until_unix_ns: int, limit: int) -> ServiceMap:
        """``Store.service_map``."""
        return await self._read(lambda connection: traffic.service_map(connection, since_unix_ns, until_unix_ns, limit))

    async def sessions(self, query: Query, *, before: str, limit: int) -> SessionPage:
        """``Store.sessions``."""
        if query == EVERYTHING:
            return await self._read(lambda connection: read.sessions(connection, before, limit))
        return await self._read(lambda connection: matching.sessions(connection, query, before, limit))

    async def session(self, session_id: str, *, after: str = "", limit: int) -> SessionDetail | None:
        """``Store.session``."""
        return await self._read(lambda connection: read.session(connection, session_id, after, limit))

    async def stats(self) -> StoreStats:
        """``Store.stats``."""
        return await self._read(lambda connection: read.stats(connection, self._set_aside))

    async def expire(self, keep: Keep) -> int:
        """``Store.expire``: in chunks, between which batches are stored."""

        def cutoff(tenant: str) -> int:
            return keep.tenants.get(tenant, keep.received_since_unix_ns)

        removed = 0
        more = True
        while more:
            count, more = await self._remove(partial(remove.remove_old, cutoff=cutoff))
            removed += count
        if await self._excess(keep.max_bytes):
            # Somewhat below the limit, or the next batch would bring it up again.
            target = keep.max_bytes * 19 // 20
            while (excess := await self._excess(target)) and (
                count := await self._remove(partial(remove.remove_oldest, chunk=min(excess, remove.CHUNK)))
            ):
                removed += count
        if removed:
            async with self._write_lock:
                await self._write(remove.give_back)
        return removed

    async def _remove[R](self, work: Callable[[sqlite3.Connection], R]) -> R:
        def in_transaction(writer: sqlite3.Connection) -> R:
            with write.transaction(writer):
                return work(writer)

        async with self._write_lock:
            return await self._write(in_transaction)

    async def _excess(self, max_bytes: int) -> int:
        async with self._write_lock:
            return await self._write(partial(remove.excess, max_bytes=max_bytes))

    def close(self) -> None:
        """Close every connection; the last one folds the WAL back into the file."""
        while self._idle:
            self._idle.pop().close()
        self._writer.close()


def _timed[R](connection: sqlite3.Connection, query: Callable[[sqlite3.Connection], R]) -> R:
    deadline = time.monotonic() + QUERY_TIMEOUT
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
    connection.execute("BEGIN")  # what several statements see is of one moment
    try:
        return query(connection)
    finally:
        connection.set_progress_handler(None, 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@asynccontextmanager
async def open_store(path: str, *, max_bytes: int = 1 << 30) -> AsyncIterator[SqliteStore]:
    """The store on a file, or ``:memory:``. A damaged file is set aside. Raises BackendError.

    ``max_bytes`` is what ``expire`` will be asked to stay below.
    """
    writer, set_aside = await trio.to_thread.run_sync(database.open_or_replace, path)
    store = SqliteStore(path, writer, set_aside, max_bytes)
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close)
