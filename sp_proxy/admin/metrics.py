"""Metrics in Prometheus' words, from snapshots: nothing is counted here, so nothing can disagree with the daemon.

The delivery equation can be checked from outside, at any scrape, for each exporter::

    exchanges_captured + records_recovered
        = records_accepted + records_rejected + records_waiting + records_dropped + records_elsewhere
          + what all exporters share (records_shed, records_waiting_batch)

Workers' totals carry a ``worker`` label and never decrease when a worker restarts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sp_proxy import __version__
from sp_proxy.admin.addon_metrics import addon_metrics
from sp_proxy.admin.destination_metrics import destination_metrics
from sp_proxy.admin.worker_metrics import worker_metrics
from sp_proxy.exporter.stats import ExporterStats


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Of the mitmproxy worker's keeper."""

    state: str
    """``waiting`` for the first connection that needs it, ``ready``, or ``down``."""
    workers: int
    """Processes, replaced ones that finish included."""
    restarts: int
    replacements: int
    diverted: int


@dataclass(frozen=True, slots=True)
class ReloadStats:
    """Of the settings."""

    results: dict[str, int]
    """How often, by ``applied``, ``unchanged`` and ``refused``."""
    last_refused: bool
    last_success_unix: float
    """When what is in force came into force."""
    problems: tuple[str, ...] = ()
    """Why the last one was refused."""


@dataclass(frozen=True, slots=True)
class SupervisorStats:
    """A snapshot of the supervisor's own numbers."""

    workers: int
    """How many there should be."""
    workers_ready: int
    worker_restarts: int
    failing_open: bool
    failopen_connections: int
    failopen_connections_total: int
    failopen_refused_total: int
    draining: bool
    exporter_running: bool
    workers_retired: int = 0
    """Processes with earlier settings that serve their last connections."""
    reload: ReloadStats | None = None
    engine: EngineStats | None = None
    """None when nothing needs a mitmproxy worker."""


class DaemonCollector(Collector):
    """All metrics of the daemon, read at each scrape."""

    def __init__(self, read: Callable[[], tuple[SupervisorStats, ExporterStats]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not take a snapshot of a daemon which has not started."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric family, with its samples."""
        supervisor, exporter = self._read()
        yield from _supervisor(supervisor)
        yield from _delivery(exporter)
        yield from destination_metrics(exporter.destinations)
        yield from worker_metrics(exporter.workers)
        yield from addon_metrics(exporter.addons)


def build_registry(read: Callable[[], tuple[SupervisorStats, ExporterStats]]) -> CollectorRegistry:
    """A registry with the daemon's metrics, and the supervisor process's own (``process_*``)."""
    registry = CollectorRegistry()
    registry.register(DaemonCollector(read))
    ProcessCollector(registry=registry)
    return registry


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sp_proxy_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"sp_proxy_{name}", text, value=value)


def _by_label(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"sp_proxy_{name}", text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _supervisor(stats: SupervisorStats) -> Iterator[Metric]:
    build = GaugeMetricFamily("sp_proxy_build_info", "Always 1; the version is the label.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield _gauge("draining", "1 while the daemon drains.", stats.draining)
    yield _gauge(
        "exporter_running", "0 while a stage of it waits to be begun again after a fault.", stats.exporter_running
    )
    yield _gauge("relay_workers", "Relay workers that there should be.", stats.workers)
    yield _gauge("relay_workers_ready", "Relay workers that accept connections.", stats.workers_ready)
    yield _counter("relay_worker_restarts", "Relay workers that died and were replaced.", stats.worker_restarts)
    yield _gauge(
        "relay_workers_retired",
        "Relay workers with earlier settings that serve their last connections.",
        stats.workers_retired,
    )
    if stats.reload is not None:
        yield from _reload(stats.reload)
    yield _gauge("failing_open", "1 while the supervisor relays raw because no worker can.", stats.failing_open)
    yield _gauge("failopen_connections", "Connections relayed by the supervisor itself.", stats.failopen_connections)
    yield _counter(
        "failopen_connections_accepted",
        "Connections accepted by the supervisor itself since it started.",
        stats.failopen_connections_total,
    )
    yield _counter(
        "failopen_connections_refused",
        "Of these, connections made to a listener itself, without redirection: closed.",
        stats.failopen_refused_total,
    )
    if stats.engine is not None:
        yield from _engine(stats.engine)


def _reload(stats: ReloadStats) -> Iterator[Metric]:
    yield _by_label("config_reloads", "Reloads of the configuration, by what came of them.", "result", stats.results)
    yield _gauge(
        "config_last_reload_successful",
        "0 after a reload that was refused: older settings stay.",
        not stats.last_refused,
    )
    yield _gauge(
        "config_last_reload_success_timestamp_seconds",
        "When the settings in force came into force.",
        stats.last_success_unix,
    )


def _engine(stats: EngineStats) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "sp_proxy_mitm_state", "1 for the state that the mitmproxy worker is in.", labels=["state"]
    )
    for name in ("waiting", "ready", "down"):
        state.add_metric([name], stats.state == name)
    yield state
    yield _gauge("mitm_workers", "Processes, replaced ones that serve their last connections included.", stats.workers)
    yield _counter("mitm_worker_restarts", "mitmproxy workers that died and were replaced.", stats.restarts)
    yield _counter("mitm_worker_replacements", "Replaced for their age or memory.", stats.replacements)
    yield _counter(
        "mitm_connections_diverted",
        "On their way to a worker that could not serve: passed through raw.",
        stats.diverted,
    )


def _delivery(stats: ExporterStats) -> Iterator[Metric]:
    yield _counter("exchanges_captured", "Records that the exporter received from the workers.", stats.captured)
    yield _by_label("records_shed", "Records lost before there was a payload, by reason.", "reason", stats.shed)
    yield _gauge("records_waiting_batch", "Records in the batcher, or being encoded.", stats.waiting_batch)
    yield _gauge("memory_held_bytes", "Captured content and payloads that the exporter holds.", stats.held_bytes)
    yield _gauge("delivery_balanced", "1 while every record is in exactly one counter.", stats.balanced)
    yield _by_label(
        "channel_records_dropped",
        "Records lost in the workers before they reached the exporter, by reason.",
        "reason",
        stats.channel_dropped,
    )
    yield _by_label(
        "exporter_faults", "Faults of a stage of the exporter, which was begun again.", "stage", stats.faults
    )
    yield _counter("channel_errors", "Channels closed because their stream was unreadable.", stats.channel_errors)
