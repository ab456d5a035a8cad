"""Metrics of the destinations: each family once, a sample for each destination."""

import pytest
from prometheus_client.core import Metric

from sp_proxy.admin.destination_metrics import destination_metrics
from sp_proxy.exporter.stats import DestinationStats, SpoolStats

TWO = (
    DestinationStats(name="a", accepted=3, dropped={"evicted": 2, "damaged": 1}, uploads={"permanent:http_400": 4}),
    DestinationStats(name="b", spool=SpoolStats(oldest_unix=9.0), last_success_unix=8.0, breaker="open"),
)


@pytest.fixture
def families() -> dict[str, Metric]:
    made = list(destination_metrics(TWO))
    assert len({family.name for family in made}) == len(made)
    assert all(family.documentation for family in made)
    return {family.name: family for family in made}


def samples(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_counts_and_gauges_of_each(families):
    assert samples(families["sp_proxy_records_accepted"]) == {("a",): 3, ("b",): 0}
    assert samples(families["sp_proxy_upload_breaker_open"]) == {("a",): 0, ("b",): 1}


def test_reasons_are_labels(families):
    assert samples(families["sp_proxy_records_dropped"]) == {("a", "damaged"): 1, ("a", "evicted"): 2}
    assert samples(families["sp_proxy_uploads"]) == {("a", "permanent", "http_400"): 4}


def test_what_has_not_happened_has_no_time(families):
    assert samples(families["sp_proxy_upload_last_success_timestamp_seconds"]) == {("b",): 8.0}
    assert samples(families["sp_proxy_spool_oldest_timestamp_seconds"]) == {("b",): 9.0}


def test_no_destination_makes_no_sample():
    assert not [sample for family in destination_metrics(()) for sample in family.samples]
