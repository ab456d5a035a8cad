"""Who called whom: the two halves of an exchange found in each other, and the calls between services counted by time.

The outbound half is the inbound half's parent. Whichever comes second finds the first; both then name each other's
service as their ``peer``. A call is counted once: by its outbound half, with the target when that is known, else by the
inbound half, without a source. A half that was counted alone is taken back when the other one comes.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from sp_proxy.backend.histogram import bucket, percentile
from sp_proxy.backend.model import Edge, ServiceMap, StoredSpan

MINUTE = 60
HOUR = 3600
MAX_EDGES = 5000
"""Further ones count without their host: hosts come from outside, and there is no end of them."""
_SECOND = 1_000_000_000


class Call(Struct, frozen=True):
    """What is counted: when, between whom, how long, and whether it failed."""

    minute: int
    source: str
    host: str
    target: str
    bucket: int
    failed: bool


class Calls:
    """The calls of one transaction, until they are written."""

    def __init__(self) -> None:
        self._counts: Counter[Call] = Counter()

    def add(self, call: Call, count: int = 1) -> None:
        """Count a call, or take it back."""
        self._counts[call] += count

    def write(self, connection: sqlite3.Connection) -> None:
        """Add them to what is stored, by the minute and by the hour."""
        edges: dict[tuple[str, str, str], int] = {}
        rows: Counter[tuple[int, int, int, int]] = Counter()
        errors: Counter[tuple[int, int, int, int]] = Counter()
        for call, count in self._counts.items():
            names = (call.source, call.host, call.target)
            if names not in edges:
                edges[names] = _edge(connection, *names)
            for seconds in (MINUTE, HOUR):
                key = (seconds, call.minute * MINUTE // seconds, edges[names], call.bucket)
                rows[key] += count
                errors[key] += count * call.failed
        connection.executemany(
            "INSERT INTO calls (seconds, slot, edge, bucket, requests, errors) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT"
            " DO UPDATE SET requests = requests + excluded.requests, errors = errors + excluded.errors",
            [(*key, count, errors[key]) for key, count in rows.items() if count or errors[key]],
        )
        self._counts.clear()


class _Half(Struct, frozen=True):
    """The stored half of an exchange, or the new one."""

    id: int
    service: str
    host: str
    start_unix_ns: int
    duration_ns: int
    failed: bool
    peer: str = ""

    def call(self, source: str, target: str) -> Call:
        """The call as this half saw it."""
        minute = self.start_unix_ns // (MINUTE * _SECOND)
        return Call(minute, source, self.host, target, bucket(self.duration_ns), bool(self.failed))


_HALF = "e.id, e.service, e.host, e.start_unix_ns, e.duration_ns, e.failed, e.peer"


def join(connection: sqlite3.Connection, row_id: int, span: StoredSpan, calls: Calls) -> str:
    """Find the other half of a new exchange, and count the call. Returns the peer's service; empty while unknown."""
    exchange = span.exchange
    assert exchange is not None
    if span.partial or exchange.direction == "unknown":
        return ""  # counted when it has ended
    ours = _Half(row_id, exchange.service, exchange.host, span.start_unix_ns, span.duration_ns, span.failed)
    if exchange.direction == "outbound":
        return _join_outbound(connection, span, ours, calls)
    return _join_inbound(connection, span, ours, calls)


def _join_outbound(connection: sqlite3.Connection, span: StoredSpan, ours: _Half, calls: Calls) -> str:
    row = connection.execute(
        f"SELECT {_HALF} FROM waiting w JOIN exchanges e ON e.id = w.id"  # noqa: S608  # a constant
        " WHERE w.parent_span_id = ? AND w.trace_id = ? LIMIT 1",
        (span.span_id, span.trace_id),
    ).fetchone()
    if row is None:
        calls.add(ours.call(ours.service, ""))
        return ""
    inbound = _Half(*row)
    connection.execute("DELETE FROM waiting WHERE id = ?", (inbound.id,))
    calls.add(inbound.call("", inbound.service), -1)
    calls.add(ours.call(ours.service, inbound.service))
    _name_peers(connection, (inbound.service, ours.id), (ours.service, inbound.id))
    return inbound.service


