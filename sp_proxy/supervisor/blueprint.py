"""What settings mean for the processes: all that a worker is told, and which of them need another generation."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from sp_proxy.addons.check import read_and_check
from sp_proxy.addons.flows import flow_scripts
from sp_proxy.addons.heads import MAX_HOOKS, RequestAddon
from sp_proxy.addons.source import AddonFile
from sp_proxy.mitm.config import MitmConfig
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.relay.heartbeat import BEATS_PER_TIMEOUT
from sp_proxy.settings.checks import engine_users
from sp_proxy.settings.engine import hand_over_rules, mitm_config
from sp_proxy.settings.load import Loaded
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import admission_config, header_config, policy_config
from sp_proxy.supervisor.addon_watch import AddonLimits
from sp_proxy.supervisor.authority import check_authority
from sp_proxy.supervisor.engine_process import EnginePlan
from sp_proxy.supervisor.generation import WorkerPlan
from sp_proxy.supervisor.sockets import BoundListener, relisten
from sp_proxy.taps.sniff import HandOverRules


class Blueprint(Struct, frozen=True, eq=False):
    """Settings, and what follows from them."""

    loaded: Loaded
    worker: WorkerConfig
    mitm: MitmConfig
    addons: tuple[AddonFile, ...] = ()
    """All that settings name, each of which has been run once."""

    @property
    def settings(self) -> SettingsModel:
        """Themselves."""
        return self.loaded.settings

    @property
    def engine_needed(self) -> bool:
        """Whether anything is handed over to the mitm worker."""
        return bool(engine_users(self.settings))

    def engine_plan(self) -> EnginePlan:
        """For the mitm worker's keeper."""
        settings = self.settings
        return EnginePlan(
            self.mitm,
            needed=self.engine_needed,
            eager=settings.engine == "eager",
            max_memory=settings.mitm.max_memory,
            max_age=settings.mitm.max_age,
        )

    def worker_plan(self, command: Sequence[str], engine_descriptors: tuple[int, int]) -> WorkerPlan:
        """For relay workers; the descriptors are where they hand over to."""
        config, count = self.worker, self.settings.relay.workers
        watch = AddonLimits(self.settings.addons.stuck_after, self.settings.addons.max_memory)
        if not self.engine_needed:
            return WorkerPlan(count, config, command, watch=watch)
        handover_fd, state_fd = engine_descriptors
        config = msgspec.structs.replace(config, handover_fd=handover_fd, engine_state_fd=state_fd)
        return WorkerPlan(count, config, command, pass_fds=engine_descriptors, watch=watch)

    def listeners(self, bound: Sequence[BoundListener]) -> list[BoundListener]:
        """The sockets with the upstreams and directions of these settings."""
        return relisten(bound, self.settings.listen)

    def same_workers(self, other: "Blueprint") -> bool:
        """Whether workers that were started with one serve as the other says."""
        return self.told == other.told

    @property
    def told(self) -> tuple[object, ...]:
        """All that decides how workers serve."""
        settings = self.settings
        watched = (settings.addons.stuck_after, settings.addons.max_memory) if self.worker.request_addons else ()
        return (self.worker, self.mitm, settings.relay, settings.engine, settings.mitm, settings.listen, watched)


def make_blueprint(loaded: Loaded, environ: Mapping[str, str]) -> Blueprint:
    """Raises ValueError, one line for a person, for settings that cannot be used."""
    settings = loaded.settings
    addons = read_and_check(settings.addons)
    requests = tuple(
        RequestAddon(each.name, each.path, each.text, each.pure, place)
        for place, each in enumerate((each for each in addons if "request" in each.hooks), 1)
    )
    if len(requests) > MAX_HOOKS:
        raise ValueError(f"addons: {len(requests)} request hooks; allowed: {MAX_HOOKS}")
    worker = msgspec.structs.replace(worker_config(settings, environ), request_addons=requests)
    scripts = flow_scripts(settings.addons, addons)
    mitm = msgspec.structs.replace(mitm_config(settings, environ), request_addons=requests, scripts=scripts)
    found = Blueprint(loaded, worker, mitm, tuple(addons))
    check_authority(found.mitm.tls)
    return found


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
        hand_over=hand_over_rules(settings) if engine_users(settings) else HandOverRules(),
        heartbeat_port=heartbeat.port if heartbeat.enabled and transparent else 0,
        heartbeat_interval=heartbeat.timeout / BEATS_PER_TIMEOUT,
        partial_after=settings.capture.partial_after,
        log_format=settings.log.format,
        request_budget=settings.addons.request_budget,
    )
