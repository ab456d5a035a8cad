"""The store on ClickHouse. Stateless: several processes may work on the same tables.

Inserting is one group at a time for each process, as on SQLite: what arrives meanwhile is the next group, since
ClickHouse wants few large inserts. What is stored already is asked for once a group. Two processes that get the two
halves of an exchange at the same moment do not see each other's: ``expire``, which runs every few seconds, joins them.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio
from clickhouse_connect.driver.exceptions import ClickHouseError

from sp_proxy.backend.clickhouse import queries, rows
from sp_proxy.backend.clickhouse.arrival import Arrival, Known, asked_for
from sp_proxy.backend.clickhouse.condition import Parameters
from sp_proxy.backend.clickhouse.schema import LOGS, MIGRATIONS, SPANS, Place, version_statements
from sp_proxy.backend.clickhouse.upkeep import Upkeep
from sp_proxy.backend.log_model import LogBatch, LogFilter, LogPage
from sp_proxy.backend.model import (
    Appended,
    Arrived,
    BackendError,
    Batch,
    ExchangePage,
    ServiceMap,
    SessionDetail,
    SessionPage,
    SpanRecord,
    StoredSpan,
    StoreError,
    StoreStats,
    TracePage,
    TraceSpan,
    summary_of,
)
from sp_proxy.backend.query.syntax import EVERYTHING, Query
from sp_proxy.backend.store import Keep

GROUP_SPANS = 20_000
"""Spans after which a group takes no further batch."""
SETTINGS = {"final": 1, "max_execution_time": 10, "distributed_foreground_insert": 1, "use_skip_indexes_if_final": 1}
"""Of every query: the newest version of each row, and no query for longer than a person waits."""
_NS = 1_000_000_000


class Client(Protocol):
    """What is used of clickhouse-connect's client."""

    def query(self, query: str, parameters: Any = None, settings: Any = None) -> Any:
        """Rows."""

    def command(self, cmd: str, parameters: Any = None, settings: Any = None) -> Any:
        """No rows."""

    def insert(self, table: str, data: Any, column_names: Any, settings: Any = None) -> Any:
        """Rows, the other way."""


class _Pending:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.outcome: Appended | StoreError | None = None


