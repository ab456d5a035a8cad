"""The mitm worker: started at once or on first need, replaced when it has grown old or large, started again when it dies.

Relay workers hand connections over through one socket whose receiving end is held here too, so what they send waits in the
kernel while a worker starts, and survives its death. While no worker can serve, relay workers are told so (they then keep
what they would hand over), and what is on its way already is passed through raw by this process.
"""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import structlog
import trio

from sp_proxy.core.restarts import RestartPolicy, Restarts
from sp_proxy.exporter.intake import WorkerChannel
from sp_proxy.mitm.config import CA_KEY_FILE, MitmConfig, TlsConfig, encode_config
from sp_proxy.relay.handoff import STATE_BYTES, EngineState, HandOverEndedError, receive
from sp_proxy.supervisor.generation import END_PATIENCE, GRACE_MARGIN, Attach, describe_end
from sp_proxy.supervisor.guard_table import GuardTable

MITM_COMMAND = (sys.executable, "-P", "-m", "sp_proxy.mitm")
FIRST_WORKER_ID = 64
"""Relay workers have the numbers below (``relay.workers`` is at most 64)."""
MAX_RETIRED = 2
"""Replaced workers that still serve their last connections. When there are more, the oldest has its grace period left."""
START_PATIENCE = 15.0
"""Seconds after which a worker that is not ready is taken for one that will never be: mitmproxy needs two to start."""
LOOK_INTERVAL = 5.0
REPLACEMENT_PAUSE = 60.0
"""Seconds until the next attempt, when a worker could not be replaced."""

State = Literal["waiting", "ready", "down"]
"""``waiting``: for the first connection that needs it."""
PassThrough = Callable[[socket.socket, tuple[str, int], bytes], Awaitable[None]]
"""Takes over a client's connection, its destination and what it has said, and relays it raw."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What to run, and for how long."""

    config: MitmConfig
    """A template: number and descriptors are filled in for each process."""
    needed: bool = True
    """Whether relay workers hand anything over; an earlier generation of them may do so in any case."""
    eager: bool = False
    max_memory: int = 512 << 20
    """Bytes."""
    max_age: float = 0.0
    """Seconds; 0: no limit."""
    command: Sequence[str] = MITM_COMMAND
    policy: RestartPolicy = field(default_factory=RestartPolicy)


class EngineError(Exception):
    """No worker came up with another plan; the one before goes on. The message is one line for a person."""


