"""Metrics: every part of the delivery equation, labels, and what a scraper makes of them."""

from dataclasses import replace

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sp_proxy.admin.metrics import EngineStats, SupervisorStats, build_registry
from sp_proxy.exporter.stats import DestinationStats, ExporterStats, SpoolStats, WorkerStats

SUPERVISOR = SupervisorStats(
    workers=2,
    workers_ready=1,
    worker_restarts=5,
    failing_open=True,
    failopen_connections=3,
    failopen_connections_total=40,
    failopen_refused_total=4,
    draining=False,
    exporter_running=True,
)
BACKEND = DestinationStats(
    name="softprobe",
    recovered=11,
    accepted=60,
    rejected=5,
    rejections={"too old": 5},
    dropped={"queue_full": 7, "shutdown": 1},
    waiting_queue=15,
    spooled=11,
    in_flight=2,
    queue_bytes=4096,
    spool=SpoolStats("degraded", "No space left on device", 3, 999, 1_700_000_000.0, 2, 4),
    uploads={"accepted": 3, "retryable:status 503": 2},
    bytes_sent=12345,
    concurrency=6,
    breaker="half_open",
    breaker_opened=1,
    last_success_unix=1_700_000_000.5,
)
EXPORTER = ExporterStats(
    captured=105,
    shed={"sampled_out": 5},
    waiting_batch=10,
    held_bytes=777,
    channel_dropped={"channel_full": 9},
    channel_errors=1,
    destinations=(BACKEND, DestinationStats(name="file", accepted=50, elsewhere=40)),
    workers=(
        WorkerStats(0, connected=True, counters={"connections": 8, "raw:bare_lf": 2}, gauges={"connections_open": 3}),
        WorkerStats(1, connected=False, counters={"connections": 1, "raw": 6, "odd-name": 1}, gauges={}),
    ),
)


def scrape(exporter: ExporterStats = EXPORTER) -> dict[str, float]:
    """Samples by ``name{label=value,...}``, as a scraper reads them."""
    text = generate_latest(build_registry(lambda: (SUPERVISOR, exporter))).decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def total(samples: dict[str, float], name: str, exporter: str) -> float:
    return sum(
        value
        for key, value in samples.items()
        if key.startswith(f"sp_proxy_{name}{{") and f"exporter={exporter}" in key
    )


@pytest.mark.parametrize("exporter", ["softprobe", "file"])
def test_the_delivery_equation_can_be_checked_from_outside(exporter):
    samples = scrape()
    shared = samples["sp_proxy_records_shed_total{reason=sampled_out}"] + samples["sp_proxy_records_waiting_batch"]
    entered = samples["sp_proxy_exchanges_captured_total"] + total(samples, "records_recovered_total", exporter)
    left = (
        "records_accepted_total",
        "records_rejected_total",
        "records_dropped_total",
        "records_waiting",
        "records_elsewhere_total",
    )
    assert entered == shared + sum(total(samples, name, exporter) for name in left)
    assert samples["sp_proxy_delivery_balanced"] == 1


def test_every_exporter_has_its_own_queue_and_spool():
    samples = scrape()
    assert samples["sp_proxy_records_waiting{exporter=softprobe,stage=spool}"] == 11
    assert samples["sp_proxy_queue_size_bytes{exporter=softprobe}"] == 4096
    assert samples["sp_proxy_queue_size_bytes{exporter=file}"] == 0
    assert samples["sp_proxy_spool_entries{exporter=softprobe}"] == 3
    assert samples["sp_proxy_spool_size_bytes{exporter=softprobe}"] == 999
    assert samples["sp_proxy_spool_degraded{exporter=softprobe}"] == 1
    assert samples["sp_proxy_spool_degraded{exporter=file}"] == 0
    assert samples["sp_proxy_spool_errors_total{exporter=softprobe}"] == 4
    assert samples["sp_proxy_spool_damaged_files_total{exporter=softprobe}"] == 2
    assert samples["sp_proxy_spool_oldest_timestamp_seconds{exporter=softprobe}"] == 1_700_000_000
    assert samples["sp_proxy_memory_held_bytes"] == 777


def test_the_supervisors_own_numbers():
    samples = scrape()
    assert samples["sp_proxy_relay_workers"] == 2
    assert samples["sp_proxy_relay_workers_ready"] == 1
    assert samples["sp_proxy_relay_worker_restarts_total"] == 5
    assert samples["sp_proxy_failing_open"] == 1
    assert samples["sp_proxy_failopen_connections"] == 3
    assert samples["sp_proxy_failopen_connections_accepted_total"] == 40
    assert samples["sp_proxy_failopen_connections_refused_total"] == 4
    assert samples["sp_proxy_draining"] == 0
    assert samples["sp_proxy_exporter_running"] == 1
    assert any(name.startswith("sp_proxy_build_info{version=") for name in samples)
    assert samples["process_resident_memory_bytes"] > 0


def test_uploads_and_losses_by_reason():
    samples = scrape()
    assert samples["sp_proxy_uploads_total{exporter=softprobe,outcome=accepted,reason=}"] == 3
    assert samples["sp_proxy_uploads_total{exporter=softprobe,outcome=retryable,reason=status 503}"] == 2
    assert samples["sp_proxy_records_rejected_total{exporter=softprobe,reason=too old}"] == 5
    assert samples["sp_proxy_upload_sent_bytes_total{exporter=softprobe}"] == 12345
    assert samples["sp_proxy_upload_concurrency{exporter=softprobe}"] == 6
    assert samples["sp_proxy_upload_breaker_open{exporter=softprobe}"] == 1
    assert samples["sp_proxy_channel_records_dropped_total{reason=channel_full}"] == 9
    assert samples["sp_proxy_upload_last_success_timestamp_seconds{exporter=softprobe}"] == 1_700_000_000.5


def test_before_the_first_success_there_is_no_time_of_it():
    samples = scrape()
    assert not any("last_success" in name and "file" in name for name in samples)
    assert not any("oldest" in name and "file" in name for name in samples)


def test_registering_takes_no_snapshot():
    def early() -> tuple[SupervisorStats, ExporterStats]:
        raise AssertionError("read before the daemon has started")

    build_registry(early)


def test_the_mitmproxy_worker_where_there_is_one() -> None:
    assert not [name for name in scrape() if "mitm" in name]
    engine = EngineStats(state="ready", workers=2, restarts=3, replacements=4, diverted=5)
    registry = build_registry(lambda: (replace(SUPERVISOR, engine=engine), EXPORTER))
    text = generate_latest(registry).decode()
    for line in (
        'sp_proxy_mitm_state{state="ready"} 1.0',
        'sp_proxy_mitm_state{state="down"} 0.0',
        "sp_proxy_mitm_workers 2.0",
        "sp_proxy_mitm_worker_restarts_total 3.0",
        "sp_proxy_mitm_worker_replacements_total 4.0",
        "sp_proxy_mitm_connections_diverted_total 5.0",
    ):
        assert line in text
