"""The processes of the mitm worker: what each is started with, when it is ready, how it ends.

It inherits the end of its channel, the socket on which connections are handed over, the loop guard's table, and its configuration (an
encoded ``MitmConfig``) in a file in memory, whose descriptor number is its only argument.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
import trio

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.exporter.intake import WorkerChannel
from sp_proxy.mitm.config import MitmConfig, encode_config
from sp_proxy.supervisor.generation import END_PATIENCE, GRACE_MARGIN, Attach, describe_end
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.waiting import first_of

MITM_COMMAND = (sys.executable, "-P", "-m", "sp_proxy.mitm")
FIRST_WORKER_ID = 64
"""Relay workers have the numbers below (``relay.workers`` is at most 64)."""
START_PATIENCE = 15.0
"""Seconds after which a worker that is not ready is taken for one that will never be: mitmproxy needs two to start."""

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


class EngineProcess:
    """One of them, from its start to its end."""

    def __init__(self, process: trio.Process, slot: int) -> None:
        self._process = process
        self.slot = slot
        self.started = trio.current_time()
        self.ready = trio.Event()
        self.exited = trio.Event()
        self.unheard = trio.Event()
        """It lives on without a channel."""
        self.ended = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """A signal, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def stop(self, grace_period: float) -> None:
        """Ask it to finish, and kill it when it has not within so many seconds and the margin."""
        self.send(signal.SIGTERM)
        if not await first_of(self.exited, timeout=grace_period + GRACE_MARGIN):
            log.error("mitm_worker_killed", pid=self.pid, reason="not drained within the grace period")
            self.send(signal.SIGKILL)


class EngineProcesses:
    """Those that live."""

    def __init__(self, table: GuardTable, receiving: int, draining: trio.Event) -> None:
        """``receiving``: the descriptor on which they are handed connections. ``draining``: nothing is waited for any more."""
        self._table = table
        self._receiving = receiving
        self._draining = draining
        self.alive: list[EngineProcess] = []
        """The newest last."""

    async def launch(self, nursery: trio.Nursery, plan: EnginePlan, attach: Attach) -> EngineProcess | None:
        """A worker that is ready; None when there is none in time."""
        try:
            life: EngineProcess = await nursery.start(self._live, plan, attach)
        except OSError as error:
            log.error("mitm_worker_not_started", reason=os.strerror(error.errno or 0).lower())  # noqa: TRY400
            return None
        if await first_of(life.ready, life.exited, self._draining, timeout=START_PATIENCE):
            return None if life.exited.is_set() else life
        log.error("mitm_worker_not_ready", pid=life.pid, waited_seconds=START_PATIENCE)
        life.send(signal.SIGKILL)
        return None

    async def _live(self, plan: EnginePlan, attach: Attach, *, task_status: trio.TaskStatus[EngineProcess]) -> None:
        slot = min(set(range(len(self.alive) + 1)) - {life.slot for life in self.alive})
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, self._table.enlisted() as owner:  # as for relay workers: a lost channel must not look like our death
            with theirs:
                process = await self._start(plan, FIRST_WORKER_ID + slot, theirs, owner)
            life = EngineProcess(process, slot)
            self.alive.append(life)
            try:
                log.info("mitm_worker_started", worker=FIRST_WORKER_ID + slot, pid=process.pid)
                channel = attach(ours.dup(), FIRST_WORKER_ID + slot)
                task_status.started(life)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._note_ready, life, channel.ready)
                    nursery.start_soon(self._note_unheard, life, channel)
                    life.ended = describe_end(await process.wait())
                    nursery.cancel_scope.cancel()
                log.info("mitm_worker_ended", pid=process.pid, ended=life.ended)
            finally:
                self.alive.remove(life)
                life.exited.set()
                if process.returncode is None:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()

    @staticmethod
    async def _note_ready(life: EngineProcess, ready: trio.Event) -> None:
        await ready.wait()
        life.ready.set()
        log.info("mitm_worker_ready", pid=life.pid)

    async def _note_unheard(self, life: EngineProcess, channel: WorkerChannel) -> None:
        await channel.ended.wait()
        await trio.sleep(END_PATIENCE)  # cancelled by the end of the process
        if not self._draining.is_set():
            log.error("mitm_worker_not_heard", pid=life.pid, reason=f"its channel: {channel.error or 'ended'}")
            life.unheard.set()

    async def _start(self, plan: EnginePlan, worker_id: int, channel: socket.socket, owner: int) -> trio.Process:
        config = msgspec.structs.replace(
            plan.config,
            worker_id=worker_id,
            channel_fd=channel.fileno(),
            handover_fd=self._receiving,
            loop_guard_fd=self._table.fd,
            loop_guard_owner=owner,
        )
        with _configuration(encode_config(config)) as fd:
            return await trio.lowlevel.open_process(
                [*plan.command, str(fd)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[fd, channel.fileno(), self._receiving, self._table.fd],
                start_new_session=True,
            )


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
