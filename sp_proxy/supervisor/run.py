"""The daemon's life and death, in order. This file owns the nursery.

Birth: settings valid → listeners and admin bound → exporter → workers → embedded backend → admin server → ready.
Nothing is bound before the settings are known to be good, and nothing is started before everything is bound.

Death (SIGTERM, SIGINT, ``POST /drain``): not ready → workers told to drain, listening sockets closed → exchanges in
flight finish, for the grace period at most → exporter delivers what waits, for the flush timeout at most → embedded
backend stopped → admin server gone → exit 0. A second signal: everything is killed at once, exit code 128 + its number.
"""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import structlog
import trio

from sp_proxy import __version__
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.relay.loop_guard import TABLE_BYTES, LoopGuard
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.load import Loaded
from sp_proxy.settings.masking import masked_url
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import header_config, policy_config
from sp_proxy.supervisor import signals
from sp_proxy.supervisor.capture import Capture
from sp_proxy.supervisor.child import Child
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.limits import raise_descriptor_limit
from sp_proxy.supervisor.readiness import Readiness
from sp_proxy.supervisor.sockets import BoundListener, bind_address, bind_listeners
from sp_proxy.supervisor.workers import GRACE_MARGIN, RELAY_COMMAND, WorkerPlan, Workers

BACKEND_COMMAND = (sys.executable, "-P", "-m", "sp_proxy.backend")
KILL_MARGIN = 1.0
"""Seconds after which what the drain of the traffic should have ended is cancelled."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Commands:
    """The programs that the supervisor starts."""

    relay: Sequence[str] = RELAY_COMMAND
    backend: Sequence[str] = BACKEND_COMMAND


class Supervisor:
    """One daemon. ``run`` is called once, inside trio."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], commands: Commands | None = None) -> None:
        """Raises ValueError, one line for a person, for settings that cannot be used."""
        self._loaded = loaded
        self._settings = loaded.settings
        self._environ = environ
        self._commands = commands or Commands()
        self._worker_config = worker_config(loaded.settings, environ)
        self._capture = Capture(Exporter(loaded.settings))
        self._drain_requested = trio.Event()
        self._nursery_scope = trio.CancelScope()
        self._exit_code = 0
        self._readiness = Readiness(["exporter", "relay workers"])

    async def run(self) -> int:
        """Live until a drain has ended or a second signal came. Returns the exit code. Raises BindError."""
        for warning in self._loaded.warnings:
            log.warning("settings_warning", text=warning)
        soft, raised = raise_descriptor_limit()
        log.debug("descriptor_limit", before=soft, now=raised)
        settings = self._settings
        with trio.open_signal_receiver(*signals.WATCHED) as arriving, ExitStack() as bound:
            listeners = bind_listeners(settings.listen)
            for listener in listeners:
                bound.callback(listener.socket.close)
            admin_sockets = bind_address("admin.listen", settings.admin.listen) if settings.admin.enabled else []
            for sock in admin_sockets:
                bound.callback(sock.close)
            if not listeners:
                log.warning("no_listeners", reason="every listener is switched off: no traffic can arrive")
            guard_fd = os.memfd_create("sp-proxy-loop-guard")
            bound.callback(os.close, guard_fd)
            os.truncate(guard_fd, TABLE_BYTES)
            with self._nursery_scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(signals.watch, arriving, self.begin_drain, self.abort)
                    await self._live(nursery, listeners, admin_sockets, guard_fd)
                    nursery.cancel_scope.cancel()
        log.info("stopped", exit_code=self._exit_code)
        return self._exit_code

    def begin_drain(self, cause: str) -> None:
        """Begin to end. Again is the same as once."""
        if not self._drain_requested.is_set():
            log.info("draining", cause=cause, grace_period_seconds=self._settings.shutdown.grace_period)
            self._readiness.drain()
            self._drain_requested.set()

    def abort(self, exit_code: int) -> None:
        """End at once, with this exit code."""
        self._exit_code = exit_code
        self._nursery_scope.cancel()

    async def _live(
        self,
        nursery: trio.Nursery,
        listeners: Sequence[BoundListener],
        admin_sockets: Sequence[socket.socket],
        guard_fd: int,
    ) -> None:
        settings = self._settings
        await nursery.start(self._capture.run)
        self._readiness.release("exporter")
        plan = WorkerPlan(settings.relay.workers, self._worker_config, self._commands.relay)
        workers = Workers(plan, listeners, guard_fd, self._capture.attach)
        failopen = FailOpen(workers, listeners, LoopGuard(os.dup(guard_fd)))
        backend: Child | None = None
        async with trio.open_nursery() as traffic:
            traffic.start_soon(workers.run)
            traffic.start_soon(failopen.run)
            if settings.backend.enabled:
                backend = Child("backend", self._commands.backend, self._environ)
                nursery.start_soon(backend.run)
            if admin_sockets:
                await nursery.start(self._serve_admin, workers, failopen, admin_sockets)
            nursery.start_soon(self._announce, workers, listeners)
            await self._drain_requested.wait()
            workers.drain()
            for listener in listeners:
                listener.socket.close()
            limit = settings.shutdown.grace_period + GRACE_MARGIN + KILL_MARGIN
            traffic.cancel_scope.deadline = trio.current_time() + limit
        log.info("traffic_ended")
        await self._capture.drain(trio.current_time() + settings.shutdown.flush_timeout)
        if backend is not None:
            await backend.stop()

    async def _serve_admin(
        self,
        workers: Workers,
        failopen: FailOpen,
        sockets: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        # Imported here because it is a third of the supervisor's memory, and not everybody runs it.
        from sp_proxy.admin.server import serve  # noqa: PLC0415
        from sp_proxy.supervisor.view import daemon_view  # noqa: PLC0415

        view = daemon_view(self._loaded, self._readiness, workers, failopen, self._capture, self.begin_drain)
        try:
            await serve(view, sockets, task_status=task_status)
        except* Exception:
            # Whatever happens in there, traffic does not depend on it.
            log.exception("admin_failed")

    async def _announce(self, workers: Workers, listeners: Sequence[BoundListener]) -> None:
        while len(workers.ever_ready) < workers.count:
            await workers.wait_change()
        self._readiness.release("relay workers")
        settings = self._settings
        addresses: dict[str, list[str]] = {}
        for listener in listeners:
            addresses.setdefault(listener.key, []).append(listener.address)
        log.info(
            "ready",
            version=__version__,
            listen=addresses,
            admin=str(settings.admin.listen) if settings.admin.enabled else "off",
            backend=masked_url(settings.sp_backend_url),
            workers=workers.count,
        )


def worker_config(settings: SettingsModel, environ: Mapping[str, str]) -> WorkerConfig:
    """The template of what every relay worker is told."""
    return WorkerConfig(
        worker_id=-1,
        channel_fd=-1,
        loop_guard_fd=-1,
        listeners=(),
        headers=header_config(settings, environ),
        policy=policy_config(settings, environ),
        strict=settings.strict,
        detect_timeout=settings.detect_timeout,
        max_body_size=settings.capture.max_body_size,
        max_head_size=settings.relay.max_head_size,
        buffer_size=settings.relay.buffer_size,
        grace_period=settings.shutdown.grace_period,
    )


def run(loaded: Loaded, environ: Mapping[str, str], commands: Commands | None = None) -> int:
    """Run the daemon in this process until it ends. Returns the exit code.

    Raises SettingsError and BindError when it cannot start.
    """
    try:
        supervisor = Supervisor(loaded, environ, commands)
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    return trio.run(supervisor.run)
