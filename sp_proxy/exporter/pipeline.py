"""The exporter: all stages, who owns which task, and the order of its end.

``worker channels → intake → batch → encode → (for each destination: queue and spool → delivery)``. Redaction is a part
of encoding: whatever leaves the encoder may be written and sent.

All that is held in memory is counted together. At ``exporter.max_memory`` new records are dropped, before they cost
anything more: neither the traffic nor what is older waits for room.

The end, in order: wait for what the workers still have to say (at most half of the time), close the open batch, deliver
until nothing waits or the deadline is reached, cancel, put what is left into the spools, count what no spool took as
dropped. A hard cancel does the last three as well.
"""

import random
import socket
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import structlog
import trio

from sp_proxy import regex
from sp_proxy.core.batching import BatchLimits, content_size
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.batch import BatchStage
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.destinations import Destination, World, plans, spool_directories
from sp_proxy.exporter.encode import Encoded, Encoder, Form
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.stats import ExporterStats, IntakeLedger
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import redaction_config

RESERVED_BYTES = 16 << 20
"""Of the ceiling, for frames that are being read: the sender's buffer, 16 MiB, is the most that one worker can send at once."""
ENCODING_FACTOR = 4
"""Bytes that encoding a batch takes beside its content: spans, the request, its parts joined, the compressed one."""

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
        """``environ`` says what host and pod this is; ``clock`` tells unix time.

        Raises ValueError, one line for a person, for settings that cannot be used.
        """
        batch = settings.batch
        self._ledger = IntakeLedger()
        self._reports = WorkerReports()
        self._batches = BatchStage(BatchLimits(batch.max_records, batch.max_size, batch.flush_timeout))
        self._max_held = settings.exporter.max_memory - RESERVED_BYTES
        self._encoding_bytes = 0
        self._destinations = _destinations(settings, environ, World(clock, randomness), self._on_settled)
        forms: list[Form] = []
        for destination in self._destinations:
            if destination.form not in forms:
                forms.append(destination.form)
        self._takers = [[each for each in self._destinations if each.form == form] for form in forms]
        self._encoder = Encoder(
            SpanEncoder(
                decode_body,
                max_body_size=settings.capture.max_body_size,
                tags=settings.tags,
                redaction=Redactor(redaction_config(settings), regex),
            ).encode_span,
            forms,
            max_request_bytes=settings.upload.max_request_size,
        )
        self._log = SparingLog()
        self._channels: set[WorkerChannel] = set()
        self._nursery: trio.Nursery | None = None
        self._settled = trio.Event()
        self._finished = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until ``drain`` is done or until cancelled. Once only."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._batches.run_age_limit)
                nursery.start_soon(self._encode)
                for destination in self._destinations:
                    nursery.start_soon(destination.run)
                self._nursery = nursery
                task_status.started()
        finally:
            self._nursery = None
            lost = self._batches.discard()
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
        for destination in self._destinations:
            destination.delivery.drain(deadline)
        with trio.move_on_at(deadline):
            await self._batches.flush()
            while self._batches.records or any(each.queue.active_records for each in self._destinations):
                await self._settled.wait()
                self._settled = trio.Event()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        await self._finished.wait()

    @property
    def held_bytes(self) -> int:
        """Captured content and payloads in memory, what encoding takes for the moment included."""
        queues = sum(destination.queue.size for destination in self._destinations)
        return self._batches.size + self._encoding_bytes + queues

    def stats(self) -> ExporterStats:
        """A snapshot; ``balanced`` at any await point."""
        return ExporterStats(
            captured=self._ledger.captured,
            shed=dict(self._ledger.shed),
            waiting_batch=self._batches.records,
            held_bytes=self.held_bytes,
            channel_dropped=self._reports.channel_dropped(),
            channel_errors=self._reports.channel_errors,
            destinations=tuple(destination.stats() for destination in self._destinations),
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
        if self.held_bytes + sum(map(content_size, exchanges)) > self._max_held:
            self._ledger.drop("memory_limit", len(exchanges))
            self._log.warning("memory_limit", records_dropped=len(exchanges), held_bytes=self.held_bytes)
            await trio.lowlevel.checkpoint()
            return
        await self._batches.add(exchanges)

    async def _encode(self) -> None:
        """The only encoder: one batch at a time, in a thread, as it takes milliseconds and compression lets others
        run meanwhile.
        """
        while True:
            batch = await self._batches.next()
            self._encoding_bytes = ENCODING_FACTOR * batch.size
            try:
                encoded = await trio.to_thread.run_sync(self._encoder.encode, batch.exchanges, abandon_on_cancel=True)
            except Exception as error:  # noqa: BLE001 (a fault of our own costs this batch, not the daemon)
                self._log.fault("encode_failed", error, records_dropped=len(batch.exchanges))
                encoded = Encoded([], {"internal_error": len(batch.exchanges)})
            finally:
                self._encoding_bytes = 0
            # From here on without an await: the records change hands in the books.
            self._batches.settle(batch)
            for payloads, takers in zip(encoded.forms, self._takers, strict=False):
                for payload in payloads:
                    for destination in takers:
                        destination.append(payload)
            for reason, records in encoded.lost.items():
                self._ledger.drop(reason, records)
                self._log.warning("records_lost_in_encoding", reason=reason, records_dropped=records)
            self._on_settled()


def _destinations(
    settings: SettingsModel, environ: Mapping[str, str], world: World, on_settled: Callable[[], None]
) -> list[Destination]:
    spools = spool_directories(settings, environ)
    if not spools and settings.spool.mode != "off":
        structlog.get_logger().warning(
            "spool_off", reason="no directory can be written: set spool.directory, or spool.mode to off"
        )
    return [
        Destination(settings, plan, world, spool_directory=spools.get(plan.name), on_settled=on_settled)
        for plan in plans(settings, environ)
    ]
