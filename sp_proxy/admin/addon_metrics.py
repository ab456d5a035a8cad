"""Metrics of capture hooks: the daemon's own of each, and those that they emit themselves."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sp_proxy.addons.tally import AddonStats

Each = Sequence[AddonStats]

_COUNTERS: tuple[tuple[str, str, Callable[[AddonStats], float]], ...] = (
    ("addon_calls", "Records that a capture hook was called with.", lambda each: each.called),
    ("addon_faults", "Calls that raised or took too long: without effect.", lambda each: each.failed),
    (
        "addon_skipped",
        "Records that it was not called with, for want of time or in a pause.",
        lambda each: each.skipped,
    ),
    ("addon_dropped", "Records that it dropped.", lambda each: each.dropped),
    ("addon_added", "Records that it split off.", lambda each: each.added),
    ("addon_restarts", "Processes of it that were lost.", lambda each: each.restarts),
    ("addon_seconds", "Time that its calls took.", lambda each: each.seconds),
    ("addon_series_lost", "Changes of its own metrics beyond the limit of series.", lambda each: each.series_lost),
)


def addon_metrics(addons: Each) -> Iterator[Metric]:
    """Every family, with a sample for each addon."""
    if not addons:
        return
    for name, text, read in _COUNTERS:
        family = CounterMetricFamily(f"sp_proxy_{name}", text, labels=["addon"])
        for each in addons:
            family.add_metric([each.name], read(each))
        yield family
    state = GaugeMetricFamily("sp_proxy_addon_paused", "1 while it has a pause after failures.", labels=["addon"])
    for each in addons:
        state.add_metric([each.name], each.state == "paused")
    yield state
    yield from _own(addons)


_TAKEN = frozenset(name for name, _, _ in _COUNTERS)


def _own(addons: Each) -> Iterator[Metric]:
    families: dict[str, Metric] = {}
    for each in addons:
        for (name, labels), series in each.series.items():
            full = f"sp_proxy_addon_{name}"
            if f"addon_{name}" in _TAKEN or name == "paused":
                continue
            kind = "summary" if series.observations else "counter"
            family = families.setdefault(full, Metric(full, "Of an addon.", kind))
            if family.type != kind:  # the first one decides
                continue
            values = {"addon": each.name, **dict(labels)}
            if series.observations:
                family.add_sample(f"{full}_count", values, series.observations)
                family.add_sample(f"{full}_sum", values, series.amount)
            else:
                family.add_sample(f"{full}_total", values, series.amount)
    yield from families.values()