def _join_inbound(connection: sqlite3.Connection, span: StoredSpan, ours: _Half, calls: Calls) -> str:
    row = None
    if span.parent_span_id:
        row = connection.execute(
            f"SELECT {_HALF} FROM spans s JOIN exchanges e ON e.id = s.id"  # noqa: S608  # a constant
            " WHERE s.span_id = ? AND s.trace_id = ? AND e.direction = 'outbound' AND NOT e.partial",
            (span.parent_span_id, span.trace_id),
        ).fetchone()
        if row is None:
            connection.execute(
                "INSERT INTO waiting (id, parent_span_id, trace_id) VALUES (?, ?, ?)",
                (ours.id, span.parent_span_id, span.trace_id),
            )
    if row is None:
        calls.add(ours.call("", ours.service))
        return ""
    outbound = _Half(*row)
    if not outbound.peer:
        calls.add(outbound.call(outbound.service, ""), -1)
        calls.add(outbound.call(outbound.service, ours.service))
        _name_peers(connection, (ours.service, outbound.id))
    _name_peers(connection, (outbound.service, ours.id))
    return outbound.service


def _name_peers(connection: sqlite3.Connection, *pairs: tuple[str, int]) -> None:
    connection.executemany("UPDATE exchanges SET peer = ? WHERE id = ?", pairs)


def _edge(connection: sqlite3.Connection, source: str, host: str, target: str) -> int:
    known = connection.execute(
        "SELECT id FROM edges WHERE source = ? AND host = ? AND target = ?", (source, host, target)
    ).fetchone()
    if known:
        return int(known[0])
    (edges,) = connection.execute("SELECT count(*) FROM edges").fetchone()
    if edges >= MAX_EDGES and host:
        return _edge(connection, source, "", target)
    edge = connection.execute("INSERT INTO edges (source, host, target) VALUES (?, ?, ?)", (source, host, target))
    assert edge.lastrowid is not None
    return edge.lastrowid


def forget(connection: sqlite3.Connection) -> None:
    """Remove the calls from before the oldest exchange that is left, and edges that nobody used since."""
    row = connection.execute("SELECT min(start_unix_ns) FROM exchanges").fetchone()
    oldest = row[0] // _SECOND if row[0] is not None else None
    for seconds in (MINUTE, HOUR):
        slot = oldest // seconds if oldest is not None else 2**62
        connection.execute("DELETE FROM calls WHERE seconds = ? AND slot < ?", (seconds, slot))
    (edges,) = connection.execute("SELECT count(*) FROM edges").fetchone()
    if oldest is None or edges >= MAX_EDGES:
        connection.execute("DELETE FROM edges WHERE id NOT IN (SELECT edge FROM calls)")


def service_map(connection: sqlite3.Connection, since_unix_ns: int, until_unix_ns: int, limit: int) -> ServiceMap:
    """The busiest edges of the whole minutes that a time touches. Hours are used where the time has whole ones."""
    first = since_unix_ns // (MINUTE * _SECOND)
    end = -(-until_unix_ns // (MINUTE * _SECOND))
    requests: dict[int, Counter[int]] = {}
    errors: Counter[int] = Counter()
    for seconds, low, high in _slots(first, max(first, end)):
        rows = connection.execute(
            "SELECT edge, bucket, sum(requests), sum(errors) FROM calls WHERE seconds = ? AND slot >= ? AND slot < ?"
            " GROUP BY edge, bucket",
            (seconds, low, high),
        )
        for edge, number, count, failed in rows:
            requests.setdefault(edge, Counter())[number] += count
            errors[edge] += failed
    busy = sorted((edge for edge in requests if requests[edge].total() > 0), key=lambda edge: -requests[edge].total())
    names = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT id, source, host, target FROM edges WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(busy[:limit]),),
        )
    }
    return ServiceMap(
        since_unix_ns=first * MINUTE * _SECOND,
        until_unix_ns=max(first, end) * MINUTE * _SECOND,
        edges=[
            Edge(
                source=names[edge][0],
                host=names[edge][1],
                target=names[edge][2],
                requests=requests[edge].total(),
                errors=errors[edge],
                p50_ns=percentile(requests[edge], 0.5),
                p95_ns=percentile(requests[edge], 0.95),
            )
            for edge in busy[:limit]
        ],
    )


def _slots(first: int, end: int) -> Iterable[tuple[int, int, int]]:
    """Minutes ``[first, end)`` as parts: seconds of a slot, and its numbers from and to."""
    hours = (-(-first // 60), end // 60)
    if hours[0] >= hours[1]:
        return [(MINUTE, first, end)]
    return [(MINUTE, first, hours[0] * 60), (HOUR, *hours), (MINUTE, hours[1] * 60, end)]
