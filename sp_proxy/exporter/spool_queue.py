"""The sending queue with a spool behind it: memory first, disk for what memory should not hold any longer.

``overflow``: payloads go to disk, oldest first, while memory is above its mark, and when they have waited too long, in
somebody's hands or not. ``always``: every payload is on disk before it can be leased. In both, what is left at the end
goes to disk. Uploads take from memory and disk in turn, so that neither new nor old records wait for ever.

A payload that is stored while it is leased stays leased: its copy on disk goes when it is decided. When the disk
refuses, memory has to do until the next try in ``RETRY_SECONDS``: nothing waits for a disk.
"""

from collections.abc import Iterator
from typing import Literal

import trio
from msgspec import Struct

from sp_proxy.core.spool_index import Entry, SpoolLimits
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.queue import Lease, MemoryQueue
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.spool import Spool
from sp_proxy.exporter.spool_owner import SpoolError
from sp_proxy.exporter.stats import SpoolStats

RETRY_SECONDS = 30.0
"""Between two tries of a disk that refused."""
TIDY_SECONDS = 60.0
"""Entries expire so much later at most."""
FINISH_SECONDS = 5.0
"""For storing what is left at the end: 64 MiB at 13 MB a second."""


class SpoolPolicy(Struct, frozen=True):
    """What goes to disk."""

    mode: Literal["overflow", "always"]
    above_records: int
    above_bytes: int
    after: float
    """Seconds in memory."""


