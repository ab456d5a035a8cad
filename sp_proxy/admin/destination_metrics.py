"""Metrics of the destinations, each sample with the destination's name as label ``exporter``."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sp_proxy.exporter.stats import DestinationStats

Each = Sequence[DestinationStats]

_COUNTERS: tuple[tuple[str, str, Callable[[DestinationStats], float]], ...] = (
    (
        "records_elsewhere",
        "Captured records that went to other exporters only, before this one came into the settings or after it had left.",
        lambda each: each.elsewhere,
    ),
    ("records_recovered", "Records that an earlier life has left in the spool.", lambda each: each.recovered),
    ("records_accepted", "Records that the backend accepted.", lambda each: each.accepted),
    ("upload_sent_bytes", "Body bytes of attempts that the backend accepted.", lambda each: each.bytes_sent),
    ("upload_answers_unreadable", "Accepting answers with an unreadable body.", lambda each: each.unreadable_answers),
    ("upload_breaker_opened", "How often the circuit breaker opened.", lambda each: each.breaker_opened),
    ("spool_damaged_files", "Files of the spool that were set aside.", lambda each: each.spool.damaged_files),
    ("spool_errors", "Times that the disk refused.", lambda each: each.spool.write_errors),
)
_GAUGES: tuple[tuple[str, str, Callable[[DestinationStats], float]], ...] = (
    ("queue_size_bytes", "Payloads in memory, those being sent included.", lambda each: each.queue_bytes),
    ("upload_concurrency", "Uploads that may run side by side now.", lambda each: each.concurrency),
    ("upload_breaker_open", "1 while the destination is left alone.", lambda each: each.breaker != "closed"),
    ("spool_entries", "Payloads on disk.", lambda each: each.spool.entries),
    ("spool_size_bytes", "Bytes on disk.", lambda each: each.spool.size),
    ("spool_degraded", "1 while the disk refuses, and memory has to do.", lambda each: each.spool.state == "degraded"),
)
_LABELLED: tuple[tuple[str, str, str, Callable[[DestinationStats], dict[str, int]]], ...] = (
    ("records_rejected", "Records rejected in a partial success.", "reason", lambda each: each.rejections),
    ("records_dropped", "Records lost, by reason.", "reason", lambda each: each.dropped),
)


def destination_metrics(destinations: Each) -> Iterator[Metric]:
    """Every family, with a sample for each destination."""
    for name, text, read in _COUNTERS:
        yield _family(CounterMetricFamily(f"sp_proxy_{name}", text, labels=["exporter"]), destinations, read)
    for name, text, read in _GAUGES:
        yield _family(GaugeMetricFamily(f"sp_proxy_{name}", text, labels=["exporter"]), destinations, read)
    for name, text, label, values in _LABELLED:
        family = CounterMetricFamily(f"sp_proxy_{name}", text, labels=["exporter", label])
        for each in destinations:
            for value, count in sorted(values(each).items()):
                family.add_metric([each.name, value], count)
        yield family
    yield _waiting(destinations)
    yield _uploads(destinations)
    yield from _times(destinations)


def _family(
    family: CounterMetricFamily | GaugeMetricFamily, destinations: Each, read: Callable[[DestinationStats], float]
) -> Metric:
    for each in destinations:
        family.add_metric([each.name], read(each))
    return family


def _waiting(destinations: Each) -> Metric:
    family = GaugeMetricFamily(
        "sp_proxy_records_waiting", "Records not decided yet, by stage.", labels=["exporter", "stage"]
    )
    for each in destinations:
        family.add_metric([each.name, "queue"], each.waiting_queue)
        family.add_metric([each.name, "spool"], each.spooled)
        family.add_metric([each.name, "upload"], each.in_flight)
    return family


def _uploads(destinations: Each) -> Metric:
    family = CounterMetricFamily(
        "sp_proxy_uploads", "Upload attempts, by what they led to.", labels=["exporter", "outcome", "reason"]
    )
    for each in destinations:
        for key, count in sorted(each.uploads.items()):
            outcome, _, reason = key.partition(":")
            family.add_metric([each.name, outcome, reason], count)
    return family


def _times(destinations: Each) -> Iterator[Metric]:
    """What there is no number for before it happened."""
    success = GaugeMetricFamily(
        "sp_proxy_upload_last_success_timestamp_seconds", "When a batch was last accepted.", labels=["exporter"]
    )
    oldest = GaugeMetricFamily(
        "sp_proxy_spool_oldest_timestamp_seconds", "When the oldest payload on disk was stored.", labels=["exporter"]
    )
    for each in destinations:
        if each.last_success_unix is not None:
            success.add_metric([each.name], each.last_success_unix)
        if each.spool.oldest_unix is not None:
            oldest.add_metric([each.name], each.spool.oldest_unix)
    yield success
    yield oldest
