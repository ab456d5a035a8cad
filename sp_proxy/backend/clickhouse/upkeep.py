"""What is done to the tables besides storing: counting, removing what is too old or too much, joining what was missed."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from sp_proxy.backend.clickhouse import queries
from sp_proxy.backend.clickhouse.condition import Parameters
from sp_proxy.backend.clickhouse.schema import Place
from sp_proxy.backend.model import StoreStats
from sp_proxy.backend.store import Keep

MISSED_WITHIN = 300 * 1_000_000_000
"""Nanoseconds within which the two halves of an exchange come, when both come."""
_TABLES = ("spans", "logs")

Rows = Callable[[str, Parameters], Awaitable[list[dict[str, Any]]]]
Command = Callable[[str, Parameters], Awaitable[None]]


class Upkeep:
    """For one place."""

    def __init__(self, rows: Rows, command: Command, place: Place, slack: float) -> None:
        self._rows = rows
        self._command = command
        self._place = place
        self._slack_ns = int(slack * 1e9)

    async def count(self, **changes: int) -> None:
        """Add to running totals."""
        bound = Parameters()
        values = [
            f"({bound.bind(name, 'String')}, {bound.bind(change, 'Int64')})"
            for name, change in changes.items()
            if change
        ]
        if values:
            table = self._place.table("totals")
            await self._command(f"INSERT INTO {table} (name, value) VALUES {', '.join(values)}", bound)  # noqa: S608

    async def stats(self) -> StoreStats:
        """Counts of what is stored, and the totals."""
        (spans,) = await self._rows(
            "SELECT count() AS spans, countIf(is_exchange) AS exchanges, uniqExact(trace_id) AS traces,"  # noqa: S608
            " uniqExactIf(session_id, is_exchange AND session_id != '') AS sessions"
            f" FROM {self._place.table('spans')}",
            Parameters(),
        )
        (logs,) = await self._rows(f"SELECT count() AS logs FROM {self._place.table('logs')}", Parameters())  # noqa: S608
        totals = await self._rows(
            f"SELECT name, sum(value) AS total FROM {self._place.table('totals')} GROUP BY name",  # noqa: S608
            Parameters(),
        )
        running = {"appended": 0, "duplicates": 0, "expired": 0} | {row["name"]: row["total"] for row in totals}
        return StoreStats(**spans, **logs, **running, bytes=await self._used(), databases_set_aside=0)

    async def join_missed(self) -> None:
        """Join halves of exchanges that two processes stored at the same moment."""
        table = self._place.table("spans")
        found = await self._rows(*queries.join_missed(table, time.time_ns() - MISSED_WITHIN))
        peers = {(row["trace"], row["caller"]): row["called"] for row in found}
        peers |= {(row["trace"], row["callee"]): row["calling"] for row in found}
        if peers:
            await self._command(*queries.name_peers(table, peers))

    async def expire(self, keep: Keep) -> int:
        """Remove what is too old, then the oldest until no more than allowed is used."""
        removed = 0
        for name in _TABLES:
            removed += await self._remove_old(name, keep)
        # The size is that of one server; on a cluster, disks are its operator's.
        if not self._place.cluster:
            removed += await self._remove_excess(keep.max_bytes)
        await self.count(expired=removed)
        return removed

    async def _remove_old(self, name: str, keep: Keep) -> int:
        table = self._place.table(name)
        oldest = await self._rows(
            f"SELECT tenant, min(arrived_unix_ns) AS oldest FROM {table} GROUP BY tenant",  # noqa: S608
            Parameters(),
        )
        removed = 0
        for row in oldest:
            cutoff = keep.tenants.get(row["tenant"], keep.received_since_unix_ns)
            if row["oldest"] + self._slack_ns < cutoff:
                bound = Parameters()
                tenant, until = bound.bind(row["tenant"], "String"), bound.bind(cutoff, "Int64")
                removed += await self._remove(name, f"tenant = {tenant} AND arrived_unix_ns < {until}", bound)
        return removed

    async def _remove_excess(self, max_bytes: int) -> int:
        if await self._used() <= max_bytes:
            return 0
        removed = 0
        target = max_bytes * 19 // 20
        while (used := await self._used()) > target:
            bound = Parameters()
            part = bound.bind((used - target) / used, "Float64")
            (found,) = await self._rows(
                f"SELECT quantileExactLow({part})(arrived_unix_ns) AS until, count() AS rows FROM"  # noqa: S608
                f" (SELECT arrived_unix_ns FROM {self._place.table('spans')}"
                f" UNION ALL SELECT arrived_unix_ns FROM {self._place.table('logs')})",
                bound,
            )
            if not found["rows"]:
                break
            for name in _TABLES:
                bound = Parameters()
                until = bound.bind(found["until"], "Int64")
                removed += await self._remove(name, f"arrived_unix_ns <= {until}", bound)
        return removed

    async def _remove(self, name: str, which: str, bound: Parameters) -> int:
        (found,) = await self._rows(f"SELECT count() AS rows FROM {self._place.table(name)} WHERE {which}", bound)  # noqa: S608
        await self._command(
            f"ALTER TABLE {self._place.stored(name)}{self._place.everywhere} DELETE WHERE {which}"
            " SETTINGS mutations_sync = 1",
            bound,
        )
        return int(found["rows"])

    async def _used(self) -> int:
        bound = Parameters()
        database = bound.bind(self._place.database, "String")
        (found,) = await self._rows(
            f"SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND database = {database}",  # noqa: S608
            bound,
        )
        return int(found["bytes"])
