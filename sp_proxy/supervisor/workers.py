"""Relay workers: fresh processes that inherit the listening sockets, started again when they die.

What a worker gets: the listening sockets and one end of its channel by inheritance, its configuration (an encoded
``WorkerConfig``) in a file in memory, whose descriptor number is its only argument. What it does: sends ``Ready`` when
it accepts, drains on SIGTERM, exits when the channel ends. A fresh interpreter costs more to start than a fork, but
forking a process in which trio runs would copy its state and its memory.
"""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from sp_proxy.core.restarts import RestartPolicy, Restarts
from sp_proxy.exporter.intake import WorkerChannel
from sp_proxy.relay.config import ListenerConfig, WorkerConfig, encode_config
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.sockets import BoundListener

RELAY_COMMAND = (sys.executable, "-P", "-m", "sp_proxy.relay")
"""``-P``: a file in the working directory must never stand in for one of our modules."""

GRACE_MARGIN = 2.0
"""Seconds beyond the grace period after which a worker that was asked to drain is killed."""

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


class Workers:
    """The workers, and the record of their lives. One task for each runs in ``run``."""

    def __init__(self, plan: WorkerPlan, listeners: Sequence[BoundListener], table: GuardTable, attach: Attach) -> None:
        """Must be made inside trio: patience runs from here."""
        self._plan = plan
        self._listeners = tuple(listeners)
        self._table = table
        self._attach = attach
        self._pids: dict[int, int] = {}
        self._draining = trio.Event()
        self._changed = trio.Event()
        self.restarts = Restarts(plan.count, plan.policy, trio.current_time())
        self.restart_total = 0
        self.ever_ready: set[int] = set()

    @property
    def count(self) -> int:
        """How many workers there should be."""
        return self._plan.count

    @property
    def pids(self) -> dict[int, int]:
        """The process id of each worker that runs, by its number."""
        return dict(self._pids)

    async def run(self) -> None:
        """Keep every worker running, until all have ended after ``drain``. Cancelled: kills them."""
        async with trio.open_nursery() as nursery:
            for worker_id in range(self._plan.count):
                nursery.start_soon(self._keep, worker_id)

    def drain(self) -> None:
        """Ask every worker to finish; none is started any more."""
        self._draining.set()
        self._notify()

    async def wait_change(self, deadline: float | None = None) -> None:
        """Return when a worker became ready, or has ended, or all were told to drain; or at the deadline."""
        with trio.CancelScope(deadline=float("inf") if deadline is None else deadline):
            await self._changed.wait()

    @property
    def draining(self) -> bool:
        """Whether ``drain`` was called."""
        return self._draining.is_set()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _keep(self, worker_id: int) -> None:
        while not self._draining.is_set():
            self.restarts.started(worker_id, trio.current_time())
            ended = await self._live(worker_id)
            if self._draining.is_set():
                log.info("worker_stopped", worker=worker_id, ended=ended)
                self._notify()
                return
            # Not for secrets: jitter.
            delay = self.restarts.exited(worker_id, trio.current_time(), random.random())  # noqa: S311
            self.restart_total += 1
            log.error("worker_died", worker=worker_id, ended=ended, restart_in_seconds=round(delay, 3))
            self._notify()
            with trio.move_on_after(delay):
                await self._draining.wait()

    async def _live(self, worker_id: int) -> str:
        """One process, from its start to its end. Returns how it ended."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # Held for the life of the process: should the exporter let go of the channel, the worker drops records, and
        # counts them, but it does not take it for our death and end with all its connections.
        with ours, self._table.enlisted() as owner:
            try:
                with theirs:
                    process = await self._start(worker_id, theirs, owner)
            except OSError as error:
                return f"could not be started: {os.strerror(error.errno or 0).lower()}"
            try:
                self._pids[worker_id] = process.pid
                log.info("worker_started", worker=worker_id, pid=process.pid)
                channel = self._attach(ours.dup(), worker_id)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._note_ready, worker_id, channel)
                    nursery.start_soon(self._stop_when_draining, worker_id, process)
                    status = await process.wait()
                    nursery.cancel_scope.cancel()
                return describe_end(status)
            finally:
                self._pids.pop(worker_id, None)
                if process.returncode is None:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()

    async def _start(self, worker_id: int, channel: socket.socket, owner: int) -> trio.Process:
        config = msgspec.structs.replace(
            self._plan.config,
            worker_id=worker_id,
            channel_fd=channel.fileno(),
            loop_guard_fd=self._table.fd,
            loop_guard_owner=owner,
            listeners=tuple(_listener_config(listener) for listener in self._listeners),
        )
        # A file in memory and not a pipe: a long list of rules would not fit a pipe's buffer, and nobody reads yet.
        with os.fdopen(os.memfd_create("sp-proxy-worker-config"), "w+b", buffering=0) as file:
            file.write(encode_config(config))
            file.seek(0)
            sockets = [listener.socket.fileno() for listener in self._listeners]
            return await trio.lowlevel.open_process(
                [*self._plan.command, str(file.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[*sockets, channel.fileno(), self._table.fd, file.fileno(), *self._plan.pass_fds],
                # Ctrl-C in a terminal is ours to translate: the group of the foreground must not hold the workers.
                start_new_session=True,
            )

    async def _note_ready(self, worker_id: int, channel: WorkerChannel) -> None:
        await channel.ready.wait()
        log.info("worker_ready", worker=worker_id, pid=self._pids[worker_id])
        self.restarts.ready(worker_id)
        self.ever_ready.add(worker_id)
        self._notify()

    async def _stop_when_draining(self, worker_id: int, process: trio.Process) -> None:
        await self._draining.wait()
        process.terminate()
        await trio.sleep(self._plan.config.grace_period + GRACE_MARGIN)
        log.error("worker_killed", worker=worker_id, pid=process.pid, reason="not drained within the grace period")
        process.kill()


def _listener_config(listener: BoundListener) -> ListenerConfig:
    fd = listener.socket.fileno()
    if listener.upstream is None:
        return ListenerConfig(fd, listener.direction)
    # An upstream without a host is the application beside us; an empty host would mean a transparent listener.
    return ListenerConfig(fd, listener.direction, listener.upstream.host or "localhost", listener.upstream.port)


def describe_end(status: int) -> str:
    """How a process ended, for people."""
    return f"exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
