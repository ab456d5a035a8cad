"""Intake: the frames of one worker's channel become records for the next stage, and counters.

A worker restart begins new totals, on a new channel: what is added up are differences, so a counter here never falls.
A stream that cannot be read (a broken or foreign sender) costs its channel, which is closed and counted, never more.
"""

from collections import Counter
from collections.abc import Awaitable, Callable

import structlog
import trio

from sp_proxy.channel.frames import Drained, FrameError, FrameReader, Ready, Records, Retired, Totals
from sp_proxy.core.exchange import Exchange
from sp_proxy.exporter.stats import WorkerStats

RECEIVE_BYTES = 256 * 1024
CHANNEL_DROPPED = "channel_dropped"
"""The counter, by reason, in which a worker announces what it could not send."""
DROPPED = "dropped"
"""Likewise, what sampling and its share of the limits had no room for."""

Consume = Callable[[list[Exchange]], Awaitable[None]]
"""Takes received records. May wait: then the channel fills up, and the worker drops and counts."""


class WorkerChannel:
    """One connection of one worker, from ``attach`` to its end: what the supervisor may wait for."""

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self.ready = trio.Event()
        """The worker accepts connections."""
        self.retired = trio.Event()
        """The worker accepts no more."""
        self.drained = trio.Event()
        """The worker has said that nothing follows; all of it has been taken."""
        self.ended = trio.Event()
        """End of file, or the channel was closed because of ``error``."""
        self.error = ""
        """Why it could not be read on; empty for an orderly end."""
        self.reports = 0
        """So many totals have come: a worker sends them once a second."""
        self.taking = False
        """What has come is being taken, and what comes meanwhile waits."""
        self.pending_bytes = 0
        """Of a frame that is not whole yet."""

    async def finished(self) -> None:
        """Wait until no more records will come."""
        async with trio.open_nursery() as nursery:
            for event in (self.drained, self.ended):
                nursery.start_soon(_cancel_after, event, nursery.cancel_scope)


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


class WorkerReports:
    """What all workers have reported in their totals, added up by worker id."""

    def __init__(self) -> None:
        self._counters: dict[int, Counter[str]] = {}
        self._gauges: dict[WorkerChannel, dict[str, float]] = {}
        """Of the channels that are open: a worker that was replaced may still serve beside its successor."""
        self.channel_errors = 0

    def connect(self, channel: WorkerChannel) -> None:
        """A channel begins."""
        self._gauges[channel] = {}
        self._counters.setdefault(channel.worker_id, Counter())

    def disconnect(self, channel: WorkerChannel) -> None:
        """A channel has ended. Its gauges go with it; its counters stay."""
        del self._gauges[channel]

    def add(self, channel: WorkerChannel, before: Totals, now: Totals) -> None:
        """Two consecutive totals of one channel."""
        counters = self._counters[channel.worker_id]
        for name, value in now.counters.items():
            counters[name] += max(value - before.counters.get(name, 0), 0)
        self._gauges[channel] = dict(now.gauges)

    def channel_dropped(self) -> dict[str, int]:
        """Records that workers lost before the channel, by reason."""
        dropped: Counter[str] = Counter()
        for counters in self._counters.values():
            for name, value in counters.items():
                kind, _, reason = name.partition(":")
                if kind in {CHANNEL_DROPPED, DROPPED} and reason:
                    dropped[reason] += value
        return dict(dropped)

    def snapshot(self) -> tuple[WorkerStats, ...]:
        """By worker id; the gauges of processes with the same one are added up."""
        open_channels: dict[int, list[dict[str, float]]] = {}
        for channel, gauges in self._gauges.items():
            open_channels.setdefault(channel.worker_id, []).append(gauges)
        return tuple(
            WorkerStats(worker_id, worker_id in open_channels, dict(counters), _sum(open_channels.get(worker_id, [])))
            for worker_id, counters in sorted(self._counters.items())
        )


def _sum(gauges: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in gauges for name in each)
    return {name: sum(each.get(name, 0) for each in gauges) for name in names}


async def receive(
    stream: trio.abc.ReceiveStream, channel: WorkerChannel, reports: WorkerReports, consume: Consume
) -> None:
    """Read a channel to its end, then close it. Raises nothing that the worker could cause."""
    worker_id = channel.worker_id
    reports.connect(channel)
    reader = FrameReader()
    totals = Totals()
    try:
        async with stream:
            while data := await stream.receive_some(RECEIVE_BYTES):
                reader.feed(data)
                while (message := reader.next()) is not None:
                    channel.pending_bytes = reader.pending
                    match message:
                        case Records(exchanges):
                            channel.taking = True
                            await consume(exchanges)
                            channel.taking = False
                        case Totals():
                            channel.reports += 1
                            reports.add(channel, totals, message)
                            totals = message
                        case Ready():
                            channel.ready.set()
                        case Retired():
                            channel.retired.set()
                        case Drained():
                            channel.drained.set()
                channel.pending_bytes = reader.pending
            if reader.pending:
                raise FrameError(f"the stream ended within a frame, after {reader.pending} bytes")
    except (FrameError, trio.BrokenResourceError) as error:
        channel.error = str(error) or type(error).__name__
        reports.channel_errors += 1
        structlog.get_logger().warning("channel_closed", worker_id=worker_id, reason=channel.error)
    except Exception as error:  # noqa: BLE001 (a fault of our own costs this channel, not the daemon)
        channel.error = f"internal error: {error}"
        reports.channel_errors += 1
        structlog.get_logger().exception("channel_closed", worker_id=worker_id)
    finally:
        reports.disconnect(channel)
        channel.ended.set()
