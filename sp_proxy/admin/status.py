"""The delivery equation with its numbers, as the plain data of ``GET /status``; ``sp-proxy status`` prints it.

For each exporter: captured + recovered = accepted + rejected + waiting + spooled + dropped, where captured is what was
captured while there was such an exporter. What is shed or waits before
there is a payload counts for every exporter alike, so that each line of the equation stands for itself.
"""

from collections import Counter
from typing import Any

from msgspec import to_builtins

from sp_proxy import __version__
from sp_proxy.admin.metrics import SupervisorStats
from sp_proxy.exporter.stats import DestinationStats, ExporterStats


def status_document(supervisor: SupervisorStats, exporter: ExporterStats) -> dict[str, Any]:
    """Everything that ``sp-proxy status`` tells; numbers are records unless named otherwise."""
    return {
        "version": __version__,
        "balanced": exporter.balanced,
        "draining": supervisor.draining,
        "failing_open": supervisor.failing_open,
        "exporter_running": supervisor.exporter_running,
        "exporter_faults": exporter.faults,
        "workers_ready": supervisor.workers_ready,
        "workers": supervisor.workers,
        "workers_retired": supervisor.workers_retired,
        "reload_refused": list(supervisor.reload.problems) if supervisor.reload else [],
        "lost_before_the_exporter": exporter.channel_dropped,
        "held_bytes": exporter.held_bytes,
        "exporters": [_exporter(exporter, each) for each in exporter.destinations],
        "worker_totals": [to_builtins(worker) for worker in exporter.workers],
    }


def _exporter(stats: ExporterStats, each: DestinationStats) -> dict[str, Any]:
    dropped = Counter(stats.shed)
    dropped.update(each.dropped)
    return {
        "name": each.name,
        "captured": stats.captured - each.elsewhere,
        "recovered": each.recovered,
        "accepted": each.accepted,
        "rejected": each.rejected,
        "waiting": stats.waiting_batch + each.waiting_queue + each.in_flight,
        "spooled": each.spooled,
        "dropped": dict(sorted(dropped.items())),
        "missing": stats.missing(each),
        "queue_bytes": each.queue_bytes,
        "spool": to_builtins(each.spool),
        "breaker": each.breaker,
        "last_error": each.last_error,
        "last_success_unix": each.last_success_unix,
    }
