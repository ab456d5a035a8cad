"""The exporter, kept from harming traffic: a fault in it ends delivery, never a worker.

Its stages are kept running by itself (``exporter/keeping.py``), so this is for what cannot be. After such a fault the
workers' channels are still read, so that the supervisor hears when a worker is ready, and what comes is counted as
lost.
"""

import socket

import structlog
import trio
from msgspec import structs

from sp_proxy.core.exchange import Exchange
from sp_proxy.exporter.edition import Edition
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.exporter.stats import ExporterStats

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Capture:
    """Owns the exporter's task. ``attach`` works while ``run`` runs, whatever becomes of the exporter."""

    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self.running = False
        self.lost_total = 0
        """Records that came after the exporter had failed."""
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._run_exporter)
            task_status.started()
            await trio.sleep_forever()

    def attach(self, sock: socket.socket, worker_id: int, edition: Edition | None = None) -> WorkerChannel:
        """Read a worker's channel, which is owned and closed by us from now on."""
        if self.running:
            return self.exporter.attach(sock, worker_id, edition)
        assert self._nursery is not None
        channel = WorkerChannel(worker_id)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._nursery.start_soon(receive, stream, channel, WorkerReports(), self._lose)
        return channel

    def stats(self) -> ExporterStats:
        """The exporter's, and what was lost without it."""
        stats = self.exporter.stats()
        if not self.lost_total:
            return stats
        return structs.replace(stats, channel_dropped=stats.channel_dropped | {"exporter_failed": self.lost_total})

    def hasten(self, deadline: float) -> None:
        """Deliver at once what there is and what comes: the drain has begun, and ends at the deadline."""
        if self.running:
            self.exporter.hasten(deadline)

    async def drain(self, deadline: float) -> None:
        """Deliver what waits until the deadline (trio's clock); a fault meanwhile ends it early."""
        try:
            await self.exporter.drain(deadline)
        except Exception:
            log.exception("exporter_drain_failed")

    async def _run_exporter(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.exporter.run)
                self.running = True
                task_status.started()
        except* Exception:
            if not self.running:
                raise
            log.exception("exporter_failed", consequence="traffic goes on, nothing is delivered until a restart")
        finally:
            self.running = False

    async def _lose(self, exchanges: list[Exchange]) -> None:
        self.lost_total += len(exchanges)
        await trio.lowlevel.checkpoint()
