"""The daemon's life and death, in order. This file owns the nursery.

Birth: settings valid → listeners and admin bound → exporter → workers → embedded backend → admin server → ready.
Nothing is bound before the settings are known to be good, and nothing is started before everything is bound.

Other settings on the way: ``reload.py``. What is in force is asked for when it is needed.

Death (SIGTERM, SIGINT, ``POST /drain``): not ready → workers told to drain, listening sockets closed → exchanges in
flight finish, for the grace period at most → exporter delivers what waits, for the flush timeout at most → embedded
backend stopped → admin server gone → exit 0. A second signal: everything is killed at once, exit code 128 + its number.
Delivery does not wait for its turn: from the beginning of the drain everything is sent at once, since what carries it may go before
us. All of it has one deadline, the sum of the two times and the margins; a disk or a thread that hangs does not change it.
"""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from sp_proxy import __version__
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.load import Loaded
from sp_proxy.settings.masking import masked_url
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.source import Source
from sp_proxy.supervisor import signals, watch
from sp_proxy.supervisor.blueprint import make_blueprint
from sp_proxy.supervisor.capture import Capture
from sp_proxy.supervisor.engine import Engine
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.generation import GRACE_MARGIN, RELAY_COMMAND
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.limits import raise_descriptor_limit
from sp_proxy.supervisor.notify import Notifier
from sp_proxy.supervisor.pass_through import PassThrough
from sp_proxy.supervisor.passed import Passed
from sp_proxy.supervisor.readiness import Readiness
from sp_proxy.supervisor.reload import Parts, Reloader
from sp_proxy.supervisor.sockets import BoundListener, bind_address, bind_listeners
from sp_proxy.supervisor.workers import Workers

