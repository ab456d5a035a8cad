"""The tables on ClickHouse (pure), on one server and on a cluster, and how older ones become current.

All spans are in one table; an exchange is a span with more columns filled in. A row is never changed: what replaces it
(the whole exchange its partial record, a row with its peer the one without, a mark that it is gone) is inserted with a
higher version, and ``FINAL`` sees the highest. On a cluster the rows are in ``…_local`` tables (Replicated), sharded by
trace, and the names without the ending are Distributed tables over them.
"""

from collections.abc import Iterator

from msgspec import Struct


class Place(Struct, frozen=True):
    """Where the tables are. The names are checked by the settings: letters, digits and underscores."""

    database: str
    cluster: str = ""

    def table(self, name: str) -> str:
        """What is asked and inserted into."""
        return f"{self.database}.{name}"

    def stored(self, name: str) -> str:
        """Where the rows are, for what changes or counts them."""
        return f"{self.database}.{name}_local" if self.cluster else f"{self.database}.{name}"

    @property
    def everywhere(self) -> str:
        """The clause by which a statement is carried out on every server of the cluster."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""


_TEXT = "LowCardinality(String)"
SPANS = {
    "start_unix_ns": "Int64 CODEC(Delta, ZSTD(1))",
    "trace_id": "String CODEC(ZSTD(1))",
    "span_id": "String CODEC(ZSTD(1))",
    "parent_span_id": "String CODEC(ZSTD(1))",
    "name": "String CODEC(ZSTD(1))",
    "kind": "Int32",
    "duration_ns": "Int64 CODEC(ZSTD(1))",
    "failed": "UInt8",
    "partial": "UInt8",
    "service": _TEXT,
    "is_exchange": "UInt8",
    "session_id": "String CODEC(ZSTD(1))",
    "direction": _TEXT,
    "method": _TEXT,
    "scheme": _TEXT,
    "host": _TEXT,
    "path": "String CODEC(ZSTD(1))",
    "status": "Int32",
    "request_size": "Int64",
    "response_size": "Int64",
    "error": _TEXT,
    "peer": _TEXT,
    "tags": "Map(String, String)",
    "text": "String CODEC(ZSTD(1))",
    "details": "String CODEC(ZSTD(3))",
    "resource": "String CODEC(ZSTD(3))",
    "request_body": "Nullable(String) CODEC(ZSTD(3))",
    "response_body": "Nullable(String) CODEC(ZSTD(3))",
    "tenant": _TEXT,
    "received_unix_ns": "Int64 CODEC(Delta, ZSTD(1))",
    "arrived_unix_ns": "Int64 CODEC(Delta, ZSTD(1))",
    "expires": "DateTime CODEC(Delta, ZSTD(1))",
    "version": "UInt64",
    "deleted": "UInt8",
}
LOGS = {
    "time_unix_ns": "Int64 CODEC(Delta, ZSTD(1))",
    "id": "UInt64",
    "trace_id": "String CODEC(ZSTD(1))",
    "span_id": "String CODEC(ZSTD(1))",
    "severity": "Int32",
    "severity_text": _TEXT,
    "service": _TEXT,
    "body": "String CODEC(ZSTD(1))",
    "details": "String CODEC(ZSTD(3))",
    "resource": "String CODEC(ZSTD(3))",
    "tenant": _TEXT,
    "received_unix_ns": "Int64 CODEC(Delta, ZSTD(1))",
    "arrived_unix_ns": "Int64 CODEC(Delta, ZSTD(1))",
    "expires": "DateTime CODEC(Delta, ZSTD(1))",
}
TOTALS = {"name": _TEXT, "value": "Int64"}
_INDEXES = {
    "spans": (
        "INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1",
        "INDEX by_span span_id TYPE bloom_filter(0.01) GRANULARITY 1",
        "INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1",
        "INDEX by_word text TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 1",
    ),
    "logs": ("INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1",),
    "totals": (),
}
_COLUMNS = {"spans": SPANS, "logs": LOGS, "totals": TOTALS}
_ENGINES = {
    "spans": ("ReplacingMergeTree", "version, deleted", "start_unix_ns, trace_id, span_id"),
    "logs": ("MergeTree", "", "time_unix_ns, id"),
    "totals": ("SummingMergeTree", "", "name"),
}
_SHARDED_BY = {"spans": "cityHash64(trace_id)", "logs": "cityHash64(trace_id)", "totals": "rand()"}
_EXPIRING = frozenset(("spans", "logs"))


def statements(place: Place) -> Iterator[str]:
    """What makes the tables of the current version where there are none."""
    yield f"CREATE DATABASE IF NOT EXISTS {place.database}{place.everywhere}"
    for name, columns in _COLUMNS.items():
        engine, arguments, order = _ENGINES[name]
        if place.cluster:
            replica = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
            engine, arguments = f"Replicated{engine}", ", ".join(filter(None, (replica, arguments)))
        lines = [*(f"{column} {kind}" for column, kind in columns.items()), *_INDEXES[name]]
        # By the day of arrival, which is our own clock's: the times that senders tell would make partitions without end.
        keeping = (
            " PARTITION BY toDate(fromUnixTimestamp(intDiv(arrived_unix_ns, 1000000000)))"
            f" ORDER BY ({order}) TTL expires DELETE SETTINGS ttl_only_drop_parts = 0"
            if name in _EXPIRING
            else f" ORDER BY ({order})"
        )
        yield (
            f"CREATE TABLE IF NOT EXISTS {place.stored(name)}{place.everywhere} ({', '.join(lines)})"
            f" ENGINE = {engine}({arguments}){keeping}"
        )
        if place.cluster:
            yield (
                f"CREATE TABLE IF NOT EXISTS {place.table(name)}{place.everywhere} AS {place.stored(name)}"
                f" ENGINE = Distributed('{place.cluster}', '{place.database}', '{name}_local', {_SHARDED_BY[name]})"
            )


def version_statements(place: Place) -> Iterator[str]:
    """What makes the table in which the version stands."""
    engine = "MergeTree()"
    if place.cluster:
        engine = "ReplicatedMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')"  # one for all shards
    yield f"CREATE DATABASE IF NOT EXISTS {place.database}{place.everywhere}"
    yield (
        f"CREATE TABLE IF NOT EXISTS {place.database}.schema_version{place.everywhere} (version UInt32)"
        f" ENGINE = {engine} ORDER BY version"
    )


MIGRATIONS = (statements,)
"""The entry at index N takes the tables from version N to N + 1; released ones are never edited."""
