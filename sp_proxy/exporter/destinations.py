"""The destinations that the settings ask for: each a sink with its own queue, spool, uploads and counters.

They share nothing but the bytes of the payloads, so one that is down does not stop the others.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct
from pydantic import SecretStr

from sp_proxy.core.retry import RetryPolicy
from sp_proxy.core.spool_index import SpoolLimits
from sp_proxy.exporter.delivery import Delivery
from sp_proxy.exporter.encode import Form, Payload
from sp_proxy.exporter.lines import LinesFile, Stdout
from sp_proxy.exporter.queue import MemoryQueue
from sp_proxy.exporter.resource import PUBLIC_KEY, resource_attributes
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.spool import Spool
from sp_proxy.exporter.spool_files import SpoolFiles
from sp_proxy.exporter.spool_place import spool_directory, spool_root
from sp_proxy.exporter.spool_queue import SpoolPolicy, SpoolQueue
from sp_proxy.exporter.stats import DestinationStats, Ledger, SpoolStats
from sp_proxy.exporter.upload import OtlpHttp, traces_url
from sp_proxy.settings.checks import host_of
from sp_proxy.settings.model import Destination as DestinationSettings
from sp_proxy.settings.model import SettingsModel

Sink = OtlpHttp | LinesFile | Stdout

_NO_KEY = SecretStr("")


class World(Struct, frozen=True):
    """What the outside world is to a destination."""

    clock: Callable[[], float]
    """Tells unix time."""
    randomness: Callable[[], float]
    """Uniform in 0 to 1."""


class Plan(Struct, frozen=True):
    """One destination as the settings have it."""

    name: str
    settings: DestinationSettings
    url: str
    """Empty for what is not sent over a network."""
    form: Form
    """Of the payloads that it takes."""

    @property
    def target(self) -> str:
        """Where it goes, to tell spools apart."""
        if self.url:
            return str(traces_url(self.url))
        return self.settings.path or "-"


def plans(settings: SettingsModel, environ: Mapping[str, str]) -> list[Plan]:
    """The destinations in order; without ``exporters`` the Softprobe backend alone. Only that gets the public key."""
    resource = resource_attributes(settings, environ)
    keyless = {name: value for name, value in resource.items() if name != PUBLIC_KEY}
    found = []
    for each in settings.exporters or [DestinationSettings(type="softprobe")]:
        softprobe = each.type == "softprobe"
        local = each.type in {"file", "stdout"}
        found.append(
            Plan(
                each.name or each.type,
                each,
                "" if local else each.url or settings.sp_backend_url,
                Form(
                    resource if softprobe else keyless,
                    "none" if local else each.compression or settings.upload.compression,
                ),
            )
        )
    return found


def spool_directories(settings: SettingsModel, environ: Mapping[str, str]) -> dict[str, Path]:
    """The spool of each destination by its name, whether it exists or not; none when there is no place for spools."""
    root = spool_root(settings.spool.directory, environ)
    if root is None:
        return {}
    return {plan.name: spool_directory(root, plan.name, plan.target) for plan in plans(settings, environ)}


class Destination:
    """A running destination. ``append`` hands it a payload; ``run`` does the rest."""

    def __init__(
        self,
        settings: SettingsModel,
        plan: Plan,
        world: World,
        *,
        spool_directory: Path | None = None,
        on_settled: Callable[[], None] = lambda: None,
    ) -> None:
        """Without a directory it has no spool. Raises ValueError, one line for a person, for settings that cannot be used."""
        self.name = plan.name
        self.form = plan.form
        self._ledger = Ledger(on_settled)
        self._log = SparingLog(exporter=plan.name)
        self.sink = _sink(settings, plan, world)
        self.queue = self._queue(settings, spool_directory, world.clock)
        retry = settings.retry
        self.delivery = Delivery(
            self.queue,
            self.sink,
            RetryPolicy(
                retry.initial_interval,
                retry.max_interval,
                retry.multiplier,
                retry.randomization_factor,
                retry.max_elapsed_time,
            ),
            self._ledger,
            concurrency=settings.upload.concurrency if plan.url else 1,
            clock=world.clock,
            randomness=world.randomness,
            name=plan.name,
        )

    def append(self, payload: Payload) -> None:
        """Take a payload, or lose it, counted. Never waits."""
        if not self.queue.append(payload):
            self._ledger.drop("queue_full", payload.records)
            self._log.warning("queue_full", records_dropped=payload.records)

    async def run(self) -> None:
        """Deliver until cancelled; then keep what can be kept on disk, and count the rest as lost."""
        sink: AbstractAsyncContextManager[Any] = self.sink
        try:
            async with sink, trio.open_nursery() as nursery:
                nursery.start_soon(self.queue.run)
                nursery.start_soon(self.delivery.run)
        finally:
            with trio.CancelScope(shield=True):
                lost = await self.queue.finish()
            self._ledger.drop("shutdown", lost)
            if lost:
                self._log.warning("records_lost_at_shutdown", records_dropped=lost)

    def stats(self) -> DestinationStats:
        """A snapshot."""
        ledger, queue = self._ledger, self.queue
        return DestinationStats(
            name=self.name,
            recovered=ledger.recovered,
            accepted=ledger.accepted,
            rejected=ledger.rejected,
            rejections=dict(ledger.rejections),
            dropped=dict(ledger.dropped),
            waiting_queue=queue.waiting_records,
            spooled=queue.spooled_records,
            in_flight=queue.leased_records,
            queue_bytes=queue.size,
            spool=queue.spool_stats() if isinstance(queue, SpoolQueue) else SpoolStats(),
            uploads=dict(ledger.uploads),
            unreadable_answers=ledger.unreadable_answers,
            bytes_sent=ledger.bytes_sent,
            concurrency=self.delivery.concurrency,
            breaker=self.delivery.breaker.state,
            breaker_opened=self.delivery.breaker.opened,
            last_error=ledger.last_error,
            last_success_unix=ledger.last_success_unix,
        )

    def _queue(
        self, settings: SettingsModel, directory: Path | None, clock: Callable[[], float]
    ) -> MemoryQueue | SpoolQueue:
        queue, spool = settings.queue, settings.spool
        memory = MemoryQueue(queue.max_records, queue.max_size)
        if directory is None or spool.mode == "off":
            return memory
        policy = SpoolPolicy(
            spool.mode,
            above_records=int(queue.max_records * spool.overflow_above),
            above_bytes=int(queue.max_size * spool.overflow_above),
            after=spool.overflow_after,
        )
        disk = Spool(
            SpoolFiles(directory, fsync=spool.fsync),
            SpoolLimits(spool.max_size, spool.max_age),
            clock=clock,
            on_recovered=self._ledger.recover,
            on_lost=self._ledger.drop,
        )
        return SpoolQueue(memory, disk, policy, self._log)


def _sink(settings: SettingsModel, plan: Plan, world: World) -> Sink:
    match plan.settings.type:
        case "file":
            return LinesFile(Path(plan.settings.path or ""), plan.settings.max_size)
        case "stdout":
            return Stdout()
        case kind:
            return OtlpHttp(
                plan.url,
                settings.public_key if kind == "softprobe" else _NO_KEY,
                settings.upload,
                world.clock,
                further_headers=plan.settings.headers,
                approved_hosts=settings.approved_backends or [host_of(plan.url)],
            )
