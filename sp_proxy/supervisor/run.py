"""The daemon's life and death, in order. This file owns the nursery.

Birth: settings valid → listeners and admin bound → exporter → workers → embedded backend → admin server → ready.
Nothing is bound before the settings are known to be good, and nothing is started before everything is bound.

Death (SIGTERM, SIGINT, ``POST /drain``): not ready → workers told to drain, listening sockets closed → exchanges in
flight finish, for the grace period at most → exporter delivers what waits, for the flush timeout at most → embedded
backend stopped → admin server gone → exit 0. A second signal: everything is killed at once, exit code 128 + its number.
"""

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import structlog
import trio
from msgspec import structs

from sp_proxy import __version__
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.relay.heartbeat import BEATS_PER_TIMEOUT
from sp_proxy.settings.checks import engine_users
from sp_proxy.settings.engine import hand_over_rules, mitm_config
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.load import Loaded
from sp_proxy.settings.masking import masked_url
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import admission_config, header_config, policy_config
from sp_proxy.supervisor import signals
from sp_proxy.supervisor.capture import Capture
from sp_proxy.supervisor.engine import Engine, EnginePlan, check_authority
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.limits import raise_descriptor_limit
from sp_proxy.supervisor.pass_through import PassThrough
from sp_proxy.supervisor.readiness import Readiness
from sp_proxy.supervisor.sockets import BoundListener, bind_address, bind_listeners
from sp_proxy.supervisor.workers import GRACE_MARGIN, RELAY_COMMAND, WorkerPlan, Workers

