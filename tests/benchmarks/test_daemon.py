"""The books of records, as ``/metrics`` has them."""

from benchmarks.daemon import Books, read_books

METRICS = """# HELP sp_proxy_worker_captured_total Total of the relay workers: captured.
# TYPE sp_proxy_worker_captured_total counter
sp_proxy_worker_captured_total{worker="0"} 700.0
sp_proxy_worker_captured_total{worker="1"} 300.0
sp_proxy_records_accepted_total{exporter="softprobe"} 985.0
sp_proxy_records_dropped_total{exporter="softprobe",reason="queue_full"} 10.0
sp_proxy_records_rejected_total{exporter="softprobe",reason="too long, or so"} 1.0
sp_proxy_records_shed_total{reason="memory"} 0.0
sp_proxy_channel_records_dropped_total{reason="channel_full"} 4.0
sp_proxy_records_waiting_batch 3.0
"""


def test_books():
    lost = (("channel_full", 4.0), ("memory", 0.0), ("queue_full", 10.0), ("too long, or so", 1.0))
    assert read_books(METRICS) == Books(1000.0, 1000.0, lost)


def test_nothing_yet():
    assert read_books("") == Books()