KILL_MARGIN = 1.0
"""Seconds after which what the drain of the traffic should have ended is cancelled."""
LATE = 1
"""Exit code of a drain that did not end in time."""
EXIT_MARGIN = 12.0
"""Seconds beyond everything else after which a drain that has not ended is ended: the embedded backend may take 10, whoever
reads from the admin server 5, and a disk that hangs for ever.
"""
ABORT_SECONDS = 3.0
"""A second signal ends the process after this long, even if a clean-up hangs."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bound:
    """Everything that listens."""

    listeners: list[BoundListener]
    admin: list[socket.socket]
    backend: list[socket.socket]

    @property
    def all(self) -> list[socket.socket]:
        """All sockets."""
        return [*(listener.socket for listener in self.listeners), *self.admin, *self.backend]


def bind(settings: SettingsModel, passed: Passed) -> Bound:
    """Bind everything that was not passed to us, or nothing. Raises BindError."""
    bound = Bound([], [], [])
    try:
        bound.listeners.extend(bind_listeners(settings.listen, passed))
        if settings.admin.enabled:
            bound.admin.extend(bind_address("admin.listen", settings.admin.listen, passed))
        if settings.backend.enabled:
            bound.backend.extend(bind_address("backend.listen", settings.backend.listen, passed))
    except BaseException:
        for sock in bound.all:
            sock.close()
        raise
    passed.leave()
    return bound


class Supervisor:
    """One daemon. ``run`` is called once, inside trio."""

    def __init__(
        self, loaded: Loaded, source: Source, environ: Mapping[str, str], relay_command: Sequence[str] = RELAY_COMMAND
    ) -> None:
        """``source`` is asked again when there are other settings. Raises ValueError, one line for a person, for settings that
        cannot be used.
        """
        self._relay_command = relay_command
        self._environ = environ
        self._notifier = Notifier(environ)
        blueprint = make_blueprint(loaded, environ)
        self._reloader = Reloader(source, environ, blueprint, self._notifier)
        self._capture = Capture(Exporter(loaded.settings, environ, addons=blueprint.addons))
        self._drain_requested = trio.Event()
        self._nursery_scope = trio.CancelScope()
        self._exit_code = 0
        self._abort_timer: threading.Timer | None = None
        self._readiness = Readiness(["exporter", "relay workers"])

    @property
    def _settings(self) -> SettingsModel:
        """In force."""
        return self._reloader.settings

    async def run(self) -> int:
        """Live until a drain has ended or a second signal came. Returns the exit code. Raises BindError."""
        with trio.open_signal_receiver(*signals.WATCHED) as arriving, ExitStack() as stack:
            bound = bind(self._settings, Passed(self._environ))
            for sock in bound.all:
                stack.callback(sock.close)
            self._notifier.store([listener.socket for listener in bound.listeners])
            # Said only now: a start that fails is one line.
            for warning in self._reloader.blueprint.loaded.warnings:
                log.warning("settings_warning", text=warning)
            soft, raised = raise_descriptor_limit()
            log.debug("descriptor_limit", before=soft, now=raised)
            table = stack.enter_context(GuardTable())
            with self._nursery_scope:
                async with trio.open_nursery() as nursery:

                    def reload(cause: str) -> None:
                        nursery.start_soon(self._reloader.ask, cause)

                    nursery.start_soon(self._notifier.run)
                    nursery.start_soon(signals.watch, arriving, self.begin_drain, self.abort, reload)
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
            self._notifier.stopping()
            self._readiness.drain()
            self._drain_requested.set()
            self._end_by(self._drain_seconds + EXIT_MARGIN, self._late)

    def abort(self, exit_code: int) -> None:
        """End at once, with this exit code."""
        self._exit_code = exit_code
        self._end_by(ABORT_SECONDS, os._exit, exit_code)
        self._nursery_scope.cancel()

    def _end_by(self, seconds: float, end: Callable[..., None], *values: int) -> None:
        """Have this called after so long, whatever hangs then."""
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._abort_timer = threading.Timer(seconds, end, values)
        self._abort_timer.daemon = True
        self._abort_timer.start()

    def _late(self) -> None:
        log.error("not_ended_in_time", limit_seconds=self._drain_seconds + EXIT_MARGIN)
        os._exit(LATE)

    @property
    def _drain_seconds(self) -> float:
        """The longest that a drain may take."""
        shutdown = self._settings.shutdown
        return shutdown.grace_period + GRACE_MARGIN + KILL_MARGIN + shutdown.flush_timeout

    async def _live(self, nursery: trio.Nursery, bound: Bound, table: GuardTable) -> None:
        settings, blueprint = self._settings, self._reloader.blueprint
        await nursery.start(self._capture.run)
        self._readiness.release("exporter")
        pass_through = PassThrough(table.guard).serve
        engine = Engine(blueprint.engine_plan(), table, self._capture.attach, pass_through)
        plan = blueprint.worker_plan(self._relay_command, engine.descriptors)
        workers = Workers(plan, bound.listeners, table, self._capture.attach)
        failopen = FailOpen(
            workers,
            bound.listeners,
            table.guard,
            heartbeat_port=plan.config.heartbeat_port,
            heartbeat_interval=plan.config.heartbeat_interval,
        )
        parts = Parts(workers, engine, failopen, self._capture, bound.listeners, self._relay_command)
        async with trio.open_nursery() as traffic:
            traffic.start_soon(workers.run)
            traffic.start_soon(failopen.run)
            traffic.start_soon(engine.run)
            if settings.backend.enabled:
                nursery.start_soon(self._keep_backend, bound.backend)
            if settings.admin.enabled:
                await nursery.start(self._serve_admin, parts, bound.admin)
            nursery.start_soon(self._announce, workers, bound.listeners)
            nursery.start_soon(self._tell_serving, workers, failopen)
            self._reloader.serve(parts)
            traffic.start_soon(self._watch)
            await self._drain_requested.wait()
            self._capture.hasten(trio.current_time() + self._drain_seconds)
            workers.drain()
            engine.drain()
            for listener in bound.listeners:
                listener.socket.close()
            limit = self._settings.shutdown.grace_period + GRACE_MARGIN + KILL_MARGIN
            traffic.cancel_scope.deadline = trio.current_time() + limit
        engine.close()
        log.info("traffic_ended")
        # The embedded backend ends after this, with the nursery: it is what the exporter delivers to.
        await self._capture.drain(trio.current_time() + self._settings.shutdown.flush_timeout)

    async def _watch(self) -> None:
        """The configuration file, until the drain begins."""

        def timing() -> watch.Timing | None:
            reload = self._settings.reload
            return watch.Timing(reload.interval, reload.settle_time) if reload.watch else None

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.watch, self._reloader.source, timing, partial(self._reloader.ask, "file changed"))
            await self._drain_requested.wait()
            nursery.cancel_scope.cancel()

    async def _keep_backend(self, sockets: Sequence[socket.socket]) -> None:
        # Imported when it is needed, as the admin server: not everybody runs it.
        from sp_proxy.supervisor.backend import keep_backend  # noqa: PLC0415

        await keep_backend(self._settings, sockets)

    async def _serve_admin(
        self, parts: Parts, sockets: Sequence[socket.socket], *, task_status: trio.TaskStatus[None]
    ) -> None:
        # Imported here because it is a third of the supervisor's memory, and not everybody runs it.
        from sp_proxy.admin.server import serve  # noqa: PLC0415
        from sp_proxy.supervisor.view import daemon_view  # noqa: PLC0415

        view = daemon_view(self._reloader, self._readiness, parts, self.begin_drain)
        try:
            await serve(view, sockets, task_status=task_status)
        except* Exception:
            # Whatever happens in there, traffic does not depend on it.
            log.exception("admin_failed")

    async def _tell_serving(self, workers: Workers, failopen: FailOpen) -> None:
        """Tell systemd, once traffic is served: by the workers, or without them."""
        while len(workers.ever_ready) < workers.count and not failopen.active:
            await workers.wait_change(trio.current_time() + 1)
        self._notifier.ready("failing open" if failopen.active else "serving")

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


def run(
    loaded: Loaded, source: Source, environ: Mapping[str, str], relay_command: Sequence[str] = RELAY_COMMAND
) -> int:
    """Run the daemon in this process until it ends, with settings that ``source`` has loaded. Returns the exit code.

    Raises SettingsError and BindError when it cannot start.
    """
    try:
        supervisor = Supervisor(loaded, source, environ, relay_command)
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    return trio.run(supervisor.run)
