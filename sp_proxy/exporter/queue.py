"""The sending queue in memory: payloads that wait for an upload, or are in one.

A payload stays in the queue, and counts against its bounds, until its lease is settled; so what is in flight is never
in no one's hands. ``append`` never waits: a full queue refuses, and the caller counts the loss. First in, first out.

``SendingQueue`` is what a delivery needs of any queue; a durable one on disk has the same face.
"""

from collections import deque
from typing import Protocol

import trio
from msgspec import Struct

from sp_proxy.exporter.encode import Payload


class Lease(Struct, frozen=True, eq=False):
    """The right to attempt one payload, until ``ack``."""

    payload: Payload


class SendingQueue(Protocol):
    """Payloads between the encoder and the uploads."""

    @property
    def records(self) -> int:
        """Records in it, leased ones included."""

    @property
    def leased_records(self) -> int:
        """Records of it in an upload, or between two attempts of one."""

    @property
    def size(self) -> int:
        """Bytes of payloads in it, leased ones included."""

    def append(self, payload: Payload) -> bool:
        """Take a payload; False when it does not fit. Never waits."""

    async def lease(self) -> Lease:
        """The oldest payload that is not leased; waits for one. Cancelling loses nothing."""

    def ack(self, lease: Lease) -> None:
        """The payload is decided, delivered or lost for good: forget it."""

    def discard(self) -> int:
        """Forget everything, leased or not, at the very end. Records that were in it."""


class MemoryQueue:
    """A queue bounded by records and by bytes."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._waiting: deque[Payload] = deque()
        self._arrivals = trio.lowlevel.ParkingLot()
        self._records = 0
        self._leased_records = 0
        self._size = 0

    @property
    def records(self) -> int:
        """Records in it, leased ones included."""
        return self._records

    @property
    def leased_records(self) -> int:
        """Records of it in an upload, or between two attempts of one."""
        return self._leased_records

    @property
    def size(self) -> int:
        """Bytes of payloads in it, leased ones included."""
        return self._size

    def append(self, payload: Payload) -> bool:
        """Take a payload; False when it does not fit."""
        if self._records + payload.records > self._max_records or self._size + len(payload.body) > self._max_bytes:
            return False
        self._waiting.append(payload)
        self._records += payload.records
        self._size += len(payload.body)
        self._arrivals.unpark()
        return True

    async def lease(self) -> Lease:
        """The oldest payload that is not leased; waits for one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._waiting:
            await self._arrivals.park()
        payload = self._waiting.popleft()
        self._leased_records += payload.records
        return Lease(payload)

    def ack(self, lease: Lease) -> None:
        """The payload is decided: forget it."""
        self._records -= lease.payload.records
        self._leased_records -= lease.payload.records
        self._size -= len(lease.payload.body)

    def discard(self) -> int:
        """Forget everything, leased or not, at the very end."""
        records = self._records
        self._waiting.clear()
        self._records = self._leased_records = self._size = 0
        return records
