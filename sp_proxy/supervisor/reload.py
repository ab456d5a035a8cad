"""Other settings without a restart: read, checked whole, then put in force, or refused whole.

The order, so that a refusal at any point leaves everything as it was: read and check → try what the exporter would need →
have another generation of workers come up beside the present one, with an edition of the exporter for its records →
only then retire the present one and change the exporter. Relay and mitm workers are replaced together: both act by the same
rules. What does not concern workers leaves them alone.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import structlog
import trio
from msgspec import Struct

from sp_proxy import logs
from sp_proxy.exporter.pipeline import Prepared
from sp_proxy.settings.changes import changes, refusals, rules_changed
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.source import Source
from sp_proxy.supervisor.blueprint import Blueprint, make_blueprint
from sp_proxy.supervisor.capture import Capture
from sp_proxy.supervisor.engine import Engine, EngineError
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.generation import Attach
from sp_proxy.supervisor.notify import Notifier
from sp_proxy.supervisor.sockets import BoundListener
from sp_proxy.supervisor.workers import ReplaceError, Workers

Result = Literal["applied", "unchanged", "refused"]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Outcome(Struct, frozen=True):
    """What came of one reload."""

    result: Result
    changed: tuple[str, ...] = ()
    """A line for each setting, without secrets."""
    problems: tuple[str, ...] = ()
    """Why it was refused, a line each."""
    notes: tuple[str, ...] = ()
    """What has still to be done, or is hardly meant."""
    workers_replaced: bool = False


class RefusedError(Exception):
    """The settings do not come into force; everything is as before. One line for a person each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.problems = tuple(problems)


class Parts(Struct, frozen=True, eq=False):
    """What a reload acts on."""

    workers: Workers
    engine: Engine
    failopen: FailOpen
    capture: Capture
    bound: Sequence[BoundListener]
    command: Sequence[str]
    """Of relay workers."""


