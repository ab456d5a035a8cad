"""Metrics: every part of the delivery equation, labels, and what a scraper makes of them."""

import msgspec
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sp_proxy.admin.metrics import SupervisorStats, build_registry
from sp_proxy.exporter.stats import ExporterStats, WorkerStats

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
EXPORTER = ExporterStats(
    captured=100,
    accepted=60,
    rejected=5,
    dropped={"queue_full": 7, "shutdown": 1},
    waiting_batch=10,
    waiting_queue=15,
    in_flight=2,
    queue_bytes=4096,
    channel_dropped={"channel_full": 9},
    channel_errors=1,
    uploads={"accepted": 3, "retryable:status 503": 2},
    unreadable_answers=0,
    bytes_sent=12345,
    last_error="",
    last_success_unix=1_700_000_000.5,
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


def test_the_delivery_equation_can_be_checked_from_outside():
    samples = scrape()
    waiting = sum(value for name, value in samples.items() if name.startswith("sp_proxy_records_waiting"))
    dropped = sum(value for name, value in samples.items() if name.startswith("sp_proxy_records_dropped_total"))
    assert (waiting, dropped) == (27, 8)
    assert samples["sp_proxy_exchanges_captured_total"] == (
        samples["sp_proxy_records_accepted_total"] + samples["sp_proxy_records_rejected_total"] + waiting + dropped
    )


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
    assert samples["sp_proxy_uploads_total{outcome=accepted,reason=}"] == 3
    assert samples["sp_proxy_uploads_total{outcome=retryable,reason=status 503}"] == 2
    assert samples["sp_proxy_channel_records_dropped_total{reason=channel_full}"] == 9
    assert samples["sp_proxy_upload_last_success_timestamp_seconds"] == 1_700_000_000.5


def test_totals_of_the_workers_have_their_number_and_one_set_of_labels_each():
    samples = scrape()
    assert samples["sp_proxy_worker_connections_total{worker=0}"] == 8
    assert samples["sp_proxy_worker_connections_total{worker=1}"] == 1
    assert samples["sp_proxy_worker_raw_total{reason=bare_lf,worker=0}"] == 2
    assert samples["sp_proxy_worker_raw_total{reason=,worker=1}"] == 6
    assert samples["sp_proxy_worker_odd_name_total{worker=1}"] == 1
    assert samples["sp_proxy_worker_connections_open{worker=0}"] == 3
    assert samples["sp_proxy_worker_connected{worker=1}"] == 0


def test_before_the_first_success_there_is_no_time_of_it():
    samples = scrape(msgspec.structs.replace(EXPORTER, last_success_unix=None))
    assert not any("last_success" in name for name in samples)


def test_registering_takes_no_snapshot():
    def early() -> tuple[SupervisorStats, ExporterStats]:
        raise AssertionError("read before the daemon has started")

    build_registry(early)
