"""The life of the mitm worker: started at once or on first need, replaced when it is old or large, started again when it dies.

Its processes are ``engine_process``'s; what relay workers hand over to it waits in ``handed_over``.
"""

import random
import signal
from typing import Literal

import structlog
import trio

from sp_proxy.core.restarts import Restarts
from sp_proxy.supervisor.engine_process import EnginePlan, EngineProcess, EngineProcesses, resident_memory
from sp_proxy.supervisor.generation import Attach
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.handed_over import HandedOver, PassThrough
from sp_proxy.supervisor.waiting import first_of

MAX_RETIRED = 2
"""Replaced workers that still serve their last connections. When there are more, the oldest has its grace period left."""
LOOK_INTERVAL = 5.0
REPLACEMENT_PAUSE = 60.0
"""Seconds until the next attempt, when a worker could not be replaced."""

State = Literal["waiting", "ready", "down"]
"""``waiting``: for the first connection that needs it."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class EngineError(Exception):
    """No worker came up with another plan; the one before goes on. The message is one line for a person."""


class _Request:
    """To replace the worker that runs."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failed = False


class Engine:
    """Must be made inside trio."""

    def __init__(
        self,
        plan: EnginePlan,
        table: GuardTable,
        attach: Attach,
        pass_through: PassThrough,
    ) -> None:
        self._plan = plan
        self._attach = attach
        self._handed_over = HandedOver(pass_through)
        self._draining = trio.Event()
        self._replanned = trio.Event()
        self._request: _Request | None = None
        self._restarts = Restarts(1, plan.policy, trio.current_time())
        self._processes = EngineProcesses(table, self._handed_over.receiving, self._draining)
        self._retired: list[EngineProcess] = []
        self.state: State = "waiting"
        self.restart_total = 0
        self.replacement_total = 0

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a relay worker inherits: where it sends to, and the state. Valid until ``close``."""
        return self._handed_over.descriptors

    @property
    def pids(self) -> list[int]:
        """Process ids, the newest last."""
        return [each.pid for each in self._processes.alive]

    @property
    def diverted_total(self) -> int:
        """Connections on their way to a worker that died or did not start: passed through raw."""
        return self._handed_over.diverted_total

    def close(self) -> None:
        """Release the sockets, after ``run``."""
        self._handed_over.close()

    def drain(self) -> None:
        """Ask every worker to finish; none is started any more."""
        self._draining.set()

    @property
    def needed(self) -> bool:
        """Whether anything may be handed over."""
        return self._plan.needed or self._plan.eager

    async def reload(self, plan: EnginePlan, attach: Attach) -> None:
        """Serve by another plan. A worker that runs is replaced; the one before ends with its last connection, when the new
        one is ready. Raises EngineError.
        """
        before = self._plan, self._attach
        self._plan, self._attach = plan, attach
        request = self._request = _Request()
        self._replanned.set()
        self._replanned = trio.Event()
        if self.state == "ready":
            while not (request.done.is_set() or self._draining.is_set()):
                await first_of(request.done, self._draining, timeout=LOOK_INTERVAL)
        if request.failed:
            self._plan, self._attach = before
            raise EngineError("the mitmproxy worker did not become ready with these settings")

    async def run(self) -> None:
        """Serve until all workers have ended after ``drain``. Cancelled: kills them."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._handed_over.divert, nursery)
            serves = False
            while not self._draining.is_set():
                if serves or self._plan.eager:
                    serves = await self._keep_one(nursery)
                else:
                    serves = await self._needed()
            self._set_state("down")
            alive = self._processes.alive
            for each in alive:
                self._stop(nursery, each)
            while alive:
                await alive[0].exited.wait()
            nursery.cancel_scope.cancel()

    # ---- deciding

    async def _keep_one(self, nursery: trio.Nursery) -> bool:
        """Start a worker, and stay until it has died or the daemon drains; replacements included. False when it is needed no
        more.
        """
        self._restarts.started(0, trio.current_time())
        self._settle()  # it starts by the plan of now
        life = await self._processes.launch(nursery, self._plan, self._attach)
        while life is not None and not life.exited.is_set() and not self._draining.is_set():
            self._restarts.ready(0)
            self._set_state("ready")
            if self._request is not None:
                if not self.needed:
                    log.info("mitm_worker_not_needed", pid=life.pid)
                    self._retire(nursery, life)
                    self._set_state("waiting")
                    self._settle()
                    return False
                new = await self._replace(nursery, life, "reload", pause=0.0)
                self._settle(failed=new is None)
                life = new or life
                continue
            happened = (life.exited, self._draining, self._replanned)
            if await first_of(*happened, life.unheard, timeout=LOOK_INTERVAL) and not life.unheard.is_set():
                continue
            if (reason := self._worn_out(life)) and (new := await self._replace(nursery, life, reason)) is not None:
                life = new
        self._settle()
        if self._draining.is_set():
            return False
        self._set_state("down")
        delay = self._restarts.exited(0, trio.current_time(), random.random())  # noqa: S311  # jitter
        self.restart_total += 1
        ended = life.ended if life is not None else "did not become ready"
        log.error("mitm_worker_died", ended=ended, restart_in_seconds=round(delay, 3))
        await first_of(self._draining, self._replanned, timeout=delay)
        return True

    def _settle(self, *, failed: bool = False) -> None:
        """What was asked for is done: nothing is left to be replaced."""
        if self._request is not None:
            self._request.failed = failed
            self._request.done.set()
            self._request = None

    def _worn_out(self, life: EngineProcess) -> str:
        if life.unheard.is_set():
            return "channel"
        age = trio.current_time() - life.started
        if self._plan.max_age and age > self._plan.max_age:
            return "age"
        memory = resident_memory(life.pid)
        return "memory" if memory > self._plan.max_memory else ""

    async def _replace(
        self, nursery: trio.Nursery, old: EngineProcess, reason: str, *, pause: float = REPLACEMENT_PAUSE
    ) -> EngineProcess | None:
        new = await self._processes.launch(nursery, self._plan, self._attach)
        if new is None:
            await first_of(old.exited, self._draining, self._replanned, timeout=pause)
            return None
        log.info("mitm_worker_replaced", reason=reason, old=old.pid, new=new.pid)
        self.replacement_total += 1
        self._retire(nursery, old)
        return new

    def _retire(self, nursery: trio.Nursery, life: EngineProcess) -> None:
        life.send(signal.SIGUSR1)
        self._retired = [each for each in (*self._retired, life) if not each.exited.is_set()]
        while len(self._retired) > MAX_RETIRED:
            self._stop(nursery, self._retired.pop(0))

    def _stop(self, nursery: trio.Nursery, life: EngineProcess) -> None:
        nursery.start_soon(life.stop, self._plan.config.grace_period)

    def _set_state(self, state: State) -> None:
        self.state = state
        self._handed_over.are_taken(state != "down")

    async def _needed(self) -> bool:
        """Return when there is something to serve, or the daemon drains, or has another plan. Whether there is."""
        self._settle()
        found = False
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                nonlocal found
                await self._handed_over.wait()
                found = True
                nursery.cancel_scope.cancel()

            async def wait_for(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait)
            nursery.start_soon(wait_for, self._replanned)
            await self._draining.wait()
            nursery.cancel_scope.cancel()
        return found
