"""The statements (pure): constant pieces and table names of the settings; every value is bound.

Where a list is a page, it is asked for by key: rows below the cursor, newest first.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sp_proxy.backend.clickhouse import rows
from sp_proxy.backend.clickhouse.arrival import Identity
from sp_proxy.backend.clickhouse.condition import Parameters, condition
from sp_proxy.backend.clickhouse.schema import SPANS
from sp_proxy.backend.log_model import LogFilter
from sp_proxy.backend.model import Edge, ExchangeSummary
from sp_proxy.backend.query.syntax import HIGHEST, Query
from sp_proxy.backend.store import BadCursorError

Statement = tuple[str, Parameters]
_MINUTE = 60 * 1_000_000_000
_SESSION = (
    "session_id, min(start_unix_ns) AS first_seen_unix_ns, max(start_unix_ns) AS last_seen_unix_ns, count() AS exchanges,"
    " countIf(failed) AS errors, arraySort(groupUniqArray(service)) AS services"
)


def exchange_cursor(last: ExchangeSummary) -> str:
    """Where the page that ends with this exchange ended."""
    return f"{last.start_unix_ns}.{last.trace_id}.{last.span_id}"


def exchanges(table: str, query: Query, before: str, limit: int) -> Statement:
    """A page of exchanges."""
    bound = Parameters()
    where = ["is_exchange", condition(query, bound)]
    if before:
        where.append(f"(start_unix_ns, trace_id, span_id) < {_place(before, bound)}")
    return (
        f"SELECT {rows.SUMMARY} FROM {table} WHERE {_all(where)}"  # noqa: S608
        f" ORDER BY start_unix_ns DESC, trace_id DESC, span_id DESC LIMIT {limit:d}"
    ), bound


def matching(table: str, column: str, query: Query, before: str, limit: int) -> Statement:
    """Traces or sessions (by the column) that have an exchange of a query, by the newest of these."""
    bound = Parameters()
    where = ["is_exchange", f"{column} != ''", condition(query, bound)]
    having = f" HAVING place < {_place(before, bound)}" if before else ""
    return (
        f"SELECT {column} AS found, max((start_unix_ns, trace_id, span_id)) AS place FROM {table} WHERE {_all(where)}"  # noqa: S608
        f" GROUP BY found{having} ORDER BY place DESC LIMIT {limit:d}"
    ), bound


def place_cursor(place: Sequence[Any]) -> str:
    """The cursor behind a place of ``matching``."""
    return ".".join(str(part) for part in place)


def _place(cursor: str, bound: Parameters) -> str:
    moment, *ids = cursor.split(".")
    if len(ids) != 2 or not _is_hex(ids[0], 32) or not _is_hex(ids[1], 16):
        raise BadCursorError("not a cursor of this store")
    key = (bound.bind(_moment(moment), "Int64"), bound.bind(ids[0], "String"), bound.bind(ids[1], "String"))
    return f"({', '.join(key)})"


def span(table: str, span_id: bytes, trace_id: bytes | None) -> Statement:
    """One span in full; the newest of its span id."""
    bound = Parameters()
    where = [f"span_id = {bound.bind(span_id.hex(), 'String')}"]
    if trace_id is not None:
        where.append(f"trace_id = {bound.bind(trace_id.hex(), 'String')}")
    return f"SELECT {rows.RECORD} FROM {table} WHERE {_all(where)} ORDER BY arrived_unix_ns DESC LIMIT 1", bound  # noqa: S608


def records(table: str, ids: Sequence[Identity]) -> Statement:
    """Several spans in full."""
    bound = Parameters()
    return f"SELECT {rows.RECORD} FROM {table} WHERE {_among(ids, bound)}", bound  # noqa: S608


def trace(table: str, trace_id: bytes, limit: int) -> Statement:
    """The first spans of a trace."""
    bound = Parameters()
    wanted = bound.bind(trace_id.hex(), "String")
    return (
        f"SELECT {rows.SPAN} FROM {table} WHERE trace_id = {wanted}"  # noqa: S608
        f" ORDER BY start_unix_ns, arrived_unix_ns, span_id LIMIT {limit:d}"
    ), bound


def traces(table: str, before: str, limit: int) -> Statement:
    """A page of traces."""
    bound = Parameters()
    having = ""
    if before:
        moment, _, name = before.partition(".")
        if not _is_hex(name, 32):
            raise BadCursorError("not a cursor of this store")
        key = f"{bound.bind(_moment(moment), 'Int64')}, {bound.bind(name, 'String')}"
        having = f" HAVING (first, trace_id) < ({key})"
    return _traces(table, "1", having, f" ORDER BY first DESC, trace_id DESC LIMIT {limit:d}"), bound


def some_traces(table: str, names: Sequence[str]) -> Statement:
    """Some traces."""
    bound = Parameters()
    return _traces(table, f"trace_id IN {bound.bind(list(names), 'Array(String)')}", "", ""), bound


def _traces(table: str, where: str, having: str, order: str) -> str:
    return (
        "SELECT trace_id, name_of AS name, service_of AS service, first AS start_unix_ns, last - first AS duration_ns,"  # noqa: S608
        " spans, exchanges, errors, services FROM (SELECT trace_id, min(start_unix_ns) AS first,"
        " max(start_unix_ns + duration_ns) AS last, argMin(if(is_exchange, concat(method, ' ', path), name),"
        " (start_unix_ns, arrived_unix_ns)) AS name_of, argMin(service, (start_unix_ns, arrived_unix_ns)) AS service_of,"
        " count() AS spans, countIf(is_exchange) AS exchanges, countIf(failed) AS errors,"
        f" arraySort(groupUniqArrayIf(50)(service, service != '')) AS services FROM {table} WHERE {where}"
        f" GROUP BY trace_id{having}{order})"
    )


def sessions(table: str, before: str, limit: int) -> Statement:
    """A page of sessions."""
    bound = Parameters()
    having = ""
    if before:
        moment, dot, name = before.partition(".")
        if not dot:
            raise BadCursorError("not a cursor of this store")
        key = f"{bound.bind(_moment(moment), 'Int64')}, {bound.bind(name, 'String')}"
        having = f" HAVING (last_seen_unix_ns, session_id) < ({key})"
    return (
        f"SELECT {_SESSION} FROM {table} WHERE is_exchange AND session_id != '' GROUP BY session_id{having}"  # noqa: S608
        f" ORDER BY last_seen_unix_ns DESC, session_id DESC LIMIT {limit:d}"
    ), bound


def some_sessions(table: str, names: Sequence[str]) -> Statement:
    """Some sessions."""
    bound = Parameters()
    wanted = bound.bind(list(names), "Array(String)")
    return f"SELECT {_SESSION} FROM {table} WHERE is_exchange AND session_id IN {wanted} GROUP BY session_id", bound  # noqa: S608


def one_session(table: str, session_id: str) -> Statement:
    """One session."""
    bound = Parameters()
    wanted = bound.bind(session_id, "String")
    return f"SELECT {_SESSION} FROM {table} WHERE is_exchange AND session_id = {wanted} GROUP BY session_id", bound  # noqa: S608


def session(table: str, session_id: str, after: str, limit: int) -> Statement:
    """A page of the exchanges of a session."""
    bound = Parameters()
    where = ["is_exchange", f"session_id = {bound.bind(session_id, 'String')}"]
    if after:
        where.append(f"(start_unix_ns, trace_id, span_id) > {_place(after, bound)}")
    return (
        f"SELECT {rows.SUMMARY} FROM {table} WHERE {_all(where)}"  # noqa: S608
        f" ORDER BY start_unix_ns, trace_id, span_id LIMIT {limit:d}"
    ), bound


def logs(table: str, wanted: LogFilter, before: str, limit: int) -> Statement:
    """A page of log records."""
    bound = Parameters()
    where = ["1"]
    if wanted.trace_id:
        where.append(f"trace_id = {bound.bind(wanted.trace_id.hex(), 'String')}")
    if wanted.span_id:
        where.append(f"span_id = {bound.bind(wanted.span_id.hex(), 'String')}")
    if wanted.service:
        where.append(f"service = {bound.bind(wanted.service, 'String')}")
    if wanted.severity_min:
        where.append(f"severity >= {bound.bind(wanted.severity_min, 'Int32')}")
    if before:
        moment, _, number = before.partition(".")
        key = f"{bound.bind(_moment(moment), 'Int64')}, {bound.bind(_moment(number), 'UInt64')}"
        where.append(f"(time_unix_ns, id) < ({key})")
    return (
        f"SELECT {rows.LOG} FROM {table} WHERE {_all(where)} ORDER BY time_unix_ns DESC, id DESC LIMIT {limit:d}"  # noqa: S608
    ), bound


def service_map(table: str, since_unix_ns: int, until_unix_ns: int, limit: int) -> Statement:
    """The busiest calls of a time. An inbound half whose outbound half is stored is not counted again."""
    bound = Parameters()
    since, until = bound.bind(since_unix_ns, "Int64"), bound.bind(until_unix_ns, "Int64")
    return (
        "SELECT if(direction = 'outbound', toString(service), '') AS source, toString(host) AS host_name,"  # noqa: S608
        " if(direction = 'outbound', toString(peer), toString(service)) AS target, count() AS requests,"
        " countIf(failed) AS errors, toInt64(quantileTDigest(0.5)(duration_ns)) AS p50_ns,"
        f" toInt64(quantileTDigest(0.95)(duration_ns)) AS p95_ns FROM {table} WHERE is_exchange AND NOT partial"
        " AND (direction = 'outbound' OR (direction = 'inbound' AND peer = ''))"
        f" AND start_unix_ns >= {since} AND start_unix_ns < {until} GROUP BY source, host_name, target"
        f" ORDER BY requests DESC, source, host_name, target LIMIT {limit:d}"
    ), bound


def edge(row: Mapping[str, Any]) -> Edge:
    """From ``service_map``."""
    values = {name: row[name] for name in ("source", "target", "requests", "errors", "p50_ns", "p95_ns")}
    return Edge(host=row["host_name"], **values)


def whole_minutes(since_unix_ns: int, until_unix_ns: int) -> tuple[int, int]:
    """The minutes that a time touches: from, and until (no longer in it)."""
    first = since_unix_ns // _MINUTE
    return first * _MINUTE, max(first, -(-until_unix_ns // _MINUTE)) * _MINUTE


def known(table: str, traces: Sequence[str], ids: Sequence[str]) -> Statement:
    """What is stored of some spans, of their parents and of their children."""
    bound = Parameters()
    in_traces, wanted = bound.bind(list(traces), "Array(String)"), bound.bind(list(ids), "Array(String)")
    return (
        f"SELECT trace_id, span_id, parent_span_id, partial, direction, service, peer FROM {table}"  # noqa: S608
        f" WHERE trace_id IN {in_traces} AND (span_id IN {wanted} OR parent_span_id IN {wanted})"
    ), bound


def mark_gone(table: str, ids: Iterable[Identity]) -> Statement:
    """Insert newer versions of rows, which say that they are gone."""
    bound = Parameters()
    return _again(table, "version + 1 AS version, 1 AS deleted", _among(ids, bound)), bound


def name_peers(table: str, peers: Mapping[Identity, str]) -> Statement:
    """Insert newer versions of rows, with their peers."""
    bound = Parameters()
    keys = bound.bind([f"{trace_id}{span_id}" for trace_id, span_id in peers], "Array(String)")
    names = bound.bind(list(peers.values()), "Array(String)")
    peer = f"transform(concat(trace_id, span_id), {keys}, {names}, toString(peer)) AS peer"
    return _again(table, f"{peer}, version + 1 AS version", _among(peers, bound)), bound


def join_missed(table: str, since_unix_ns: int) -> Statement:
    """Name the peers of halves that came lately, each from the other, where nobody has."""
    bound = Parameters()
    since = bound.bind(since_unix_ns, "Int64")
    halves = f"FROM {table} WHERE arrived_unix_ns >= {since} AND is_exchange AND NOT partial"
    pairs = (
        "SELECT o.trace_id AS trace, o.span_id AS caller, o.service AS calling, i.span_id AS callee, i.service AS called"  # noqa: S608
        f" FROM (SELECT trace_id, span_id, service {halves} AND direction = 'outbound' AND peer = '') o"
        f" INNER JOIN (SELECT trace_id, span_id, parent_span_id, service {halves} AND direction = 'inbound'"
        " AND peer = '') i ON i.trace_id = o.trace_id AND i.parent_span_id = o.span_id"
    )
    return (
        "SELECT trace, caller, any(calling) AS calling, any(callee) AS callee, any(called) AS called"  # noqa: S608
        f" FROM ({pairs}) GROUP BY trace, caller LIMIT 10000"
    ), bound


def _again(table: str, changes: str, which: str) -> str:
    columns = ", ".join(SPANS)
    return f"INSERT INTO {table} ({columns}) SELECT * REPLACE ({changes}) FROM {table} WHERE {which}"  # noqa: S608


def _among(ids: Iterable[Identity], bound: Parameters) -> str:
    pairs = list(ids)
    traces = bound.bind(sorted({trace_id for trace_id, _ in pairs}), "Array(String)")
    keys = bound.bind([f"{trace_id}{span_id}" for trace_id, span_id in pairs], "Array(String)")
    # The first condition is for the index.
    return f"trace_id IN {traces} AND concat(trace_id, span_id) IN {keys}"


def _all(parts: Iterable[str]) -> str:
    return " AND ".join(f"({part})" for part in parts)


def _moment(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= HIGHEST):
        raise BadCursorError("not a cursor of this store")
    return int(text)


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and all(character in "0123456789abcdef" for character in text)
