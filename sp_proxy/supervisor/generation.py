"""A generation: relay workers that were started with the same settings, each kept running until the generation ends.

What a worker gets: the listening sockets and one end of its channel by inheritance, its configuration (an encoded
``WorkerConfig``) in a file in memory, whose descriptor number is its only argument. What it does: sends ``Ready`` when
it accepts, drains on SIGTERM, retires on SIGUSR1 (accepts no more, ends with its last connection), exits when the channel
ends. A fresh interpreter costs more to start than a fork, but forking a process in which trio runs would copy its state
and its memory.

A worker whose channel ends while it lives on (a corrupt frame, a fault of the exporter's) serves traffic of which nobody hears
any more. It retires, and another one takes its place.
"""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from sp_proxy.core.restarts import RestartPolicy, Restarts
from sp_proxy.exporter.intake import WorkerChannel
from sp_proxy.relay.config import ListenerConfig, WorkerConfig, encode_config
from sp_proxy.supervisor.addon_watch import AddonLimits, Switchboard, Watched
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.sockets import BoundListener
from sp_proxy.supervisor.waiting import first_of

RELAY_COMMAND = (sys.executable, "-P", "-m", "sp_proxy.relay")
"""``-P``: a file in the working directory must never stand in for one of our modules."""

GRACE_MARGIN = 2.0
"""Seconds beyond the grace period after which a worker that was asked to drain is killed."""

ABORT_PATIENCE = 0.6
"""Seconds for a worker to reset its connections when everything ends at once."""
LOOK_INTERVAL = 1.0
"""Seconds between two looks at whether a worker reports, which it does as often."""
SILENT_LOOKS = 15
"""As many without a report mean that it is stuck: missed heartbeats have sent new connections past it long before."""
START_LOOKS = 30
"""As many in which it is not ready mean that it never will be: a start takes a fraction of a second."""
END_PATIENCE = 1.0
"""Seconds in which a process whose channel has ended should have ended too, if that is why."""
MAX_UNHEARD = 2
"""Workers without a channel, for each place, that still serve their last connections. When there are more, the oldest has
its grace period left."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Attach = Callable[[socket.socket, int], WorkerChannel]
"""Takes our end of a worker's channel, which it then owns, and the worker's number."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What to run."""

    count: int
    config: WorkerConfig
    """A template: number, descriptors and listeners are filled in for each process."""
    command: Sequence[str] = RELAY_COMMAND
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    pass_fds: tuple[int, ...] = ()
    """Descriptors that ``config`` names."""
    watch: AddonLimits = field(default_factory=AddonLimits)
    """Of its request hooks."""


class _Life:
    """One worker process, and what its keeper waits for."""

    def __init__(self) -> None:
        self.process: trio.Process | None = None
        self.channel: WorkerChannel | None = None
        self.over = trio.Event()
        """It has ended, could not be started, or is not heard any more."""
        self.unheard = False
        """It lives on without a channel."""
        self.said = ""
        """How it ended, or why it is not heard."""
        self.stop = trio.Event()
        """It has the grace period left."""

    def retire(self) -> None:
        """Let it end with its last connection, or at once if it is not ready."""
        if self.process is None or self.process.returncode is not None:
            return
        ready = self.channel is not None and self.channel.ready.is_set()
        self.process.send_signal(signal.SIGUSR1 if ready else signal.SIGTERM)