class SpoolQueue:
    """A memory queue and a spool as one queue. ``run`` moves payloads between them."""

    def __init__(self, memory: MemoryQueue, spool: Spool, policy: SpoolPolicy, log: SparingLog) -> None:
        self._memory = memory
        self._spool = spool
        self._policy = policy
        self._log = log
        self._arrivals = trio.lowlevel.ParkingLot()
        self._work = trio.Event()
        self._storing = trio.Lock()
        self.looked = trio.Event()
        """What an earlier life has left has been found, or the disk refuses."""
        self._read_records = 0
        self._read_bytes = 0
        """Of leases whose content came from disk."""
        self._copied_records = 0
        """In memory, leased or parked, and on disk as well."""
        self._disk_left = False
        self._disk_turn = False
        self._sleeps_until = float("-inf")
        """When ``run`` looks again if nobody wakes it."""
        self._retry_at = float("-inf")
        self._write_errors = 0
        self._problem = ""

    @property
    def waiting_records(self) -> int:
        """Records in memory that are not leased."""
        return self._memory.waiting_records

    @property
    def leased_records(self) -> int:
        """Records in an upload, or between two attempts of one."""
        return self._memory.leased_records + self._read_records

    @property
    def spooled_records(self) -> int:
        """Records on disk that are not leased."""
        return self._spool.index.records - self._read_records - self._copied_records

    @property
    def active_records(self) -> int:
        """Records that may still be sent in this life."""
        active = self._memory.leased_records + self._read_records
        if not self._disk_left or self._memory_leasable():
            active = self._memory.active_records + self._read_records
        return active if self._disk_left else active + self.spooled_records

    @property
    def size(self) -> int:
        """Bytes of payloads in memory, leased ones included."""
        return self._memory.size + self._read_bytes

    def limit(self, max_records: int, max_bytes: int, policy: SpoolPolicy, limits: SpoolLimits, *, fsync: bool) -> None:
        """Other bounds and another policy from now on."""
        self._memory.limit(max_records, max_bytes)
        self._spool.limit(limits, fsync=fsync)
        self._policy = policy
        self._work.set()
        self._arrivals.unpark_all()

    def spool_stats(self) -> SpoolStats:
        """The disk's side."""
        index = self._spool.index
        return SpoolStats(
            state="degraded" if self._problem else "ready",
            problem=self._problem,
            entries=len(index),
            size=index.size,
            oldest_unix=index.oldest_unix,
            damaged_files=self._spool.damaged,
            write_errors=self._write_errors,
        )

    def append(self, payload: Payload) -> bool:
        """Take a payload; False when it does not fit."""
        fits = self._memory.append(payload)
        if fits:
            too_late = trio.current_time() + self._policy.after < self._sleeps_until
            if self._policy.mode == "always" or too_late or self._is_above():
                self._work.set()
            self._arrivals.unpark()
        return fits

    async def lease(self) -> Lease:
        """The oldest payload of memory or disk, in turn; waits for one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            lease = await self._read() if self._disk_turn or not self._memory_ready() else None
            if lease is None and self._memory_ready():
                lease = self._memory.take()
            if lease is not None:
                self._disk_turn = lease.in_memory
                if self._memory_ready() or self._disk_ready():
                    self._arrivals.unpark()  # who was told of this one took perhaps another
                return lease
            if not self._disk_ready() and not self._memory_ready():
                await self._arrivals.park()

    def ack(self, lease: Lease) -> None:
        """The payload is decided: forget it, on disk as well."""
        self._let_go(lease)
        if lease.entry is not None:
            self._spool.ack(lease.entry)
            self._work.set()

    def release(self, lease: Lease, *, later: bool = False) -> None:
        """Not decided: it is the next one to be leased, or (``later``) the last. One that is on disk leaves memory."""
        if lease.entry is None:
            self._memory.release(lease, later=later)
        else:
            self._let_go(lease)
            self._spool.release(lease.entry, later=later)
        self._arrivals.unpark()

    def park(self, lease: Lease) -> None:
        """Not decided, and not to be leased again in this life."""
        if lease.entry is None:
            self._memory.park(lease)
        else:
            self._let_go(lease)

    def leave_disk(self) -> None:
        """What is on disk stays there for another life."""
        self._disk_left = True

    async def keep(self, lease: Lease) -> bool:
        """Have it safe on disk: it may have to go there sooner than the policy says. False when the disk refuses."""
        if lease.entry is None and trio.current_time() >= self._retry_at:
            await self._store(lease)
        return lease.entry is not None

    async def run(self) -> None:
        """Move payloads to disk, delete what is decided, until cancelled."""
        while True:
            self._work = trio.Event()
            if trio.current_time() >= self._retry_at:
                await self._open()
                self.looked.set()
                await self._store_due()
            await self._spool.tidy()
            self._arrivals.unpark_all()
            self._sleeps_until = self._next_time()
            with trio.move_on_at(self._sleeps_until):
                await self._work.wait()

    async def finish(self) -> int:
        """Store what is left, within ``FINISH_SECONDS``. Records that were lost for want of a disk or of time."""
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FINISH_SECONDS):
                for lease in self._memory.held():
                    if lease.entry is None and not await self._store(lease):
                        break
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await self._spool.close()
        except Exception as error:  # noqa: BLE001 (whatever it is, what is left is counted)
            self._log.fault("spool_failed", error)
        lost = sum(lease.payload.records for lease in self._memory.held() if lease.entry is None)
        self._memory.clear()
        self._read_records = self._read_bytes = self._copied_records = 0
        return lost

    def _memory_ready(self) -> bool:
        """Whether memory has something that may be leased."""
        return self._memory.has_waiting and self._memory_leasable()

    def _memory_leasable(self) -> bool:
        return self._policy.mode != "always" or bool(self._problem)

    def _disk_ready(self) -> bool:
        return (
            not self._disk_left
            and self._spool.is_open
            and self._spool.index.waiting > 0
            and trio.current_time() >= self._retry_at
        )

    async def _read(self) -> Lease | None:
        """Lease from disk; None when there is nothing, or it refuses."""
        if not self._disk_ready():
            return None
        try:
            found = await self._spool.lease()
        except OSError as error:
            self._degrade(error)
            return None
        if found is None:
            return None
        entry, payload = found
        lease = Lease(payload, trio.current_time(), entry, in_memory=False)
        self._problem = ""
        self._read_records += payload.records
        self._read_bytes += len(payload.body)
        return lease

    def _let_go(self, lease: Lease) -> None:
        """It is not in anybody's hands any more, nor in memory."""
        if lease.in_memory:
            self._memory.ack(lease)
            if lease.entry is not None:
                self._copied_records -= lease.payload.records
        else:
            self._read_records -= lease.payload.records
            self._read_bytes -= len(lease.payload.body)

    async def _store_due(self) -> None:
        """Store what is due, until memory is below its mark again or the disk refuses."""
        while (lease := next(self._due(), None)) is not None:
            if not await self._store(lease):
                return

    def _due(self) -> Iterator[Lease]:
        """What goes to disk next."""
        if self._policy.mode == "always" or self._is_above():
            yield from self._memory.waiting()
        if self._policy.mode == "overflow":
            now, after = trio.current_time(), self._policy.after  # added as in _next_time, or rounding makes it spin
            yield from (lease for lease in self._memory.held() if lease.entry is None and lease.since + after <= now)

    async def _store(self, lease: Lease) -> bool:
        """Put one payload on disk; False when the disk refuses."""
        async with self._storing:
            if lease.entry is not None:  # somebody else did it meanwhile
                return True
            try:
                entry = await self._spool.append(lease.payload, leased=True)
            except (OSError, SpoolError) as error:
                self._degrade(error)
                return False
            self._stored(lease, entry)
        return True

    def _stored(self, lease: Lease, entry: Entry) -> None:
        """The records change hands in the books."""
        self._problem = ""
        self._retry_at = float("-inf")
        if self._memory.is_waiting(lease):
            self._memory.forget(lease)
            self._spool.release(entry, later=True)
            self._arrivals.unpark()
        elif self._memory.is_leased(lease) or self._memory.is_parked(lease):
            lease.entry = entry
            self._copied_records += lease.payload.records
        else:  # decided meanwhile
            self._spool.ack(entry)

    async def _open(self) -> None:
        """Take the directory where there is one, or one is needed."""
        if self._spool.is_open or not (self._policy.mode == "always" or self._spool.exists):
            return
        try:
            await self._spool.open()
        except SpoolError as error:
            self._degrade(error)

    def _degrade(self, error: Exception) -> None:
        self._write_errors += 1
        self._retry_at = trio.current_time() + RETRY_SECONDS
        self._problem = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        self._log.warning("spool_degraded", reason=self._problem, consequence="payloads stay in memory")
        self._arrivals.unpark_all()

    def _is_above(self) -> bool:
        policy = self._policy
        return self._memory.records > policy.above_records or self._memory.size > policy.above_bytes

    def _next_time(self) -> float:
        """When to look again without being told."""
        now = trio.current_time()
        times = [now + TIDY_SECONDS]
        if self._retry_at > now:
            times.append(self._retry_at)
        elif self._policy.mode == "overflow":
            times += [lease.since + self._policy.after for lease in self._memory.held() if lease.entry is None]
        return min(times)
