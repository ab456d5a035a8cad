"""Metrics of the workers: what each has counted, with a label ``worker`` (relay workers from 0, mitmproxy workers from 64).

Every counter that a worker knows stands here with its meaning, and is a family from the start, so that who writes an alert sees
it before it first happens. One that is unknown here is a metric all the same.
"""

import re
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sp_proxy.exporter.stats import WorkerStats

_REASON: Final = ("reason",)
COUNTERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    # connections
    "connections": ("Connections accepted or handed over.", ()),
    "connections_http2": ("Of these, HTTP/2 ones.", ()),
    "connections_proxy": ("Connections to the explicit proxy.", ()),
    "connection_faults": ("Connections that a fault of ours has ended.", ()),
    "refused": ("Connections closed at once, by reason (loop: our own, sent back to us).", _REASON),
    "accept_failed": ("Times that there was no descriptor or memory for a connection, which then waited.", ()),
    "abandoned": ("Clients that went while the destination was being connected.", ()),
    "upstream_connect_failed": ("Destinations that could not be connected: the client saw a reset.", ()),
    "aborted_at_shutdown": ("Connections reset at the end of the grace period.", ()),
    "not_taken": (
        "Peers that did not take what was left for them, within 60 s (closed) or 5 s (reset), and then saw a reset.",
        _REASON,
    ),
    "splices": ("Bodies that passed within the kernel.", ()),
    # what they speak
    "raw": ("Connections, or their rest, that pass unread, by reason.", _REASON),
    "raw_connections": ("Connections that pass unread, by destination port and reason.", ("port", "reason")),
    "tunnels": ("Connections that became tunnels, by how (connect, upgrade).", _REASON),
    "rejected": ("Connections refused as ambiguous HTTP (strict: reject), by reason.", _REASON),
    "tls_connections": ("TLS connections that pass unread, by destination port.", ("port",)),
    "tls_sent_bytes": ("Bytes of TLS that clients sent, by destination port.", ("port",)),
    "tls_received_bytes": ("Bytes of TLS that servers sent, by destination port.", ("port",)),
    "tls_server_names": ("TLS connections by the server name that was asked for.", ("server_name",)),
    "tls_alpn": ("TLS connections by the first protocol that was offered.", ("protocol",)),
    # exchanges
    "requests": (
        "Requests by the decision on them (captured, or why not), and by the rule that decided, where one did.",
        ("reason", "rule"),
    ),
    "requests_skipped": ("Requests that could not be captured, by reason.", _REASON),
    "responses_skipped": ("Exchanges left out for their response, by reason.", _REASON),
    "captured": ("Exchanges recorded.", ()),
    "partial_records": ("Records of exchanges that still went on.", ()),
    "dropped": ("Exchanges that sampling or limits left out, by reason.", _REASON),
    "channel_dropped": ("Records that could not be handed to the exporter, by reason.", _REASON),
    "bodies_cut": ("Bodies kept shorter than the settings allow, by reason.", _REASON),
    "headers_not_replaced": ("Header fields that had passed before they could be replaced.", ()),
    "tap_faults": ("Faults of ours in reading a protocol: the connection went on unread.", ()),
    "h2_not_injected": ("HTTP/2 requests that went on without our header fields.", ()),
    "h2_unwatched_streams": ("HTTP/2 streams beyond what is watched at once.", ()),
    "h2_pushes": ("Server pushes, which are not captured.", ()),
    "h2_malformed_requests": ("HTTP/2 requests that no server should take.", ()),
    "h2_malformed_responses": ("HTTP/2 responses that no client should take.", ()),
    "h2_trailers_too_long": ("HTTP/2 trailers that were too long to be kept.", ()),
    # request hooks
    "addon_requests": ("Calls of request hooks.", ("addon",)),
    "addon_request_ns": ("Nanoseconds that they took.", ("addon",)),
    "addon_request_faults": ("Calls of request hooks that raised: without effect.", ("addon",)),
    "addon_switched_off": ("Times that a request hook was left out for a while, as too slow.", ("addon",)),
    "addon_heads_passed": ("Heads of which a part had passed before request hooks could be called.", ()),
    # flow scripts
    "script_calls": ("Calls of flow scripts that went well.", ("addon",)),
    "script_faults": ("Calls of flow scripts that raised or blocked.", ("addon",)),
    # mitmproxy
    "handed_over": ("Connections handed to the mitmproxy worker.", ()),
    "hand_over_refused": ("Connections that stayed with the relay, by reason.", _REASON),
    "handover_failed": ("Connections that the mitmproxy worker could not take.", ()),
    "inject": ("Outbound requests that might have had a stored answer (settings inject), by what came of it.", _REASON),
    "hook_faults": ("Faults in hooks: the request passed without them.", ()),
    "tls_intercepted": ("TLS connections that were opened.", ()),
    "tls_passed_through": ("TLS connections that the mitmproxy worker passed, by reason.", _REASON),
    "tls_failed": ("Handshakes that failed, by side.", ("side",)),
}
"""By name: the text, and what the parts behind the name say, between colons."""
GAUGES: Final[dict[str, str]] = {
    "connections_open": "Connections now.",
    "cpu_seconds": "Processor time of the workers that run now.",
    "resident_memory_bytes": "Memory of the workers that run now.",
}


def worker_metrics(workers: tuple[WorkerStats, ...]) -> Iterator[Metric]:
    """Every family, with a sample for each worker that has one."""
    connected = GaugeMetricFamily("sp_proxy_worker_connected", "1 while its channel is open.", labels=["worker"])
    for worker in workers:
        connected.add_metric([str(worker.worker_id)], worker.connected)
    yield connected
    yield from _counters(workers)
    yield from _gauges(workers)


def _counters(workers: tuple[WorkerStats, ...]) -> Iterator[Metric]:
    samples: dict[str, list[tuple[str, list[str], int]]] = {name: [] for name in COUNTERS}
    for worker in workers:
        for key, count in worker.counters.items():
            name, _, said = key.partition(":")
            name = _sanitize(name)
            if name in {*GAUGES, "connected"}:  # a family has one kind
                name += "_counted"
            values = said.split(":", max(len(_labels(name)) - 1, 0))
            samples.setdefault(name, []).append((str(worker.worker_id), values, count))
    for name, found in sorted(samples.items()):
        # All samples of a family have the same labels, so one reason gives a label to all.
        labels = _labels(name) if name in COUNTERS or any(any(values) for _, values, _ in found) else ()
        text = COUNTERS[name][0] if name in COUNTERS else f"Counted by the workers: {name}."
        family = CounterMetricFamily(f"sp_proxy_worker_{name}", text, labels=["worker", *labels])
        for worker_id, values, count in found:
            family.add_metric([worker_id, *(values + [""] * len(labels))[: len(labels)]], count)
        yield family


def _labels(name: str) -> tuple[str, ...]:
    return COUNTERS[name][1] if name in COUNTERS else _REASON


def _gauges(workers: tuple[WorkerStats, ...]) -> Iterator[Metric]:
    samples: dict[str, list[tuple[str, float]]] = {name: [] for name in GAUGES}
    for worker in workers:
        for key, value in worker.gauges.items():
            samples.setdefault(_sanitize(key), []).append((str(worker.worker_id), value))
    for name, values in sorted(samples.items()):
        text = GAUGES.get(name, f"At this moment in the workers: {name}.")
        family = GaugeMetricFamily(f"sp_proxy_worker_{name}", text, labels=["worker"])
        for worker_id, value in values:
            family.add_metric([worker_id], value)
        yield family


def _sanitize(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)