class ClickhouseStore:
    """``Store`` on the tables of one place. Use ``open_store``."""

    def __init__(self, client: Client, place: Place, retention: Callable[[str], float], slack: float) -> None:
        self._client = client
        self._place = place
        self._retention = retention
        self._upkeep = Upkeep(self._rows, self._command, place, slack)
        self._threads = trio.CapacityLimiter(8)
        self._lock = trio.Lock()
        self._pending: list[_Pending] = []
        self._latest_ns = 0
        """The time of the last arrival; a clock that was set back does not set it back."""

    async def append(self, batch: Batch) -> Appended:
        """``Store.append``. Whoever gets the lock first inserts for all who wait."""
        pending = _Pending(batch)
        self._pending.append(pending)
        try:
            async with self._lock:
                while pending.outcome is None:
                    await self._insert_group()
        except BaseException:
            if pending in self._pending:
                self._pending.remove(pending)
            raise
        if isinstance(pending.outcome, StoreError):
            raise pending.outcome
        return pending.outcome

    async def _insert_group(self) -> None:
        group, spans = [], 0
        while self._pending and spans < GROUP_SPANS:
            group.append(self._pending.pop(0))
            spans += len(group[-1].batch.spans)
        try:
            results = await self._insert([one.batch for one in group])
        except StoreError as error:
            for one in group:
                one.outcome = error
        else:
            for one, result in zip(group, results, strict=True):
                one.outcome = result

    async def _insert(self, batches: Sequence[Batch]) -> list[Appended]:
        spans = [span for batch in batches for span in batch.spans]
        if not spans:
            return [Appended(stored=0, duplicates=0, exchanges=[]) for _ in batches]
        arrival = Arrival(await self._known(spans))
        taken = [arrival.take(batch.spans) for batch in batches]
        new = set(map(id, arrival.new.values()))
        data: list[dict[str, Any]] = []
        for batch, kept in zip(batches, taken, strict=True):
            arrived = self._arrived(batch.received_unix_ns)
            expires = self._expires(batch.tenant, arrived)
            data += [
                rows.span_row(batch, span, arrival.peer_of(span), arrived, expires) for span in kept if id(span) in new
            ]
        table = self._place.table("spans")
        if arrival.gone:
            await self._command(*queries.mark_gone(table, arrival.gone))
        await self._insert_rows(table, SPANS, data)
        if arrival.joined:
            await self._command(*queries.name_peers(table, arrival.joined))
        stored, received = sum(map(len, taken)), len(spans)
        await self._upkeep.count(appended=stored, duplicates=received - stored)
        return [
            Appended(
                stored=len(kept),
                duplicates=len(batch.spans) - len(kept),
                exchanges=[
                    Arrived(summary_of(span, arrival.peer_of(span)), span.tags, span.text)
                    for span in kept
                    if span.exchange is not None
                ],
            )
            for batch, kept in zip(batches, taken, strict=True)
        ]

    async def _known(self, spans: Sequence[StoredSpan]) -> dict[tuple[str, str], Known]:
        traces, ids = asked_for(spans)
        found = await self._rows(*queries.known(self._place.table("spans"), traces, ids))
        return {
            (row["trace_id"], row["span_id"]): Known(
                parent=row["parent_span_id"],
                partial=bool(row["partial"]),
                direction=row["direction"],
                service=row["service"],
                peer=row["peer"],
                stored=True,
            )
            for row in found
        }

    async def append_logs(self, batch: LogBatch) -> None:
        """``Store.append_logs``."""
        if not batch.logs:
            return
        arrived = self._arrived(batch.received_unix_ns)
        ids = [secrets.randbits(63) for _ in batch.logs]
        data = rows.log_rows(batch, ids, arrived, self._expires(batch.tenant, arrived))
        await self._insert_rows(self._place.table("logs"), LOGS, data)

    def _arrived(self, received_unix_ns: int) -> int:
        self._latest_ns = max(self._latest_ns, received_unix_ns)
        return self._latest_ns

    def _expires(self, tenant: str, arrived_unix_ns: int) -> int:
        return min(int(arrived_unix_ns / _NS + self._retention(tenant)), 2**32 - 1)

    async def exchanges(self, query: Query, *, before: str, limit: int) -> ExchangePage:
        """``Store.exchanges``."""
        found = await self._rows(*queries.exchanges(self._place.table("spans"), query, before, limit + 1))
        page = [rows.summary(row) for row in found[:limit]]
        more = queries.exchange_cursor(page[-1]) if len(found) > limit else ""
        return ExchangePage(exchanges=page, next=more)

    async def span(self, span_id: bytes, trace_id: bytes | None) -> SpanRecord | None:
        """``Store.span``."""
        found = await self._rows(*queries.span(self._place.table("spans"), span_id, trace_id))
        return rows.record(found[0]) if found else None

    async def records(self, ids: Sequence[tuple[str, str]]) -> list[SpanRecord]:
        """``Store.records``."""
        if not ids:
            return []
        found = await self._rows(*queries.records(self._place.table("spans"), ids))
        by_id = {(row["trace_id"], row["span_id"]): rows.record(row) for row in found}
        return [by_id[identity] for identity in ids if identity in by_id]

    async def trace(self, trace_id: bytes, *, limit: int) -> list[TraceSpan]:
        """``Store.trace``."""
        return [
            rows.trace_span(row)
            for row in await self._rows(*queries.trace(self._place.table("spans"), trace_id, limit))
        ]

    async def traces(self, query: Query, *, before: str, limit: int) -> TracePage:
        """``Store.traces``."""
        if query != EVERYTHING:
            names, more = await self._matching("trace_id", query, before, limit)
            known = await self._rows(*queries.some_traces(self._place.table("spans"), names)) if names else []
            by_name = {row["trace_id"]: rows.trace(row) for row in known}
            return TracePage(traces=[by_name[name] for name in names if name in by_name], next=more)
        found = await self._rows(*queries.traces(self._place.table("spans"), before, limit + 1))
        page = [rows.trace(row) for row in found[:limit]]
        more = f"{page[-1].start_unix_ns}.{page[-1].trace_id}" if len(found) > limit else ""
        return TracePage(traces=page, next=more)

    async def _matching(self, column: str, query: Query, before: str, limit: int) -> tuple[list[str], str]:
        found = await self._rows(*queries.matching(self._place.table("spans"), column, query, before, limit + 1))
        more = queries.place_cursor(found[limit - 1]["place"]) if len(found) > limit else ""
        return [row["found"] for row in found[:limit]], more

    async def sessions(self, query: Query, *, before: str, limit: int) -> SessionPage:
        """``Store.sessions``."""
        if query != EVERYTHING:
            names, more = await self._matching("session_id", query, before, limit)
            known = await self._rows(*queries.some_sessions(self._place.table("spans"), names)) if names else []
            by_name = {row["session_id"]: rows.session(row) for row in known}
            return SessionPage(sessions=[by_name[name] for name in names if name in by_name], next=more)
        found = await self._rows(*queries.sessions(self._place.table("spans"), before, limit + 1))
        page = [rows.session(row) for row in found[:limit]]
        more = f"{page[-1].last_seen_unix_ns}.{page[-1].session_id}" if len(found) > limit else ""
        return SessionPage(sessions=page, next=more)

    async def session(self, session_id: str, *, after: str = "", limit: int) -> SessionDetail | None:
        """``Store.session``."""
        table = self._place.table("spans")
        known = await self._rows(*queries.one_session(table, session_id))
        if not session_id or not known:
            return None
        found = await self._rows(*queries.session(table, session_id, after, limit + 1))
        exchanges = [rows.summary(row) for row in found[:limit]]
        more = queries.exchange_cursor(exchanges[-1]) if len(found) > limit else ""
        return SessionDetail(session=rows.session(known[0]), exchanges=exchanges, truncated=bool(more), next=more)

    async def logs(self, wanted: LogFilter, *, before: str, limit: int) -> LogPage:
        """``Store.logs``."""
        found = await self._rows(*queries.logs(self._place.table("logs"), wanted, before, limit + 1))
        more = f"{found[limit - 1]['time_unix_ns']}.{found[limit - 1]['id']}" if len(found) > limit else ""
        return LogPage(logs=[rows.log_record(row) for row in found[:limit]], next=more)

    async def service_map(self, *, since_unix_ns: int, until_unix_ns: int, limit: int) -> ServiceMap:
        """``Store.service_map``."""
        since, until = queries.whole_minutes(since_unix_ns, until_unix_ns)
        found = await self._rows(*queries.service_map(self._place.table("spans"), since, until, limit))
        return ServiceMap(since_unix_ns=since, until_unix_ns=until, edges=[queries.edge(row) for row in found])

    async def stats(self) -> StoreStats:
        """``Store.stats``."""
        return await self._upkeep.stats()

    async def expire(self, keep: Keep) -> int:
        """``Store.expire``; and halves that two processes stored at the same moment are joined."""
        await self._upkeep.join_missed()
        return await self._upkeep.expire(keep)

    async def _rows(self, statement: str, bound: Parameters | None = None) -> list[dict[str, Any]]:
        values = bound.values if bound else None
        result = await self._do(lambda: self._client.query(statement, parameters=values, settings=SETTINGS))
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    async def _command(self, statement: str, bound: Parameters | None = None) -> None:
        settings = {"final": 1, "distributed_foreground_insert": 1}
        values = bound.values if bound else None
        await self._do(lambda: self._client.command(statement, parameters=values, settings=settings))

    async def _insert_rows(self, table: str, columns: Mapping[str, str], data: Sequence[Mapping[str, Any]]) -> None:
        names = list(columns)
        values = [[row[name] for name in names] for row in data]
        if values:
            settings = {"distributed_foreground_insert": 1}
            await self._do(lambda: self._client.insert(table, values, column_names=names, settings=settings))

    async def _do[R](self, work: Callable[[], R]) -> R:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._threads)
        except ClickHouseError as error:
            raise StoreError(f"ClickHouse: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What ClickHouse says, on one line, without its stack."""
    return " ".join(str(error).split())[:300]


def prepare(client: Client, place: Place, migrations: Sequence[Callable[[Place], Any]] = MIGRATIONS) -> None:
    """Make the tables, or bring older ones up to date. Raises BackendError."""
    try:
        for statement in version_statements(place):
            client.command(statement)
        versions = f"{place.database}.schema_version"
        found = client.query(f"SELECT max(version) FROM {versions}").result_rows  # noqa: S608  # a name of the settings
        version = int(found[0][0])
        if version > len(migrations):
            raise BackendError(
                f"backend.clickhouse: the schema version {version} of database {place.database} is newer than this"
                f" sp_proxy knows ({len(migrations)}): use a newer sp_proxy"
            )
        for number in range(version, len(migrations)):
            for statement in migrations[number](place):
                client.command(statement)
            client.insert(versions, [[number + 1]], column_names=["version"])
    except ClickHouseError as error:
        raise BackendError(f"backend.clickhouse: {one_line(error)}") from error


@asynccontextmanager
async def open_store(
    connect: Callable[[], Client], place: Place, *, retention: Callable[[str], float], slack: float
) -> AsyncIterator[ClickhouseStore]:
    """The store, its tables made. ``retention`` tells for how many seconds a tenant's spans are kept; they are removed up
    to ``slack`` seconds later, as removing a few rows costs as much as removing many. Raises BackendError.
    """

    def begin() -> Client:
        try:
            client = connect()
        except ClickHouseError as error:
            raise BackendError(f"backend.clickhouse: {one_line(error)}") from error
        prepare(client, place)
        return client

    client = await trio.to_thread.run_sync(begin)
    try:
        yield ClickhouseStore(client, place, retention, slack)
    finally:
        close: Callable[[], None] | None = getattr(client, "close", None)
        if close is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(close)
