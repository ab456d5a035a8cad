"""The exporter: all stages, who owns which task, and the order of its end.

``worker channels → intake → batch → encode → (for each destination: queue and spool → delivery)``. Redaction is a part
of encoding: whatever leaves the encoder may be written and sent.

All that is held in memory is counted together. At ``exporter.max_memory`` new records are dropped, before they cost
anything more: neither the traffic nor what is older waits for room.

A fault in a stage costs what the stage had in its hands, counted as ``internal_error``; it is begun again (``keeping.py``).

Other settings, at run time: ``prepare`` finds all that is wrong with them, ``open_edition`` makes ready for workers that are
started with them, ``apply`` puts them in force between two batches. No record is lost by it, and the books balance throughout.

The end, in order: wait for what the workers still have to say (at most half of the time), close the open batch, deliver
until nothing waits or the deadline is reached, cancel, put what is left into the spools, count what no spool took as
dropped. A hard cancel does the last three as well.
"""

import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import trio
from msgspec import Struct

from sp_proxy.addons.source import AddonFile
from sp_proxy.addons.stage import AddonPool
from sp_proxy.core.batching import BatchLimits, content_size
from sp_proxy.core.exchange import Exchange
from sp_proxy.exporter.destinations import Destination
from sp_proxy.exporter.edition import Content, Edition
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from sp_proxy.exporter.keeping import Keeper
from sp_proxy.exporter.routes import Route, World, routes
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.stats import ExporterStats, IntakeLedger
from sp_proxy.settings.model import SettingsModel

