"""The exporter: all stages, who owns which task, and the order of its end.

``worker channels → intake → batch → encode → queue → delivery``. A stage that redacts goes between intake and batch
(``_take``); a spool is another ``SendingQueue``; a further destination is another queue with another ``Delivery``.

The end, in order: wait for what the workers still have to say (at most half of the time), close the open batch, deliver
until nothing waits or the deadline is reached, cancel, count what is left as dropped. A hard cancel counts it as well.
"""

import random
import socket
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import trio

from sp_proxy.core.batching import BatchLimits
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.retry import RetryPolicy
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.batch import BatchStage
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.delivery import Delivery
from sp_proxy.exporter.encode import Encoded, Encoder
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from sp_proxy.exporter.queue import MemoryQueue
from sp_proxy.exporter.resource import resource_attributes
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.stats import ExporterStats, Ledger
from sp_proxy.exporter.upload import OtlpHttp
from sp_proxy.settings.model import SettingsModel

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Exporter:
    """Takes worker channels, delivers their records, accounts for each. Made once; ``run`` lives in the supervisor's
    nursery.
    """

    def __init__(
        self,
        settings: SettingsModel,
        environ: Mapping[str, str] = _NOTHING,
        *,
        clock: Callable[[], float] = time.time,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        """``environ`` says what host and pod this is; ``clock`` tells unix time. Raises ValueError, one line for a person, for settings that cannot be used."""
        batch, queue, retry = settings.batch, settings.queue, settings.retry
        self._ledger = Ledger(self._on_settled)
        self._reports = WorkerReports()
        self._batches = BatchStage(BatchLimits(batch.max_records, batch.max_size, batch.flush_timeout))
        self._encoder = Encoder(
            SpanEncoder(decode_body, max_body_size=settings.capture.max_body_size, tags=settings.tags).encode_span,
            resource_attributes(settings, environ),
            compression=settings.upload.compression,
        )
        self._queue = MemoryQueue(queue.max_records, queue.max_size)
        self._destination = OtlpHttp(settings.sp_backend_url, settings.public_key, settings.upload, clock)
        self._delivery = Delivery(
            self._queue,
            self._destination,
            RetryPolicy(
                retry.initial_interval,
                retry.max_interval,
                retry.multiplier,
                retry.randomization_factor,
                retry.max_elapsed_time,
            ),
            self._ledger,
            concurrency=settings.upload.concurrency,
            clock=clock,
            randomness=randomness,
        )
        self._log = SparingLog()
        self._channels: set[WorkerChannel] = set()
        self._nursery: trio.Nursery | None = None
        self._settled = trio.Event()
        self._finished = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until ``drain`` is done or until cancelled. Once only."""
        try:
            async with self._destination, trio.open_nursery() as nursery:
                nursery.start_soon(self._batches.run_age_limit)
                nursery.start_soon(self._encode)
                nursery.start_soon(self._delivery.run)
                self._nursery = nursery
                task_status.started()
        finally:
            self._nursery = None
            lost = self._batches.discard() + self._queue.discard()
            self._ledger.drop("shutdown", lost)
            if lost:
                self._log.warning("records_lost_at_shutdown", records_dropped=lost)
            self._finished.set()

    def attach(self, sock: socket.socket, worker_id: int = 0) -> WorkerChannel:
        """Read a worker's channel from now on: a connected Unix stream socket, owned and closed by the exporter.

        ``worker_id`` names the worker in the counters, over its restarts. Raises RuntimeError when ``run`` is not
        running.
        """
        if self._nursery is None:
            sock.close()
            raise RuntimeError("the exporter is not running")
        channel = WorkerChannel(worker_id)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._nursery.start_soon(self._receive, stream, channel)
        self._channels.add(channel)
        return channel

    async def drain(self, deadline: float) -> None:
        """Deliver what waits, until the deadline (trio's clock); count the rest as dropped; end ``run``.

        The workers should have been told to stop before: while one goes on, half of the time is spent listening to it.
        """
        if self._nursery is None:
            return
        now = trio.current_time()
        with trio.move_on_at(now + max(deadline - now, 0) / 2):
            for channel in tuple(self._channels):
                await channel.finished()
        self._delivery.drain(deadline)
        with trio.move_on_at(deadline):
            await self._batches.flush()
            while self.stats().waiting:
                await self._settled.wait()
                self._settled = trio.Event()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        await self._finished.wait()

    def stats(self) -> ExporterStats:
        """A snapshot; ``balanced`` at any await point."""
        ledger, queue = self._ledger, self._queue
        return ExporterStats(
            captured=ledger.captured,
            accepted=ledger.accepted,
            rejected=ledger.rejected,
            dropped=dict(ledger.dropped),
            waiting_batch=self._batches.records,
            waiting_queue=queue.records - queue.leased_records,
            in_flight=queue.leased_records,
            queue_bytes=queue.size,
            channel_dropped=self._reports.channel_dropped(),
            channel_errors=self._reports.channel_errors,
            uploads=dict(ledger.uploads),
            unreadable_answers=ledger.unreadable_answers,
            bytes_sent=ledger.bytes_sent,
            last_error=ledger.last_error,
            last_success_unix=ledger.last_success_unix,
            workers=self._reports.snapshot(),
        )

    def _on_settled(self) -> None:
        self._settled.set()

    async def _receive(self, stream: trio.SocketStream, channel: WorkerChannel) -> None:
        try:
            await receive(stream, channel, self._reports, self._take)
        finally:
            self._channels.discard(channel)

    async def _take(self, exchanges: list[Exchange]) -> None:
        self._ledger.captured += len(exchanges)
        await self._batches.add(exchanges)

    async def _encode(self) -> None:
        """The only encoder: one batch at a time, in a thread, as it takes milliseconds and compression lets others
        run meanwhile.
        """
        while True:
            batch = await self._batches.next()
            try:
                encoded = await trio.to_thread.run_sync(self._encoder.encode, batch.exchanges, abandon_on_cancel=True)
            except Exception as error:  # noqa: BLE001 (a fault of our own costs this batch, not the daemon)
                self._log.fault("encode_failed", error, records_dropped=len(batch.exchanges))
                encoded = Encoded([], {"internal_error": len(batch.exchanges)})
            # From here on without an await: the records change hands in the books.
            self._batches.settle(batch)
            for payload in encoded.payloads:
                if not self._queue.append(payload):
                    self._ledger.drop("queue_full", payload.records)
                    self._log.warning("queue_full", records_dropped=payload.records)
            for reason, records in encoded.lost.items():
                self._ledger.drop(reason, records)
                self._log.warning("records_lost_in_encoding", reason=reason, records_dropped=records)
