"""The sending queue in memory: payloads that wait for an upload, or are in one.

A payload stays in the queue, and counts against its bounds, until its lease is settled; so what is in flight is never
in no one's hands. ``append`` never waits: a full queue refuses, and the caller counts the loss. First in, first out.

``SendingQueue`` is what a delivery needs of any queue; the one with a spool (``spool_queue.py``) has the same face.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

import trio
from msgspec import Struct

from sp_proxy.core.spool_index import Entry
from sp_proxy.exporter.encode import Payload


class Lease(Struct, eq=False):
    """The right to attempt one payload, until it is settled by ``ack``, ``release`` or ``park``."""

    payload: Payload
    since: float
    """When it came to this queue, by trio's clock."""
    entry: Entry | None = None
    """Where it is on disk; None while it is in memory only."""
    in_memory: bool = True
    """It is one of the memory queue's, on disk too or not."""


class SendingQueue(Protocol):
    """Payloads between the encoder and the uploads."""

    @property
    def waiting_records(self) -> int:
        """Records in memory that are not leased."""

    @property
    def leased_records(self) -> int:
        """Records in an upload, or between two attempts of one."""

    @property
    def spooled_records(self) -> int:
        """Records on disk that are not leased."""

    @property
    def active_records(self) -> int:
        """Records that may still be sent in this life."""

    @property
    def size(self) -> int:
        """Bytes of payloads in memory, leased ones included."""

    def append(self, payload: Payload) -> bool:
        """Take a payload; False when it does not fit. Never waits."""

    async def lease(self) -> Lease:
        """A payload that is not leased; waits for one. Cancelling loses nothing."""

    def ack(self, lease: Lease) -> None:
        """The payload is decided, delivered or lost for good: forget it."""

    def release(self, lease: Lease, *, later: bool = False) -> None:
        """Not decided: it is the next one to be leased, or (``later``) the last."""

    def park(self, lease: Lease) -> None:
        """Not decided, and not to be leased again in this life."""

    def leave_disk(self) -> None:
        """What is on disk stays there for another life."""

    async def keep(self, lease: Lease) -> bool:
        """Have it safe on disk, so that giving up for now loses nothing; False where there is no disk that takes it."""

    async def run(self) -> None:
        """What the queue does by itself, until cancelled."""

    async def finish(self) -> int:
        """The very end: keep on disk what can be kept, forget the rest. Records that were lost."""


class MemoryQueue:
    """A queue bounded by records and by bytes."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[Lease, None] = OrderedDict()
        self._leased: set[Lease] = set()
        self._parked: list[Lease] = []
        self._arrivals = trio.lowlevel.ParkingLot()
        self.waiting_records = 0
        """Records that are not leased, parked ones included."""
        self.leased_records = 0
        """Records in an upload, or between two attempts of one."""
        self.spooled_records = 0
        """Always none."""
        self.size = 0
        """Bytes of payloads, leased ones included."""

    def limit(self, max_records: int, max_bytes: int) -> None:
        """Other bounds from now on. What is in it stays."""
        self._max_records = max_records
        self._max_bytes = max_bytes

    @property
    def records(self) -> int:
        """Records in it, leased and parked ones included."""
        return self.waiting_records + self.leased_records

    @property
    def active_records(self) -> int:
        """Records that may still be sent in this life."""
        return self.records - sum(lease.payload.records for lease in self._parked)

    def append(self, payload: Payload) -> bool:
        """Take a payload; False when it does not fit."""
        if self.records + payload.records > self._max_records or self.size + len(payload.body) > self._max_bytes:
            return False
        self._waiting[Lease(payload, trio.current_time())] = None
        self.waiting_records += payload.records
        self.size += len(payload.body)
        self._arrivals.unpark()
        return True

    def take(self) -> Lease | None:
        """The oldest payload that is not leased, if there is one."""
        if not self._waiting:
            return None
        lease, _ = self._waiting.popitem(last=False)
        self._leased.add(lease)
        self.waiting_records -= lease.payload.records
        self.leased_records += lease.payload.records
        return lease

    async def lease(self) -> Lease:
        """The oldest payload that is not leased; waits for one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while (lease := self.take()) is None:
            await self._arrivals.park()
        return lease

    def ack(self, lease: Lease) -> None:
        """The payload is decided: forget it."""
        self._leased.remove(lease)
        self.leased_records -= lease.payload.records
        self.size -= len(lease.payload.body)

    def release(self, lease: Lease, *, later: bool = False) -> None:
        """Not decided: it is the next one to be leased, or (``later``) the last."""
        self._give_back(lease)
        self._waiting[lease] = None
        if not later:
            self._waiting.move_to_end(lease, last=False)
        self._arrivals.unpark()

    def park(self, lease: Lease) -> None:
        """Not decided, and not to be leased again."""
        self._give_back(lease)
        self._parked.append(lease)

    def leave_disk(self) -> None:
        """There is nothing on disk."""

    async def keep(self, lease: Lease) -> bool:  # noqa: ARG002 (no matter which)
        """Memory keeps nothing."""
        await trio.lowlevel.checkpoint()
        return False

    def waiting(self) -> Iterator[Lease]:
        """Those that are not leased, oldest first. Nothing may change meanwhile."""
        return iter(self._waiting)

    def held(self) -> list[Lease]:
        """All of them: leased, parked, waiting."""
        return [*self._leased, *self._parked, *self._waiting]

    def is_leased(self, lease: Lease) -> bool:
        """Whether it is in somebody's hands."""
        return lease in self._leased

    def is_waiting(self, lease: Lease) -> bool:
        """Whether nobody has it, and it is not parked."""
        return lease in self._waiting

    def is_parked(self, lease: Lease) -> bool:
        """Whether it is not to be leased again."""
        return lease in self._parked

    @property
    def has_waiting(self) -> bool:
        """Whether ``take`` has something."""
        return bool(self._waiting)

    def forget(self, lease: Lease) -> None:
        """One that waits is in other hands now."""
        del self._waiting[lease]
        self.waiting_records -= lease.payload.records
        self.size -= len(lease.payload.body)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._leased.clear()
        self._parked.clear()
        self.waiting_records = self.leased_records = self.size = 0

    async def run(self) -> None:
        """Nothing: memory does not work by itself."""
        await trio.sleep_forever()

    async def finish(self) -> int:
        """Forget everything, at the very end. Records that were in it."""
        await trio.lowlevel.checkpoint()
        records = self.records
        self.clear()
        return records

    def _give_back(self, lease: Lease) -> None:
        self._leased.remove(lease)
        self.leased_records -= lease.payload.records
        self.waiting_records += lease.payload.records
