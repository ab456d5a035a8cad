"""How a daemon is (pure): its ``GET /status`` and the rules of its ``GET /config``, read for the page.

What an older or newer daemon does not tell is nothing, or 0: an answer is only refused when it is not sp_proxy's at all.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field


class Spool(Struct, frozen=True):
    """The disk's side of a sending queue."""

    state: str = "off"
    problem: str = ""
    entries: int = 0
    size: int = 0
    oldest_unix: float | None = None
    damaged_files: int = 0
    write_errors: int = 0


class Delivery(Struct, frozen=True):
    """The delivery equation of one exporter, in records: captured + recovered = accepted + rejected + waiting + spooled +
    what was dropped + missing.
    """

    name: str
    captured: int
    accepted: int
    recovered: int = 0
    rejected: int = 0
    waiting: int = 0
    spooled: int = 0
    dropped: dict[str, int] = {}
    """By reason."""
    missing: int = 0
    """0 when the equation holds."""
    queue_bytes: int = 0
    spool: Spool = Spool()
    breaker: str = "closed"
    last_error: str = ""
    last_success_unix: float | None = None


class WorkerTotals(Struct, frozen=True):
    """What a worker has counted. Decoded only."""

    worker_id: int
    connected: bool = False
    counters: dict[str, int] = {}
    gauges: dict[str, float] = {}


class Status(Struct, frozen=True):
    """A daemon's ``GET /status``. Decoded only."""

    version: str
    balanced: bool
    exporters: list[Delivery]
    draining: bool = False
    failing_open: bool = False
    exporter_running: bool = True
    exporter_faults: dict[str, int] = {}
    workers_ready: int = 0
    workers: int = 0
    workers_retired: int = 0
    reload_refused: list[str] = []
    lost_before_the_exporter: dict[str, int] = {}
    held_bytes: int = 0
    worker_totals: list[WorkerTotals] = []


class Worker(Struct, frozen=True):
    """One worker now: relay workers from 0, mitmproxy workers from 64."""

    worker: int
    connected: bool
    cpu_seconds: float
    resident_memory_bytes: int
    connections_open: int
    connections: int
    requests: int
    captured: int


class RuleCount(Struct, frozen=True):
    """A rule, and how many requests it has decided on since the daemon started."""

    rule: str
    """``server[0]``, ``client[2]``, ``exemption[0]``: its place in the configuration."""
    text: str
    """What it says; empty where the daemon does not tell."""
    requests: int


class DaemonStatus(Struct, frozen=True, kw_only=True):
    """A daemon that answered."""

    version: str
    balanced: bool
    draining: bool
    failing_open: bool
    exporter_running: bool
    exporter_faults: dict[str, int]
    workers_ready: int
    workers_wanted: int
    workers_retired: int
    reload_refused: list[str]
    """Why the last reload of the settings was refused."""
    held_bytes: int
    lost_before_the_exporter: dict[str, int]
    """Records that did not reach the exporter, by reason."""
    deliveries: list[Delivery]
    workers: list[Worker]
    requests: dict[str, int]
    """By what was decided: ``captured``, or why not."""
    not_captured: dict[str, int]
    """Exchanges that were to be captured and were not, by reason: sampling and limits, what could not be read, …"""
    rules: list[RuleCount]


class DaemonHealth(Struct, frozen=True, kw_only=True):
    """One daemon of the settings."""

    name: str
    address: str
    asked_unix_ns: int
    problem: str
    """Why there is no status: one line; else empty."""
    status: DaemonStatus | None


class DaemonList(Struct, frozen=True):
    """All of them, in the order of the settings."""

    daemons: list[DaemonHealth]


class NotADaemonError(ValueError):
    """What answered is not sp_proxy's admin server."""


class _HttpRules(Struct):
    server: list[dict[str, Any]] = []
    client: list[dict[str, Any]] = []


class _CollectionRules(Struct):
    http: _HttpRules = field(default_factory=_HttpRules)


class _Settings(Struct, rename={"collection": "collectionRules", "exemptions": "exemptionRules"}):
    collection: _CollectionRules = field(default_factory=_CollectionRules)
    exemptions: list[dict[str, Any]] = []


class _Config(Struct):
    settings: _Settings


_status = msgspec.json.Decoder(Status)
_config = msgspec.json.Decoder(_Config)
_NOT_CAPTURED = ("dropped", "requests_skipped", "responses_skipped")


def read_status(status: bytes, config: bytes) -> DaemonStatus:
    """The two answers as one; ``config`` is empty where the daemon does not show its settings. Raises NotADaemonError."""
    try:
        told = _status.decode(status)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotADaemonError("what answers there is not the admin server of sp-proxy") from error
    totals: Counter[str] = Counter()
    for worker in told.worker_totals:
        totals.update(worker.counters)
    decisions: Counter[str] = Counter()
    matched: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for key, count in totals.items():
        name, _, said = key.partition(":")
        if name == "requests":
            reason, _, rule = said.partition(":")
            decisions[reason] += count
            if rule:
                matched[rule] += count
        elif name in _NOT_CAPTURED:
            lost[said] += count
    return DaemonStatus(
        version=told.version,
        balanced=told.balanced,
        draining=told.draining,
        failing_open=told.failing_open,
        exporter_running=told.exporter_running,
        exporter_faults=told.exporter_faults,
        workers_ready=told.workers_ready,
        workers_wanted=told.workers,
        workers_retired=told.workers_retired,
        reload_refused=told.reload_refused,
        held_bytes=told.held_bytes,
        lost_before_the_exporter=told.lost_before_the_exporter,
        deliveries=told.exporters,
        workers=[_worker(worker) for worker in told.worker_totals],
        requests=dict(decisions),
        not_captured=dict(lost),
        rules=_rules(config, matched),
    )


def _worker(worker: WorkerTotals) -> Worker:
    counters, gauges = worker.counters, worker.gauges
    return Worker(
        worker=worker.worker_id,
        connected=worker.connected,
        cpu_seconds=gauges.get("cpu_seconds", 0.0),
        resident_memory_bytes=int(gauges.get("resident_memory_bytes", 0)),
        connections_open=int(gauges.get("connections_open", 0)),
        connections=counters.get("connections", 0),
        requests=sum(count for key, count in counters.items() if key.partition(":")[0] == "requests"),
        captured=counters.get("captured", 0),
    )


def _rules(config: bytes, matched: Mapping[str, int]) -> list[RuleCount]:
    texts = _texts(config)
    rest = sorted(rule for rule in matched if rule not in texts)
    return [RuleCount(rule, texts.get(rule, ""), matched.get(rule, 0)) for rule in [*texts, *rest]]


def _texts(config: bytes) -> dict[str, str]:
    try:
        settings = _config.decode(config).settings if config else _Settings()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    groups = {
        "server": settings.collection.http.server,
        "client": settings.collection.http.client,
        "exemption": settings.exemptions,
    }
    return {f"{name}[{index}]": _in_words(rule) for name, rules in groups.items() for index, rule in enumerate(rules)}


def _in_words(rule: Mapping[str, Any]) -> str:
    """What is set of a rule: ``path ^/api/, methods GET POST, exclude``."""
    parts = []
    for name, value in rule.items():
        if value is True:
            parts.append(name)
        elif isinstance(value, str) and value:
            parts.append(f"{name} {value}")
        elif isinstance(value, list) and value:
            parts.append(f"{name} {' '.join(map(str, value))}")
    return ", ".join(parts) or "everything"