class Generation:
    """Must be made inside trio: patience runs from here. ``run`` keeps its workers."""

    def __init__(
        self,
        plan: WorkerPlan,
        listeners: Sequence[BoundListener],
        table: GuardTable,
        attach: Attach,
        changed: Callable[[], None],
    ) -> None:
        """``changed`` is called when a worker is ready, or has ended."""
        self.plan = plan
        self.restarts = Restarts(plan.count, plan.policy, trio.current_time())
        self.restart_total = 0
        self.addons = Switchboard(plan.config.request_addons)
        self.ever_ready: set[int] = set()
        self.ended = trio.Event()
        """No process of it is left, and none will be started."""
        self._listeners = tuple(listeners)
        self._table = table
        self._attach = attach
        self._changed = changed
        self._lives: dict[int, _Life] = {}
        """By worker, those that are heard."""
        self._unheard: dict[int, list[_Life]] = {}
        """By worker, those that are not, the oldest first."""
        self._ending = trio.Event()
        """No worker is started any more."""
        self._stopping = trio.Event()
        """Each has the grace period left."""

    @property
    def pids(self) -> dict[int, int]:
        """The process id of each worker that runs, by its number."""
        return {worker_id: life.process.pid for worker_id, life in self._lives.items() if life.process is not None}

    @property
    def complete(self) -> bool:
        """Every worker has been ready."""
        return len(self.ever_ready) == self.plan.count

    async def run(self) -> None:
        """Keep every worker running, until all have ended after ``retire`` or ``drain``. Cancelled: kills them."""
        try:
            async with trio.open_nursery() as nursery:
                for worker_id in range(self.plan.count):
                    nursery.start_soon(self._keep, nursery, worker_id)
        finally:
            self.ended.set()
            self._changed()

    def retire(self) -> None:
        """Others accept now: let each worker end with its last connection. One that is not ready is ended at once."""
        self._ending.set()
        for life in self._lives.values():
            life.retire()

    async def accepts_no_more(self) -> None:
        """Wait until that is so, after ``retire``."""
        for life in tuple(self._lives.values()):
            if life.channel is not None:
                await first_of(life.channel.retired, life.channel.ended)

    def drain(self) -> None:
        """Ask every worker to finish within the grace period; none is started any more."""
        self._ending.set()
        self._stopping.set()

    async def _keep(self, nursery: trio.Nursery, worker_id: int) -> None:
        while not self._ending.is_set():
            self.restarts.started(worker_id, trio.current_time())
            life = _Life()
            nursery.start_soon(self._live, worker_id, life)
            await life.over.wait()
            if self._ending.is_set():
                return
            # Not for secrets: jitter.
            delay = self.restarts.exited(worker_id, trio.current_time(), random.random())  # noqa: S311
            self.restart_total += 1
            event = "worker_not_heard" if life.unheard else "worker_died"
            log.error(event, worker=worker_id, ended=life.said, restart_in_seconds=round(delay, 3))
            self._changed()
            with trio.move_on_after(delay):
                await self._ending.wait()

    async def _live(self, worker_id: int, life: _Life) -> None:
        """One process, from its start to its end."""
        with ExitStack() as held:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                # Held for the life of the process: should the exporter let go of the channel, the worker drops records, and
                # counts them, but it does not take it for our death and end with all its connections.
                held.enter_context(ours)
                with theirs, ExitStack() as unstarted:
                    exporters = unstarted.enter_context(ours.dup())
                    owner = held.enter_context(self._table.enlisted())
                    watched = held.enter_context(Watched())
                    process = life.process = await self._start(worker_id, theirs, owner, watched)
                    unstarted.pop_all()
            except OSError as error:
                life.said = f"could not be started: {os.strerror(error.errno or 0).lower()}"
                life.over.set()
                return
            self._lives[worker_id] = life
            try:
                channel = life.channel = self._attach(exporters, worker_id)
                log.info("worker_started", worker=worker_id, pid=process.pid)
                if self._ending.is_set():  # while it was started
                    process.terminate()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._note_ready, worker_id, process, channel)
                    nursery.start_soon(self._note_unheard, worker_id, life, channel)
                    nursery.start_soon(self._watch_pulse, worker_id, process, channel)
                    nursery.start_soon(self._stop_when_asked, worker_id, life, process)
                    if self.plan.config.request_addons:
                        nursery.start_soon(watched.watch, process, self.plan.watch)
                    ended = describe_end(await process.wait())
                    nursery.cancel_scope.cancel()
                if (process.returncode or watched.place) and not self._ending.is_set():
                    ended = watched.stuck or ended
                    self.addons.blame(watched.place, ended)
                if life.unheard:
                    log.info("worker_stopped", worker=worker_id, pid=process.pid, ended=ended)
                else:
                    life.said = ended
                    if self._ending.is_set():
                        log.info("worker_stopped", worker=worker_id, ended=ended)
            finally:
                self._forget(worker_id, life)
                if process.returncode is None:
                    await _abort(process)
        life.over.set()
        self._changed()

    def _forget(self, worker_id: int, life: _Life) -> None:
        if life.unheard:
            self._unheard[worker_id].remove(life)
        else:
            del self._lives[worker_id]

    async def _start(self, worker_id: int, channel: socket.socket, owner: int, watched: Watched) -> trio.Process:
        config = msgspec.structs.replace(
            self.plan.config,
            worker_id=worker_id,
            channel_fd=channel.fileno(),
            loop_guard_fd=self._table.fd,
            loop_guard_owner=owner,
            listeners=tuple(_listener_config(listener) for listener in self._listeners),
            request_addons=self.addons.on,
            addon_state_fd=watched.fd,
        )
        # A file in memory and not a pipe: a long list of rules would not fit a pipe's buffer, and nobody reads yet.
        with os.fdopen(os.memfd_create("sp-proxy-worker-config"), "w+b", buffering=0) as file:
            file.write(encode_config(config))
            file.seek(0)
            sockets = [listener.socket.fileno() for listener in self._listeners]
            return await trio.lowlevel.open_process(
                [*self.plan.command, str(file.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[*sockets, channel.fileno(), self._table.fd, watched.fd, file.fileno(), *self.plan.pass_fds],
                # Ctrl-C in a terminal is ours to translate: the group of the foreground must not hold the workers.
                start_new_session=True,
            )

    async def _note_ready(self, worker_id: int, process: trio.Process, channel: WorkerChannel) -> None:
        await channel.ready.wait()
        log.info("worker_ready", worker=worker_id, pid=process.pid)
        self.restarts.ready(worker_id)
        self.ever_ready.add(worker_id)
        self._changed()

    async def _note_unheard(self, worker_id: int, life: _Life, channel: WorkerChannel) -> None:
        await channel.ended.wait()
        await trio.sleep(END_PATIENCE)  # cancelled by the end of the process
        if self._ending.is_set():
            return
        life.unheard = True
        self.addons.blame(0, "its channel has ended")
        life.said = f"its channel: {channel.error or 'ended'}"
        del self._lives[worker_id]
        others = self._unheard.setdefault(worker_id, [])
        others.append(life)
        for each in others[:-MAX_UNHEARD]:
            each.stop.set()
        life.retire()
        life.over.set()

    async def _watch_pulse(self, worker_id: int, process: trio.Process, channel: WorkerChannel) -> None:
        """Kill a worker that has reported and does not any more, or that does not become ready, stopped or stuck: it serves nobody,
        and does not die of it, nor of being asked to end.
        """
        silent, seen = 0, 0
        while silent < (SILENT_LOOKS if channel.ready.is_set() else START_LOOKS):
            await trio.sleep(LOOK_INTERVAL)
            if self._stopping.is_set() or channel.ended.is_set():
                return
            # Counted by looks and not by the clock: who has not been running has not been listening either.
            expected = seen or not channel.ready.is_set()
            silent = silent + 1 if channel.reports == seen and expected and not channel.taking else 0
            seen = channel.reports
        log.error("worker_stuck", worker=worker_id, pid=process.pid, silent_seconds=round(silent * LOOK_INTERVAL))
        process.kill()

    async def _stop_when_asked(self, worker_id: int, life: _Life, process: trio.Process) -> None:
        await first_of(self._stopping, life.stop)
        process.terminate()
        await trio.sleep(self.plan.config.grace_period + GRACE_MARGIN)
        log.error("worker_killed", worker=worker_id, pid=process.pid, reason="not drained within the grace period")
        process.kill()


async def _abort(process: trio.Process) -> None:
    """End it now, but let it reset its connections, as a worker does that is told twice to end: the kernel would end those of a
    killed process as if all had been said.
    """
    with trio.CancelScope(shield=True):
        for _ in range(3):  # it may not have been told even once, and signals that meet are one
            process.terminate()
            with trio.move_on_after(ABORT_PATIENCE / 3):
                await process.wait()
                return
        process.kill()
        await process.wait()


def _listener_config(listener: BoundListener) -> ListenerConfig:
    fd = listener.socket.fileno()
    if listener.upstream is None:
        return ListenerConfig(fd, listener.direction, proxy=listener.proxy)
    # An upstream without a host is the application beside us; an empty host would mean a transparent listener.
    return ListenerConfig(fd, listener.direction, listener.upstream.host or "localhost", listener.upstream.port)


def describe_end(status: int) -> str:
    """How a process ended, for people."""
    return f"exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