class _Request:
    """To replace the worker that runs."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failed = False


class _Life:
    """One process."""

    def __init__(self, process: trio.Process, slot: int) -> None:
        self.process = process
        self.slot = slot
        self.started = trio.current_time()
        self.ready = trio.Event()
        self.exited = trio.Event()
        self.unheard = trio.Event()
        """It lives on without a channel."""
        self.ended = ""

    def send(self, number: signal.Signals) -> None:
        """A signal, unless it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(number)


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
        self._table = table
        self._attach = attach
        self._pass_through = pass_through
        self._sending, self._receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._receiving.setblocking(False)
        self._state_fd = os.memfd_create("sp-proxy-engine-state")
        os.truncate(self._state_fd, STATE_BYTES)
        self._shared = EngineState(self._state_fd)
        self._shared.takes = True
        self._draining = trio.Event()
        self._down = trio.Event()
        self._replanned = trio.Event()
        self._request: _Request | None = None
        self._restarts = Restarts(1, plan.policy, trio.current_time())
        self._lives: list[_Life] = []
        self._retired: list[_Life] = []
        self.state: State = "waiting"
        self.restart_total = 0
        self.replacement_total = 0
        self.diverted_total = 0
        """Connections on their way to a worker that died or did not start: passed through raw."""

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a relay worker inherits: where it sends to, and the state. Valid until ``close``."""
        return self._sending.fileno(), self._state_fd

    @property
    def pids(self) -> list[int]:
        """Process ids, the newest last."""
        return [life.process.pid for life in self._lives]

    def close(self) -> None:
        """Release the sockets, after ``run``."""
        self._sending.close()
        self._receiving.close()
        os.close(self._state_fd)

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
                await self._first_of(request.done, self._draining, timeout=LOOK_INTERVAL)
        if request.failed:
            self._plan, self._attach = before
            raise EngineError("the mitmproxy worker did not become ready with these settings")

    async def run(self) -> None:
        """Serve until all workers have ended after ``drain``. Cancelled: kills them."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._divert, nursery)
            serves = False
            while not self._draining.is_set():
                if serves or self._plan.eager:
                    serves = await self._keep_one(nursery)
                else:
                    serves = await self._needed()
            self._set_state("down")
            for life in self._lives:
                nursery.start_soon(self._stop, life)
            while self._lives:
                await self._lives[0].exited.wait()
            nursery.cancel_scope.cancel()

    # ---- deciding

    async def _keep_one(self, nursery: trio.Nursery) -> bool:
        """Start a worker, and stay until it has died or the daemon drains; replacements included. False when it is needed no
        more.
        """
        self._restarts.started(0, trio.current_time())
        self._settle()  # it starts by the plan of now
        life = await self._launch(nursery)
        while life is not None and not life.exited.is_set() and not self._draining.is_set():
            self._restarts.ready(0)
            self._set_state("ready")
            if self._request is not None:
                if not self.needed:
                    log.info("mitm_worker_not_needed", pid=life.process.pid)
                    self._retire(nursery, life)
                    self._set_state("waiting")
                    self._settle()
                    return False
                new = await self._replace(nursery, life, "reload", pause=0.0)
                self._settle(failed=new is None)
                life = new or life
                continue
            happened = (life.exited, self._draining, self._replanned)
            if await self._first_of(*happened, life.unheard, timeout=LOOK_INTERVAL) and not life.unheard.is_set():
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
        await self._first_of(self._draining, self._replanned, timeout=delay)
        return True

    def _settle(self, *, failed: bool = False) -> None:
        """What was asked for is done: nothing is left to be replaced."""
        if self._request is not None:
            self._request.failed = failed
            self._request.done.set()
            self._request = None

    def _worn_out(self, life: _Life) -> str:
        if life.unheard.is_set():
            return "channel"
        age = trio.current_time() - life.started
        if self._plan.max_age and age > self._plan.max_age:
            return "age"
        memory = resident_memory(life.process.pid)
        return "memory" if memory > self._plan.max_memory else ""

    async def _replace(
        self, nursery: trio.Nursery, old: _Life, reason: str, *, pause: float = REPLACEMENT_PAUSE
    ) -> _Life | None:
        new = await self._launch(nursery)
        if new is None:
            await self._first_of(old.exited, self._draining, self._replanned, timeout=pause)
            return None
        log.info("mitm_worker_replaced", reason=reason, old=old.process.pid, new=new.process.pid)
        self.replacement_total += 1
        self._retire(nursery, old)
        return new

    def _retire(self, nursery: trio.Nursery, life: _Life) -> None:
        life.send(signal.SIGUSR1)
        self._retired = [each for each in (*self._retired, life) if not each.exited.is_set()]
        while len(self._retired) > MAX_RETIRED:
            nursery.start_soon(self._stop, self._retired.pop(0))

    def _set_state(self, state: State) -> None:
        self.state = state
        self._shared.takes = state != "down"
        if state == "down":
            self._down.set()
        elif self._down.is_set():
            self._down = trio.Event()

    async def _needed(self) -> bool:
        """Return when there is something to serve, or the daemon drains, or has another plan. Whether there is."""
        self._settle()
        found = False
        async with trio.open_nursery() as nursery:

            async def wait(sock: socket.socket) -> None:
                nonlocal found
                await trio.lowlevel.wait_readable(sock)
                found = True
                nursery.cancel_scope.cancel()

            async def wait_for(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait, self._receiving)
            nursery.start_soon(wait_for, self._replanned)
            await self._draining.wait()
            nursery.cancel_scope.cancel()
        return found

    @staticmethod
    async def _first_of(*events: trio.Event, timeout: float) -> bool:  # noqa: ASYNC109  # a time to look again
        """Whether one of them happened in time."""
        with trio.move_on_after(timeout):
            async with trio.open_nursery() as nursery:

                async def wait(event: trio.Event) -> None:
                    await event.wait()
                    nursery.cancel_scope.cancel()

                for event in events:
                    nursery.start_soon(wait, event)
        return any(event.is_set() for event in events)

    # ---- processes

    async def _launch(self, nursery: trio.Nursery) -> _Life | None:
        """A worker that is ready; None when there is none in time."""
        try:
            life = await nursery.start(self._live)
        except OSError as error:
            log.error("mitm_worker_not_started", reason=os.strerror(error.errno or 0).lower())  # noqa: TRY400
            return None
        if await self._first_of(life.ready, life.exited, self._draining, timeout=START_PATIENCE):
            return None if life.exited.is_set() else life
        log.error("mitm_worker_not_ready", pid=life.process.pid, waited_seconds=START_PATIENCE)
        life.send(signal.SIGKILL)
        return None

    async def _live(self, *, task_status: trio.TaskStatus[_Life]) -> None:
        """One process, from its start to its end."""
        slot = min(set(range(len(self._lives) + 1)) - {life.slot for life in self._lives})
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, self._table.enlisted() as owner:  # as for relay workers: a lost channel must not look like our death
            with theirs:
                process = await self._start(FIRST_WORKER_ID + slot, theirs, owner)
            life = _Life(process, slot)
            self._lives.append(life)
            try:
                log.info("mitm_worker_started", worker=FIRST_WORKER_ID + slot, pid=process.pid)
                channel = self._attach(ours.dup(), FIRST_WORKER_ID + slot)
                task_status.started(life)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._note_ready, life, channel.ready)
                    nursery.start_soon(self._note_unheard, life, channel)
                    life.ended = describe_end(await process.wait())
                    nursery.cancel_scope.cancel()
                log.info("mitm_worker_ended", pid=process.pid, ended=life.ended)
            finally:
                self._lives.remove(life)
                life.exited.set()
                if process.returncode is None:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()

    @staticmethod
    async def _note_ready(life: _Life, ready: trio.Event) -> None:
        await ready.wait()
        life.ready.set()
        log.info("mitm_worker_ready", pid=life.process.pid)

    async def _note_unheard(self, life: _Life, channel: WorkerChannel) -> None:
        await channel.ended.wait()
        await trio.sleep(END_PATIENCE)  # cancelled by the end of the process
        if not self._draining.is_set():
            log.error("mitm_worker_not_heard", pid=life.process.pid, reason=f"its channel: {channel.error or 'ended'}")
            life.unheard.set()

    async def _start(self, worker_id: int, channel: socket.socket, owner: int) -> trio.Process:
        config = msgspec.structs.replace(
            self._plan.config,
            worker_id=worker_id,
            channel_fd=channel.fileno(),
            handover_fd=self._receiving.fileno(),
            loop_guard_fd=self._table.fd,
            loop_guard_owner=owner,
        )
        with _configuration(encode_config(config)) as fd:
            return await trio.lowlevel.open_process(
                [*self._plan.command, str(fd)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[fd, channel.fileno(), self._receiving.fileno(), self._table.fd],
                start_new_session=True,
            )

    async def _stop(self, life: _Life) -> None:
        life.send(signal.SIGTERM)
        if not await self._first_of(life.exited, timeout=self._plan.config.grace_period + GRACE_MARGIN):
            log.error("mitm_worker_killed", pid=life.process.pid, reason="not drained within the grace period")
            life.send(signal.SIGKILL)

    # ---- while there is none

    async def _divert(self, nursery: trio.Nursery) -> None:
        """Pass through what was handed over and has no worker to take it."""
        while True:
            await self._down.wait()
            await trio.lowlevel.wait_readable(self._receiving)
            if self.state != "down":
                continue
            try:
                taken = receive(self._receiving)
            except BlockingIOError:
                continue
            except HandOverEndedError:
                return
            except OSError as error:
                log.warning("hand_over_failed", reason=os.strerror(error.errno or 0).lower())
                await trio.sleep(1)
                continue
            if taken is not None:
                self.diverted_total += 1
                nursery.start_soon(self._pass_through, taken[0], taken[1].destination, taken[1].prefix)


@contextmanager
def _configuration(data: bytes) -> Iterator[int]:
    """A file in memory to be read from its beginning by a child."""
    with os.fdopen(os.memfd_create("sp-proxy-mitm-config"), "w+b", buffering=0) as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


def resident_memory(pid: int) -> int:
    """Bytes in memory now (proc(5), statm); 0 for a process that is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGESIZE")


def check_authority(tls: TlsConfig) -> None:
    """Raises ValueError, one line for a person, if TLS is to be intercepted and there is no authority to do it with."""
    if not tls.intercept:
        return
    path = Path(tls.ca_file) if tls.ca_file else Path(tls.ca_directory) / CA_KEY_FILE
    key = "tls.ca_file" if tls.ca_file else "tls.ca_directory"
    hint = "" if tls.ca_file else " (sp-proxy ca init makes one)"
    try:
        readable = os.access(path, os.R_OK) and path.is_file()
    except OSError:
        readable = False
    if not readable:
        reason = "cannot be read" if path.exists() else "does not exist"
        raise ValueError(f"{key}: {path} {reason}; needed because of tls.intercept{hint}")
