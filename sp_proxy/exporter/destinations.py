"""The running destinations: each a name with its own books, an outlet, and outlets of before that finish.

They share nothing but the bytes of the payloads, so one that is down does not stop the others. A destination whose place
changes while it runs begins a new outlet; the old one delivers what it has, where it was meant to go, for
``retry.max_elapsed_time`` at most, then leaves it on disk.
"""

from collections.abc import Callable

import trio

from sp_proxy.exporter.encode import Form, Payload
from sp_proxy.exporter.keeping import Keeper
from sp_proxy.exporter.outlet import Outlet
from sp_proxy.exporter.routes import Route, World
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.stats import DestinationStats, DropReason, Ledger

PATIENCE = 300.0
"""Seconds for an outlet that finishes, where ``retry.max_elapsed_time`` knows no limit."""


class Destination:
    """A running destination. ``append`` hands it a payload; ``run`` does the rest."""

    def __init__(
        self,
        route: Route,
        world: World,
        *,
        on_settled: Callable[[], None] = lambda: None,
        keeper: Keeper | None = None,
    ) -> None:
        """Its stages are kept running by ``keeper``; without one, by one of its own."""
        self.name = route.name
        self.form: Form = route.form
        self.ended = False
        """Retired, and nothing of it is left to do."""
        self._world = world
        self._keeper = keeper or Keeper(randomness=world.randomness)
        self._on_settled = on_settled
        self._news = trio.Event()
        self._ledger = Ledger(self._settled)
        self._log = SparingLog(exporter=route.name)
        self._outlet = Outlet(route, self._ledger, world, self._log, self._keeper)
        self._older: list[Outlet] = []
        self._elsewhere = 0
        self._left_at: int | None = None
        self._spooled_before = 0
        self._nursery: trio.Nursery | None = None

    @property
    def outlet(self) -> Outlet:
        """The one that takes new payloads."""
        return self._outlet

    @property
    def size(self) -> int:
        """Bytes of payloads in memory."""
        return sum(each.queue.size for each in self._outlets)

    @property
    def active_records(self) -> int:
        """Records that may still be sent in this life."""
        return sum(each.queue.active_records for each in self._outlets)

    @property
    def retired(self) -> bool:
        """The settings know it no more: it takes nothing new."""
        return self._left_at is not None

    def append(self, payload: Payload) -> None:
        """Take a payload, or lose it, counted. Never waits, never fails."""
        try:
            taken = self._outlet.queue.append(payload)
        except Exception as error:  # noqa: BLE001 (a fault of ours here is not to stop the other destinations)
            self._log.fault("append_failed", error, records_dropped=payload.records)
            self._ledger.drop("internal_error", payload.records)
            return
        if not taken:
            self._ledger.drop("queue_full", payload.records)
            self._log.warning("queue_full", records_dropped=payload.records)

    async def run(self) -> None:
        """Deliver until retired and done, or until cancelled; then keep what can be kept on disk, and count the rest as
        lost.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for outlet in self._outlets:
                nursery.start_soon(self._run, outlet)
        self.ended = True
        self._on_settled()

    def follow(self, route: Route) -> None:
        """Deliver by this route from now on."""
        self.form = route.form
        if (
            not self._outlet.ending
            and route.manner == self._outlet.route.manner
            and route.place == self._outlet.route.place
        ):
            return
        if route.place == self._outlet.route.place and not self._outlet.ending:
            self._outlet.replace(route)
            return
        old = self._outlet
        back = next((each for each in self._older if each.route.place == route.place and not each.ending), None)
        if back is not None:
            # Its spool is its own until it ends, so what comes for its place goes to it again.
            self._older.remove(back)
            back.replace(route)
            self._outlet = back
        else:
            self._outlet = Outlet(route, self._ledger, self._world, self._log, self._keeper)
            if self._nursery is not None:
                self._nursery.start_soon(self._run, self._outlet)
        if old.left is not None:
            self._spooled_before += old.left.spooled
        else:
            self._older.append(old)
            if self._nursery is not None:
                self._nursery.start_soon(self._see_out, old)

    def join(self, encoded: int) -> None:
        """It exists from now on, again or for the first time; so many records were encoded before."""
        if self._left_at is None:
            self._elsewhere += encoded
        else:
            self._elsewhere += encoded - self._left_at
            self._left_at = None

    def retire(self, encoded: int) -> None:
        """The settings know it no more: deliver what it has, then end. So many records were encoded up to now."""
        self._left_at = encoded
        if self._nursery is not None:
            self._nursery.start_soon(self._see_out, self._outlet)

    def drain(self, deadline: float) -> None:
        """See ``Delivery.drain``."""
        for outlet in self._outlets:
            outlet.drain(deadline)

    def stats(self, encoded: int = 0) -> DestinationStats:
        """A snapshot, when so many records have been encoded for whichever destinations there were."""
        ledger, outlets, current = self._ledger, self._outlets, self._outlet
        delivery = current.courier.delivery
        return DestinationStats(
            name=self.name,
            elsewhere=self._elsewhere + (encoded - self._left_at if self._left_at is not None else 0),
            recovered=ledger.recovered,
            accepted=ledger.accepted,
            rejected=ledger.rejected,
            rejections=dict(ledger.rejections),
            dropped=dict(ledger.dropped),
            waiting_queue=sum(each.queue.waiting_records for each in outlets),
            spooled=self._spooled_before + sum(each.queue.spooled_records for each in outlets),
            in_flight=sum(each.queue.leased_records for each in outlets),
            queue_bytes=self.size,
            spool=current.spool_stats(),
            uploads=dict(ledger.uploads),
            unreadable_answers=ledger.unreadable_answers,
            bytes_sent=ledger.bytes_sent,
            concurrency=delivery.concurrency,
            breaker=delivery.breaker.state,
            breaker_opened=current.breaker_opened,
            last_error=ledger.last_error,
            last_success_unix=ledger.last_success_unix,
        )

    @property
    def _outlets(self) -> list[Outlet]:
        return [self._outlet, *self._older]

    async def _run(self, outlet: Outlet) -> None:
        try:
            await outlet.run()
        finally:
            # Without an await: the records change hands in the books.
            assert outlet.left is not None
            reason: DropReason = "retries_exhausted" if outlet.ending else "shutdown"
            if outlet in self._older:
                self._older.remove(outlet)
                self._spooled_before += outlet.left.spooled
            self._ledger.drop(reason, outlet.left.lost)
            if outlet.left.lost:
                event = "records_lost_after_reload" if outlet.ending else "records_lost_at_shutdown"
                self._log.warning(event, records_dropped=outlet.left.lost)

    async def _see_out(self, outlet: Outlet) -> None:
        """End an outlet that takes nothing new when it has nothing left, or too much for too long."""
        patience = outlet.route.settings.retry.max_elapsed_time or PATIENCE
        with trio.move_on_after(patience):
            while outlet.queue.active_records and self._is_leaving(outlet):
                await self._news.wait()
        if self._is_leaving(outlet):
            outlet.end()

    def _is_leaving(self, outlet: Outlet) -> bool:
        return outlet in self._older or (outlet is self._outlet and self.retired)

    def _settled(self) -> None:
        self._news.set()
        self._news = trio.Event()
        self._on_settled()
