"""What a chaos run found, in Markdown."""

from collections import Counter
from collections.abc import Sequence

from benchmarks.chaos.delivery import Delivery
from benchmarks.chaos.history import History
from benchmarks.chaos.schedule import Kind
from benchmarks.chaos.traffic import SHOP, Excuse, Traffic

SHOWN = 30
"""Lines of what must not be."""
LEAST = 0.1
"""The part of the requests that must have come through sp_proxy: of a short run on a slow machine it is away for most of it."""


def report(
    seed: int, seconds: float, traffic: Traffic, delivery: Delivery, history: History, problems: Sequence[str]
) -> str:
    """Everything; ``problems`` are all of what must not be."""
    asked = sum(count.asked for count in traffic.counts.values())
    left_out = f" ({history.left_out} were left out: the machine is too slow)" if history.left_out else ""
    parts = [
        f"Chaos of {seconds:g} s, seed {seed}: {asked:,} requests, {len(history.done)} faults{left_out}; the machine stalled for {history.stall:.1f} s at most.",
        _requests(traffic),
        _faults(history),
        _delivery(delivery, history),
    ]
    if problems:
        left = len(problems) - SHOWN
        lines = [f"- {problem}" for problem in problems[:SHOWN]]
        parts.append("\n".join([f"**{len(problems)} must not be** (seed {seed}):", "", *lines]))
        if left > 0:
            parts.append(f"… and {left} more.")
    else:
        parts.append(
            "No request failed that would not have failed without sp_proxy, and every exchange is accounted for."
        )
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _requests(traffic: Traffic) -> str:
    head = (
        "pod",
        "way",
        "requests",
        "through sp_proxy",
        *(f"failed: {excuse}" for excuse in Excuse),
        "failed otherwise",
    )
    rows = []
    for (pod, way), count in sorted(traffic.counts.items(), reverse=True):
        excused = [f"{count.failed[excuse]:,}" for excuse in Excuse]
        rows.append((pod, way, f"{count.asked:,}", f"{count.through:,}", *excused, f"{count.unexcused:,}"))
    return _table(head, rows)


def _faults(history: History) -> str:
    counted = Counter(done.kind for done in history.done)
    seconds: Counter[str] = Counter()
    for done in history.done:
        seconds[done.kind] += done.over - done.begun  # type: ignore[assignment]
    rows = [(kind, str(times), f"{seconds[kind]:.1f}") for kind, times in sorted(counted.items())]
    met = {
        event: history.seen[event]
        for event in sorted({*(event for _, event in TRACES.values()), "worker_stuck", "failing_open"})
    }
    told = ", ".join(f"`{event}` {count:,}" for event, count in met.items() if count) or "nothing"
    written = ", ".join(f"{tool} {count:,}" for tool, count in sorted(history.written.items())) or "none"
    return (
        _table(("fault", "times", "seconds in all"), rows)
        + f"\n\nThe daemon said of it: {told}. Rules written by another tool: {written}."
    )


def _delivery(delivery: Delivery, history: History) -> str:
    refused = ", ".join(f"`{reason}` {count:,}" for reason, count in sorted(history.refused.items()) if count) or "none"
    dropped = ", ".join(f"`{reason}` {count:,}" for reason, count in delivery.dropped.items()) or "none"
    twice = ", ".join(f"{reason} {count:,}" for reason, count in delivery.twice.items()) or "none"
    rows = [
        ("answered through sp_proxy", f"{delivery.expected:,}"),
        ("accepted by the backend", f"{delivery.accepted:,}"),
        ("lost within the bound of a killed process", f"{delivery.lost_with_processes:,}"),
        (
            f"lost otherwise, of {delivery.in_memory:,} in memory of killed exporters and those dropped",
            f"{delivery.among:,}",
        ),
        ("records dropped, by reason", dropped),
        ("accepted, and their client saw no answer", f"{delivery.unknown:,}"),
        ("accepted twice, by why", twice),
        ("connections closed by sp_proxy at once, by reason", refused),
    ]
    return _table(("exchanges", ""), rows)


TRACES = {
    Kind.WORKER_KILLED: (4, "worker_died"),
    Kind.TERMINATED: (4, "stopped"),
    Kind.BACKEND_BUSY: (10, "upload_retried"),
    Kind.DISK_FULL: (20, "spool_degraded"),
    Kind.SETTINGS_CHANGED: (10, "reloaded"),
    Kind.SETTINGS_WRONG: (10, "reload_refused"),
}
"""How often a fault must have been made before its trace is asked for (a single one may meet a daemon that is away, or one that
needs no disk), and what the daemon says in its log when it has met it.
"""
RULES_ENOUGH = 10


def _without_trace(history: History) -> list[str]:
    """Faults that were made again and again, and met nobody: such a run shows nothing of them."""
    made = Counter(done.kind for done in history.done)
    found = [
        f"{kind}: {made[kind]} times, and the daemon never said {event}"
        for kind, (enough, event) in TRACES.items()
        if made[kind] >= enough and not history.seen[event]
    ]
    if made[Kind.RULES_APPLIED] >= RULES_ENOUGH and not history.written:
        found.append(f"{Kind.RULES_APPLIED}: {made[Kind.RULES_APPLIED]} times, and never written")
    return found


def problems(traffic: Traffic, delivery: Delivery, history: History) -> list[str]:
    """What must not be. A run in which hardly anything came through sp_proxy shows nothing."""
    found = [*traffic.offences, *delivery.offences, *history.troubles, *_without_trace(history)]
    if loops := history.refused["loop"]:
        found.append(f"{loops:,} connections were taken for a loop, and there is none")
    asked = sum(count.asked for (pod, _), count in traffic.counts.items() if pod == SHOP)
    through = sum(count.through for (pod, _), count in traffic.counts.items() if pod == SHOP)
    if through < asked * LEAST:
        found.append(f"only {through:,} of {asked:,} requests came through sp_proxy")
    return found
