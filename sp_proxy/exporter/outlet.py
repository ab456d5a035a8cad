"""The way of payloads to one place: a queue, and the courier that empties it.

The queue lives as long as the place is the same: what waits in it, in memory or on disk, was meant for that place and goes
nowhere else. The courier (a sink and how it is used) can be replaced while both run; nothing is lost or moved by it.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

from sp_proxy.core.retry import RetryPolicy
from sp_proxy.core.spool_index import SpoolLimits
from sp_proxy.exporter.delivery import Delivery
from sp_proxy.exporter.keeping import Keeper
from sp_proxy.exporter.queue import MemoryQueue
from sp_proxy.exporter.routes import Route, Sink, World
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.spool import Spool
from sp_proxy.exporter.spool_files import SpoolFiles
from sp_proxy.exporter.spool_queue import SpoolPolicy, SpoolQueue
from sp_proxy.exporter.stats import Ledger, SpoolStats
from sp_proxy.settings.model import SettingsModel

STOP_SECONDS = 5.0
"""For attempts that are under way when the courier is replaced; then they are cut off, and made again by the next."""


class Courier:
    """A sink, and the delivery that uses it."""

    def __init__(self, route: Route, queue: MemoryQueue | SpoolQueue, ledger: Ledger, world: World) -> None:
        settings, retry = route.settings, route.settings.retry
        self.sink: Sink = route.sink
        self.delivery = Delivery(
            queue,
            route.sink,
            RetryPolicy(
                retry.initial_interval,
                retry.max_interval,
                retry.multiplier,
                retry.randomization_factor,
                retry.max_elapsed_time,
            ),
            ledger,
            concurrency=settings.upload.concurrency if route.url else 1,
            clock=world.clock,
            randomness=world.randomness,
            name=route.name,
        )
        self._deadline = float("inf")
        self._attempts = trio.CancelScope()

    async def run(self) -> None:
        """Until ``stop``, or until cancelled. Again after a fault."""
        sink: AbstractAsyncContextManager[Any] = self.sink
        async with sink:
            with trio.CancelScope(deadline=self._deadline) as self._attempts:
                await self.delivery.run()

    def stop(self) -> None:
        """Finish what is under way, within ``STOP_SECONDS``."""
        self.delivery.stop()
        self._attempts.deadline = self._deadline = trio.current_time() + STOP_SECONDS


class Left(Struct, frozen=True):
    """What an outlet leaves at its end."""

    lost: int
    """Records that no disk took."""
    spooled: int
    """Records on disk."""


class Outlet:
    """``run`` empties the queue; ``replace`` changes how, while it runs."""

    def __init__(self, route: Route, ledger: Ledger, world: World, log: SparingLog, keeper: Keeper) -> None:
        self.route = route
        self._ledger = ledger
        self._world = world
        self._keeper = keeper
        self.queue = _queue(route, ledger, world.clock, log)
        self.courier = Courier(route, self.queue, ledger, world)
        self.left: Left | None = None
        """Set when ``run`` ends."""
        self._drain_deadline: float | None = None
        self._breakers_opened = 0
        self._ending = trio.CancelScope()

    @property
    def breaker_opened(self) -> int:
        """How often, with all couriers."""
        return self._breakers_opened + self.courier.delivery.breaker.opened

    @property
    def ending(self) -> bool:
        """``end`` was called: nothing may come to it any more."""
        return self._ending.cancel_called

    async def run(self) -> None:
        """Deliver until ``end`` or until cancelled; then keep what can be kept on disk."""
        try:
            with self._ending:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keeper.keep, f"queue:{self.route.name}", self.queue.run)
                    nursery.start_soon(self._keeper.keep, f"delivery:{self.route.name}", self._deliver)
        finally:
            with trio.CancelScope(shield=True):
                lost = await self.queue.finish()
            self.left = Left(lost, self.queue.spooled_records)

    async def _deliver(self) -> None:
        while True:
            await self.courier.run()

    def replace(self, route: Route) -> None:
        """Deliver as this route says, which leads to the same place; what waits stays where it is."""
        self.route = route
        _limit(self.queue, route)
        old, self.courier = self.courier, Courier(route, self.queue, self._ledger, self._world)
        self._breakers_opened += old.delivery.breaker.opened
        if self._drain_deadline is not None:
            self.courier.delivery.drain(self._drain_deadline)
        old.stop()

    def drain(self, deadline: float) -> None:
        """See ``Delivery.drain``."""
        self._drain_deadline = deadline
        self.courier.delivery.drain(deadline)

    def end(self) -> None:
        """Have ``run`` end."""
        self._ending.cancel()

    def spool_stats(self) -> SpoolStats:
        """The disk's side."""
        return self.queue.spool_stats() if isinstance(self.queue, SpoolQueue) else SpoolStats()


def _queue(route: Route, ledger: Ledger, clock: Callable[[], float], log: SparingLog) -> MemoryQueue | SpoolQueue:
    settings = route.settings
    memory = MemoryQueue(settings.queue.max_records, settings.queue.max_size)
    if route.directory is None:
        return memory
    disk = Spool(
        SpoolFiles(Path(route.directory), fsync=settings.spool.fsync),
        _spool_limits(settings),
        clock=clock,
        on_recovered=ledger.recover,
        on_lost=ledger.drop,
    )
    return SpoolQueue(memory, disk, _spool_policy(settings), log)


def _limit(queue: MemoryQueue | SpoolQueue, route: Route) -> None:
    settings = route.settings
    bounds = (settings.queue.max_records, settings.queue.max_size)
    if isinstance(queue, SpoolQueue):
        queue.limit(*bounds, _spool_policy(settings), _spool_limits(settings), fsync=settings.spool.fsync)
    else:
        queue.limit(*bounds)


def _spool_limits(settings: SettingsModel) -> SpoolLimits:
    return SpoolLimits(settings.spool.max_size, settings.spool.max_age)


def _spool_policy(settings: SettingsModel) -> SpoolPolicy:
    queue, spool = settings.queue, settings.spool
    return SpoolPolicy(
        "always" if spool.mode == "always" else "overflow",
        above_records=int(queue.max_records * spool.overflow_above),
        above_bytes=int(queue.max_size * spool.overflow_above),
        after=spool.overflow_after,
    )
