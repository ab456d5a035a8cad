"""The relay workers: the generation that accepts, and earlier ones that serve their last connections.

Other settings are another generation, on the same listening sockets: it is started beside the present one, which goes on
until every new worker is ready, and then retires. So no connection is refused and none is dropped, and settings with which
workers do not start never come into force.
"""

from collections.abc import Sequence

import structlog
import trio

from sp_proxy.core.restarts import Restarts
from sp_proxy.supervisor.generation import Attach, Generation, WorkerPlan
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.sockets import BoundListener

START_PATIENCE = 30.0
"""Seconds after which workers that are not ready are taken for ones that will never be: they need a fraction of one."""

RETIRE_PATIENCE = 10.0
"""Seconds to wait until the generation before accepts no more. One that is stuck does so later, or never."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ReplaceError(Exception):
    """Another generation did not come up; the one before goes on. The message is one line for a person."""


class Workers:
    """All generations. ``run`` keeps them."""

    def __init__(self, plan: WorkerPlan, listeners: Sequence[BoundListener], table: GuardTable, attach: Attach) -> None:
        """Must be made inside trio: patience runs from here."""
        self._table = table
        self._changed = trio.Event()
        self._draining = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._current = Generation(plan, listeners, table, attach, self._notify)
        self._others: list[Generation] = []
        """Earlier ones, and one that is about to take over."""
        self._restarts_before = 0

    @property
    def count(self) -> int:
        """How many workers there should be."""
        return self._current.plan.count

    @property
    def pids(self) -> dict[int, int]:
        """The process id of each worker of the present generation that runs, by its number."""
        return self._current.pids

    @property
    def retired(self) -> int:
        """Processes of other generations."""
        return sum(len(each.pids) for each in self._others)

    @property
    def restarts(self) -> Restarts:
        """The record of the present generation."""
        return self._current.restarts

    @property
    def restart_total(self) -> int:
        """Workers that died and were started again."""
        return self._restarts_before + sum(each.restart_total for each in (self._current, *self._others))

    @property
    def ever_ready(self) -> set[int]:
        """Workers of the present generation that have been ready."""
        return self._current.ever_ready

    @property
    def draining(self) -> bool:
        """Whether ``drain`` was called."""
        return self._draining.is_set()

    async def run(self) -> None:
        """Keep every worker running, until all have ended after ``drain``. Cancelled: kills them."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._run, self._current)
            await self._draining.wait()

    def drain(self) -> None:
        """Ask every worker to finish; none is started any more."""
        self._draining.set()
        for each in (self._current, *self._others):
            each.drain()
        self._notify()

    async def replace(
        self,
        plan: WorkerPlan,
        listeners: Sequence[BoundListener],
        attach: Attach,
        *,
        retire_timeout: float = 0.0,
    ) -> None:
        """Start a generation, and have the present one retire when it is ready: within ``retire_timeout`` seconds it ends by
        itself, then it has its grace period left; 0 means never. Raises ReplaceError.
        """
        if self._nursery is None or self.draining:
            raise ReplaceError("the daemon is ending")
        new = Generation(plan, listeners, self._table, attach, self._notify)
        self._others.append(new)
        self._nursery.start_soon(self._run, new)
        with trio.move_on_after(START_PATIENCE):
            while not (new.complete or new.restart_total or self.draining):
                await self.wait_change()
        if self.draining:
            raise ReplaceError("the daemon is ending")
        if new.restart_total or not new.complete:
            new.retire()
            reason = "ended before it was ready" if new.restart_total else f"was not ready within {START_PATIENCE:g} s"
            raise ReplaceError(f"a worker with these settings {reason}")
        old, self._current = self._current, new
        self._others.remove(new)
        self._others.append(old)
        log.info("workers_replaced", workers=plan.count, retired=self.retired)
        old.retire()
        with trio.move_on_after(RETIRE_PATIENCE):
            await old.accepts_no_more()
        self._notify()
        if retire_timeout:
            self._nursery.start_soon(self._hurry, old, retire_timeout)

    async def wait_change(self, deadline: float | None = None) -> None:
        """Return when a worker became ready, or has ended, or all were told to drain; or at the deadline."""
        with trio.CancelScope(deadline=float("inf") if deadline is None else deadline):
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _run(self, generation: Generation) -> None:
        await generation.run()
        if generation in self._others:
            self._others.remove(generation)
            self._restarts_before += generation.restart_total

    @staticmethod
    async def _hurry(generation: Generation, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await generation.ended.wait()
            return
        log.warning("retired_workers_stopped", after_seconds=seconds, processes=len(generation.pids))
        generation.drain()