RESERVED_BYTES = 16 << 20
"""Of the ceiling, for what a frame takes when it becomes records: some 4 MiB, or one record of the largest size."""
HASTE_SECONDS = 0.1
"""Age of an open batch during the drain."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Prepared(Struct, frozen=True, eq=False):
    """Settings of which all that can be wrong has been tried."""

    settings: SettingsModel
    content: Content
    routes: list[Route]

    @property
    def limits(self) -> BatchLimits:
        """Of batches."""
        batch = self.settings.batch
        return BatchLimits(batch.max_records, batch.max_size, batch.flush_timeout)


class Exporter:
    """Takes worker channels, delivers their records, accounts for each. Made once; ``run`` lives in the supervisor's
    nursery.
    """

    def __init__(
        self,
        settings: SettingsModel,
        environ: Mapping[str, str] = _NOTHING,
        *,
        addons: Sequence[AddonFile] | None = None,
        clock: Callable[[], float] = time.time,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        """``environ`` says what host and pod this is; ``addons`` are their files, where they have been read; ``clock`` tells unix time.

        Raises ValueError, one line for a person, for settings that cannot be used.
        """
        self._environ = environ
        self._world = World(clock, randomness)
        self._ledger = IntakeLedger()
        self._reports = WorkerReports()
        self._log = SparingLog()
        self._keeper = Keeper(randomness=randomness)
        self._addons = AddonPool()
        self._channels: set[WorkerChannel] = set()
        self._nursery: trio.Nursery | None = None
        self._settled = trio.Event()
        self._finished = trio.Event()
        self._encoding = trio.Lock()
        """Held while a batch is encoded: one at a time, and between two of them settings may change."""
        prepared = self.prepare(settings, addons)
        self._prepared = prepared
        self._destinations = [self._make_destination(route) for route in prepared.routes]
        self._edition = self._make_edition(prepared.content, prepared.limits)
        self._editions = [self._edition]
        """The one in force, and those of workers that were started before or are about to be."""
        self._send_to_destinations()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until ``drain`` is done or until cancelled. Once only."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for edition in self._editions:
                    nursery.start_soon(self._run_edition, edition)
                for destination in self._destinations:
                    nursery.start_soon(self._run_destination, destination)
                task_status.started()
        finally:
            self._nursery = None
            self._addons.keep(())
            lost = sum(edition.batches.discard() for edition in self._editions)
            self._ledger.drop("shutdown", lost)
            if lost:
                self._log.warning("records_lost_at_shutdown", records_dropped=lost)
            self._finished.set()

    def attach(self, sock: socket.socket, worker_id: int = 0, edition: Edition | None = None) -> WorkerChannel:
        """Read a worker's channel from now on: a connected Unix stream socket, owned and closed by the exporter.

        ``worker_id`` names the worker in the counters, over its restarts; its records are of the edition in force,
        unless another one is given. Raises RuntimeError when ``run`` is not running.
        """
        if self._nursery is None:
            sock.close()
            raise RuntimeError("the exporter is not running")
        channel = WorkerChannel(worker_id)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        edition = edition if edition in self._editions else self._edition
        assert edition is not None
        edition.channels.add(channel)
        self._channels.add(channel)
        self._nursery.start_soon(self._receive, stream, channel, edition)
        return channel

    def hasten(self, deadline: float) -> None:
        """The end has begun, and is at the deadline (trio's clock) at the latest: batches wait no longer than they must, and
        what waits for another attempt makes it now. What carries the uploads (Istio's Envoy, the network) may end before us.
        """
        limits = self._prepared.limits
        soon = BatchLimits(limits.max_records, limits.max_bytes, min(limits.flush_timeout, HASTE_SECONDS))
        for edition in self._editions:
            edition.batches.limit(soon)
        for destination in self._destinations:
            destination.drain(deadline)

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
            destination.drain(deadline)
        with trio.move_on_at(deadline):
            for edition in tuple(self._editions):
                await edition.batches.flush()
            while self._waiting_batch or any(each.active_records for each in self._destinations):
                await self._settled.wait()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        await self._finished.wait()

    # ---- other settings

    def prepare(self, settings: SettingsModel, addons: Sequence[AddonFile] | None = None) -> Prepared:
        """Try settings. ``addons``: their files, where they have been read. Raises ValueError, one line for a person, for what cannot
        be used; nothing has changed then.
        """
        return Prepared(settings, Content(settings, addons), routes(settings, self._environ, self._world))

    def differs(self, prepared: Prepared) -> bool:
        """Whether payloads would go elsewhere, or another way, or addons have changed: files may have, and the settings not."""
        if prepared.content.addons != self._prepared.content.addons:
            return True
        return [each.manner for each in prepared.routes] != [each.manner for each in self._prepared.routes]

    def open_edition(self, prepared: Prepared) -> Edition:
        """Be ready for the channels of workers that are started with these settings. ``apply`` or ``abandon`` follows."""
        edition = self._make_edition(prepared.content, prepared.limits)
        self._editions.append(edition)
        edition.send_to(self._takers, self._prepared.settings.upload.max_request_size)
        if self._nursery is not None:
            self._nursery.start_soon(self._run_edition, edition)
        return edition

    def abandon(self, edition: Edition) -> None:
        """The settings of this edition do not come into force. Channels that it has are read to their end."""
        edition.supersede(self._edition.content)
        self._send_to_destinations()
        self._close_if_done(edition)

    async def apply(self, prepared: Prepared, edition: Edition | None = None) -> None:
        """Put settings in force; with an edition, for the workers that it was opened for. Waits for a batch that is being
        encoded.
        """
        async with self._encoding:
            self._apply(prepared, edition)

    def _apply(self, prepared: Prepared, edition: Edition | None) -> None:
        if edition is None:
            self._edition.change(prepared.content)
        else:
            self._edition = edition
        for each in self._editions:
            each.batches.limit(prepared.limits)
            if each is not self._edition:
                each.supersede(prepared.content)
        self._prepared = prepared
        encoded = self._encoded
        known = {each.name: each for each in self._destinations if not each.ended}
        for route in prepared.routes:
            destination = known.pop(route.name, None)
            if destination is None:
                destination = self._make_destination(route)
                destination.join(encoded)
                self._destinations.append(destination)
                if self._nursery is not None:
                    self._nursery.start_soon(self._run_destination, destination)
                continue
            if destination.retired:
                destination.join(encoded)
            destination.follow(route)
        for destination in known.values():
            if not destination.retired:
                destination.retire(encoded)
        self._send_to_destinations()
        self._keep_addons()
        for each in tuple(self._editions):
            self._close_if_done(each)

    # ---- what there is

    @property
    def held_bytes(self) -> int:
        """Captured content and payloads in memory; what hooks and encoding take for the moment, and frames that are being read, too."""
        frames = sum(channel.pending_bytes for channel in self._channels)
        batches = sum(each.batches.size + each.worked_bytes + each.encoding_bytes for each in self._editions)
        batches += self._addons.answered_bytes
        return frames + batches + sum(destination.size for destination in self._destinations)

    def stats(self) -> ExporterStats:
        """A snapshot; ``balanced`` at any await point."""
        encoded = self._encoded
        return ExporterStats(
            captured=self._ledger.captured,
            shed=dict(self._ledger.shed),
            waiting_batch=self._waiting_batch,
            held_bytes=self.held_bytes,
            channel_dropped=self._reports.channel_dropped(),
            channel_errors=self._reports.channel_errors,
            destinations=tuple(destination.stats(encoded) for destination in self._destinations),
            workers=self._reports.snapshot(),
            faults=dict(self._keeper.faults),
            down=tuple(self._keeper.down),
            addons=self._addons.stats(),
        )

    @property
    def _waiting_batch(self) -> int:
        return sum(each.batches.records for each in self._editions)

    @property
    def _encoded(self) -> int:
        """Records that have become payloads, for whichever destinations there were."""
        return self._ledger.captured - self._ledger.shed.total() - self._waiting_batch

    @property
    def _takers(self) -> list[Destination]:
        return [each for each in self._destinations if not each.retired]

    def _make_destination(self, route: Route) -> Destination:
        return Destination(route, self._world, on_settled=self._on_settled, keeper=self._keeper)

    def _make_edition(self, content: Content, limits: BatchLimits) -> Edition:
        return Edition(content, limits, self._encoding, self._ledger, self._keeper, self._addons)

    def _keep_addons(self) -> None:
        """Those that no edition has any more end."""
        self._addons.keep(plan for edition in self._editions for plan in edition.addons)

    def _send_to_destinations(self) -> None:
        takers = self._takers
        for edition in self._editions:
            edition.send_to(takers, self._prepared.settings.upload.max_request_size)

    def _on_settled(self) -> None:
        self._settled.set()
        self._settled = trio.Event()

    # ---- tasks

    async def _run_destination(self, destination: Destination) -> None:
        await destination.run()
        self._destinations.remove(destination)
        self._on_settled()

    async def _run_edition(self, edition: Edition) -> None:
        await edition.run(partial(self._after_batch, edition))
        self._editions.remove(edition)
        self._keep_addons()

    def _after_batch(self, edition: Edition) -> None:
        self._on_settled()
        self._close_if_done(edition)

    def _close_if_done(self, edition: Edition) -> None:
        """One that nothing comes to any more."""
        if edition.superseded and not edition.channels and not edition.batches.records:
            edition.close()

    async def _receive(self, stream: trio.SocketStream, channel: WorkerChannel, edition: Edition) -> None:
        try:
            await receive(stream, channel, self._reports, partial(self._take, edition))
        finally:
            self._channels.discard(channel)
            edition.channels.discard(channel)
        if edition.superseded:
            await edition.batches.flush()
            self._close_if_done(edition)

    async def _take(self, edition: Edition, exchanges: list[Exchange]) -> None:
        self._ledger.captured += len(exchanges)
        max_held = self._prepared.settings.exporter.max_memory - RESERVED_BYTES
        if self.held_bytes + sum(map(content_size, exchanges)) > max_held:
            self._ledger.drop("memory_limit", len(exchanges))
            self._log.warning("memory_limit", records_dropped=len(exchanges), held_bytes=self.held_bytes)
            await trio.lowlevel.checkpoint()
            return
        await edition.batches.add(exchanges)