class Reloader:
    """Has what is in force, and changes it. One reload at a time."""

    def __init__(
        self, source: Source, environ: Mapping[str, str], blueprint: Blueprint, notifier: Notifier | None = None
    ) -> None:
        self.blueprint = blueprint
        """In force."""
        self.results: Counter[Result] = Counter()
        self.last: Outcome | None = None
        self.last_success_unix = time.time()
        """When what is in force came into force."""
        self.source = source
        self._environ = environ
        self._notifier = notifier or Notifier({})
        self._parts: Parts | None = None
        self._attach: Attach | None = None
        self._one_at_a_time = trio.Lock()
        self._asked = False

    @property
    def settings(self) -> SettingsModel:
        """In force."""
        return self.blueprint.settings

    def serve(self, parts: Parts) -> None:
        """These are running; before, everything is refused."""
        self._parts = parts
        self._attach = parts.capture.attach

    async def ask(self, cause: str) -> None:
        """Reload, unless somebody has asked already and is still waiting for his turn: one will do."""
        if self._asked:
            return
        self._asked = True
        await self.reload(cause)

    async def reload(self, cause: str) -> Outcome:
        """Read the settings again and put them in force, or do not. Never raises."""
        async with self._one_at_a_time:
            self._asked = False
            self._notifier.reloading()
            try:
                outcome = await self._reload()
            except RefusedError as error:
                outcome = Outcome("refused", problems=error.problems)
            except Exception as error:
                log.exception("reload_failed")
                outcome = Outcome("refused", problems=(f"internal error: {error}",))
            self.results[outcome.result] += 1
            self.last = outcome
            self._tell(cause, outcome)
            self._notifier.reloaded(f"serving; last reload {outcome.result}")
            return outcome

    async def _reload(self) -> Outcome:
        parts = self._parts
        if parts is None or parts.workers.draining:
            raise RefusedError(["the daemon is starting" if parts is None else "the daemon is ending"])
        if not parts.capture.running:
            raise RefusedError(["the exporter has failed: restart the daemon"])
        blueprint, prepared = await self._prepare(parts)
        before, after = self.settings, blueprint.settings
        found = changes(before, after)
        addons = ("addons: changed files",) if blueprint.addons != self.blueprint.addons else ()
        if not found and not addons and not parts.capture.exporter.differs(prepared):
            return Outcome("unchanged")
        replaced = not blueprint.same_workers(self.blueprint)
        if replaced:
            await self._replace_workers(parts, blueprint, prepared)
        else:
            await parts.capture.exporter.apply(prepared)
        if before.log != after.log:
            logs.configure(after.log.level, after.log.format)
        self.blueprint = blueprint
        self.last_success_unix = time.time()
        notes = tuple(blueprint.loaded.warnings)
        if rules_changed(found):
            notes += ("netfilter: in force with the next sp-proxy netfilter apply",)
        return Outcome(
            "applied", (*map(str, found), *addons) or ("certificates",), notes=notes, workers_replaced=replaced
        )

    async def _prepare(self, parts: Parts) -> tuple[Blueprint, Prepared]:
        """All that can be found out without changing anything, in a thread: it takes some ten milliseconds, and as long as addons
        like where there are some. A daemon that ends does not wait for it.
        """

        def prepare() -> tuple[Blueprint, Prepared]:
            loaded = self.source.load()
            if problems := refusals(self.settings, loaded.settings):
                raise RefusedError(problems)
            blueprint = make_blueprint(loaded, self._environ)
            return blueprint, parts.capture.exporter.prepare(loaded.settings, blueprint.addons)

        try:
            return await trio.to_thread.run_sync(prepare, abandon_on_cancel=True)
        except SettingsError as error:
            raise RefusedError(error.problems) from error
        except ValueError as error:
            raise RefusedError([str(error)]) from error

    async def _replace_workers(self, parts: Parts, blueprint: Blueprint, prepared: Prepared) -> None:
        limit = blueprint.settings.reload.max_retired
        if parts.workers.retired + parts.workers.count > limit and parts.workers.retired:
            still = f"{parts.workers.retired} workers with earlier settings still serve connections"
            remedy = "wait for these connections, end them, or set reload.retire_timeout"
            raise RefusedError([f"reload.max_retired: {still}, and {limit} is the limit: {remedy}"])
        exporter, engine = parts.capture.exporter, parts.engine
        edition = exporter.open_edition(prepared)
        attach: Attach = partial(parts.capture.attach, edition=edition)
        listeners = blueprint.listeners(parts.bound)
        try:
            await engine.reload(blueprint.engine_plan(), attach)
            try:
                await parts.workers.replace(
                    blueprint.worker_plan(parts.command, engine.descriptors),
                    listeners,
                    attach,
                    retire_timeout=blueprint.settings.reload.retire_timeout,
                )
            except ReplaceError:
                await self._restore_engine(engine)
                raise
        except (ReplaceError, EngineError) as error:
            exporter.abandon(edition)
            raise RefusedError([str(error)]) from error
        self._attach = attach
        await exporter.apply(prepared, edition)
        parts.failopen.relisten(listeners)

    async def _restore_engine(self, engine: Engine) -> None:
        assert self._attach is not None
        try:
            await engine.reload(self.blueprint.engine_plan(), self._attach)
        except EngineError as error:
            log.warning("mitm_worker_not_restored", reason=str(error))

    def _tell(self, cause: str, outcome: Outcome) -> None:
        match outcome.result:
            case "refused":
                log.error("reload_refused", cause=cause, problems=outcome.problems, consequence="the settings stay")
            case "unchanged":
                log.info("reload_unchanged", cause=cause)
            case "applied":
                log.info("reloaded", cause=cause, changed=outcome.changed, workers_replaced=outcome.workers_replaced)
                for note in outcome.notes:
                    log.warning("settings_warning", text=note)