KILL_MARGIN = 1.0
"""Seconds after which what the drain of the traffic should have ended is cancelled."""
ABORT_SECONDS = 3.0
"""A second signal ends the process after this long, even if a clean-up hangs."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bound:
    """Everything that listens."""

    listeners: list[BoundListener]
    admin: list[socket.socket]
    backend: list[socket.socket]
    proxy: list[socket.socket]

    @property
    def all(self) -> list[socket.socket]:
        """All sockets."""
        return [*(listener.socket for listener in self.listeners), *self.admin, *self.backend, *self.proxy]


def bind(settings: SettingsModel) -> Bound:
    """Bind everything, or nothing. Raises BindError."""
    bound = Bound([], [], [], [])
    try:
        bound.listeners.extend(bind_listeners(settings.listen))
        if settings.admin.enabled:
            bound.admin.extend(bind_address("admin.listen", settings.admin.listen))
        if settings.backend.enabled:
            bound.backend.extend(bind_address("backend.listen", settings.backend.listen))
        if settings.listen.proxy is not None:
            bound.proxy.extend(bind_address("listen.proxy", settings.listen.proxy))
    except BaseException:
        for sock in bound.all:
            sock.close()
        raise
    return bound


class Supervisor:
    """One daemon. ``run`` is called once, inside trio."""

    def __init__(
        self, loaded: Loaded, environ: Mapping[str, str], relay_command: Sequence[str] = RELAY_COMMAND
    ) -> None:
        """Raises ValueError, one line for a person, for settings that cannot be used."""
        self._loaded = loaded
        self._settings = loaded.settings
        self._relay_command = relay_command
        self._worker_config = worker_config(loaded.settings, environ)
        self._mitm_config = mitm_config(loaded.settings, environ)
        check_authority(self._mitm_config.tls)
        self._capture = Capture(Exporter(loaded.settings, environ))
        self._drain_requested = trio.Event()
        self._nursery_scope = trio.CancelScope()
        self._exit_code = 0
        self._abort_timer: threading.Timer | None = None
        self._readiness = Readiness(["exporter", "relay workers"])

    async def run(self) -> int:
        """Live until a drain has ended or a second signal came. Returns the exit code. Raises BindError."""
        settings = self._settings
        with trio.open_signal_receiver(*signals.WATCHED) as arriving, ExitStack() as stack:
            bound = bind(settings)
            for sock in bound.all:
                stack.callback(sock.close)
            # Said only now: a start that fails is one line.
            for warning in self._loaded.warnings:
                log.warning("settings_warning", text=warning)
            soft, raised = raise_descriptor_limit()
            log.debug("descriptor_limit", before=soft, now=raised)
            table = stack.enter_context(GuardTable())
            with self._nursery_scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(signals.watch, arriving, self.begin_drain, self.abort)
                    await self._live(nursery, bound, table)
                    nursery.cancel_scope.cancel()
        if self._abort_timer is not None:
            self._abort_timer.cancel()
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
        self._abort_timer = threading.Timer(ABORT_SECONDS, os._exit, [exit_code])
        self._abort_timer.daemon = True
        self._abort_timer.start()
        self._nursery_scope.cancel()

    async def _live(self, nursery: trio.Nursery, bound: Bound, table: GuardTable) -> None:
        settings = self._settings
        await nursery.start(self._capture.run)
        self._readiness.release("exporter")
        engine = self._engine(bound.proxy, table)
        config = self._worker_config
        descriptors: tuple[int, ...] = ()
        if engine is not None:
            handover_fd, state_fd = descriptors = engine.descriptors
            rules = hand_over_rules(settings)
            config = structs.replace(config, hand_over=rules, handover_fd=handover_fd, engine_state_fd=state_fd)
        plan = WorkerPlan(settings.relay.workers, config, self._relay_command, pass_fds=descriptors)
        workers = Workers(plan, bound.listeners, table, self._capture.attach)
        failopen = FailOpen(
            workers,
            bound.listeners,
            table.guard,
            heartbeat_port=config.heartbeat_port,
            heartbeat_interval=config.heartbeat_interval,
        )
        async with trio.open_nursery() as traffic:
            traffic.start_soon(workers.run)
            traffic.start_soon(failopen.run)
            if engine is not None:
                traffic.start_soon(engine.run)
            if settings.backend.enabled:
                nursery.start_soon(self._keep_backend, bound.backend)
            if settings.admin.enabled:
                await nursery.start(self._serve_admin, workers, failopen, engine, bound.admin)
            nursery.start_soon(self._announce, workers, bound.listeners)
            await self._drain_requested.wait()
            workers.drain()
            if engine is not None:
                engine.drain()
            for sock in (*(listener.socket for listener in bound.listeners), *bound.proxy):
                sock.close()
            limit = settings.shutdown.grace_period + GRACE_MARGIN + KILL_MARGIN
            traffic.cancel_scope.deadline = trio.current_time() + limit
        if engine is not None:
            engine.close()
        log.info("traffic_ended")
        # The embedded backend ends after this, with the nursery: it is what the exporter delivers to.
        await self._capture.drain(trio.current_time() + settings.shutdown.flush_timeout)

    def _engine(self, proxy: Sequence[socket.socket], table: GuardTable) -> Engine | None:
        """The mitm worker's keeper, if anything needs it."""
        settings = self._settings
        eager = settings.engine == "eager"
        if not eager and not engine_users(settings):
            return None
        plan = EnginePlan(self._mitm_config, eager, settings.mitm.max_memory, settings.mitm.max_age)
        return Engine(plan, proxy, table, self._capture.attach, PassThrough(table.guard).serve)

    async def _keep_backend(self, sockets: Sequence[socket.socket]) -> None:
        # Imported when it is needed, as the admin server: not everybody runs it.
        from sp_proxy.supervisor.backend import keep_backend  # noqa: PLC0415

        await keep_backend(self._settings, sockets)

    async def _serve_admin(
        self,
        workers: Workers,
        failopen: FailOpen,
        engine: Engine | None,
        sockets: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        # Imported here because it is a third of the supervisor's memory, and not everybody runs it.
        from sp_proxy.admin.server import serve  # noqa: PLC0415
        from sp_proxy.supervisor.view import daemon_view  # noqa: PLC0415

        view = daemon_view(self._loaded, self._readiness, workers, failopen, self._capture, self.begin_drain, engine)
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
    heartbeat = settings.netfilter.heartbeat
    transparent = settings.listen.inbound or settings.listen.outbound
    return WorkerConfig(
        worker_id=-1,
        channel_fd=-1,
        loop_guard_fd=-1,
        listeners=(),
        headers=header_config(settings, environ),
        policy=policy_config(settings, environ),
        admission=admission_config(settings),
        strict=settings.strict,
        detect_timeout=settings.detect_timeout,
        max_body_size=settings.capture.max_body_size,
        max_head_size=settings.relay.max_head_size,
        buffer_size=settings.relay.buffer_size,
        grace_period=settings.shutdown.grace_period,
        heartbeat_port=heartbeat.port if heartbeat.enabled and transparent else 0,
        heartbeat_interval=heartbeat.timeout / BEATS_PER_TIMEOUT,
        partial_after=settings.capture.partial_after,
    )


def run(loaded: Loaded, environ: Mapping[str, str], relay_command: Sequence[str] = RELAY_COMMAND) -> int:
    """Run the daemon in this process until it ends. Returns the exit code.

    Raises SettingsError and BindError when it cannot start.
    """
    try:
        supervisor = Supervisor(loaded, environ, relay_command)
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    return trio.run(supervisor.run)
