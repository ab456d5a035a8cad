"""Batching: records from all channels fill one batch; closed batches go on to the encoder, in order.

Bounded by making the intake wait: at most one open batch, ``HANDOVER_BATCHES`` closed ones and one for each channel
are held. The worker at the other end of a waiting channel drops and counts, which costs the traffic nothing; that only
happens when encoding is too slow, never because of the backend.
"""

import trio

from sp_proxy.core.batching import Batch, Batcher, BatchLimits
from sp_proxy.core.exchange import Exchange

HANDOVER_BATCHES = 2
"""One being taken, one ready when the encoder comes back."""


class BatchStage:
    """The open batch and the closed ones that are not settled yet."""

    def __init__(self, limits: BatchLimits) -> None:
        self._batcher = Batcher(limits)
        self._opened = trio.lowlevel.ParkingLot()
        self._earlier = trio.Event()
        """The open batch may be due earlier than it was."""
        self._send, self._receive = trio.open_memory_channel[Batch](HANDOVER_BATCHES)
        self._closed_records = 0
        self._closed_size = 0

    def limit(self, limits: BatchLimits) -> None:
        """Other limits from now on."""
        self._batcher.limit(limits)
        self._opened.unpark_all()
        self._earlier.set()

    @property
    def size(self) -> int:
        """Bytes of captured content in these records."""
        return self._batcher.size + self._closed_size

    @property
    def blocked(self) -> bool:
        """Records wait to be taken in: soon the workers drop."""
        return bool(self._send.statistics().tasks_waiting_send)

    @property
    def records(self) -> int:
        """Records taken in, and not settled by the encoder."""
        return self._batcher.pending + self._closed_records

    async def add(self, exchanges: list[Exchange]) -> None:
        """Take records. They count from the first moment; then waits while the encoder is behind."""
        closed = self._batcher.add(exchanges, trio.current_time())
        if self._batcher.pending:
            self._opened.unpark_all()
        await self._hand_over(closed)

    async def flush(self) -> None:
        """Close the open batch now."""
        batch = self._batcher.flush()
        await self._hand_over([batch] if batch else [])

    async def run_age_limit(self) -> None:
        """Close batches which are old enough, until cancelled."""
        while True:
            deadline = self._batcher.deadline
            if deadline is None:
                await self._opened.park()
                continue
            with trio.move_on_at(deadline):
                await self._earlier.wait()
                self._earlier = trio.Event()
            batch = self._batcher.expire(trio.current_time())
            await self._hand_over([batch] if batch else [])

    async def next(self) -> Batch:
        """The oldest closed batch, for the one encoder; ``settle`` it when it is in other hands."""
        return await self._receive.receive()

    def settle(self, batch: Batch) -> None:
        """Its records are in the queue or counted as lost: forget them."""
        self._closed_records -= len(batch.exchanges)
        self._closed_size -= batch.size

    def discard(self) -> int:
        """Forget everything, at the very end. Records that were held."""
        records = self.records
        self._batcher.flush()
        self._closed_records = self._closed_size = 0
        self._send.close()
        self._receive.close()
        return records

    async def _hand_over(self, closed: list[Batch]) -> None:
        self._closed_records += sum(len(batch.exchanges) for batch in closed)
        self._closed_size += sum(batch.size for batch in closed)
        for batch in closed:
            await self._send.send(batch)
