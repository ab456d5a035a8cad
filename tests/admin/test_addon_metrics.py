"""Metrics of addons."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from sp_proxy.addons.tally import AddonStats, Series
from sp_proxy.admin.addon_metrics import addon_metrics


def stats(name: str, series: dict[tuple[str, tuple[tuple[str, str], ...]], Series], state: str = "ready") -> AddonStats:
    return AddonStats(name, state, 10, 1, 2, 3, 4, 5, 0.25, series, 6, "")


class Fixed(Collector):
    def __init__(self, *addons: AddonStats) -> None:
        self._addons = addons

    def collect(self):
        return addon_metrics(self._addons)


def text(*addons: AddonStats) -> str:
    registry = CollectorRegistry()
    registry.register(Fixed(*addons))
    return generate_latest(registry).decode()


def test_each_addon_has_its_counters_and_its_own_metrics():
    shown = text(
        stats("one", {("requests", (("version", "v2"),)): Series(3.0), ("wait", ()): Series(1.5, 2)}),
        stats("two", {("requests", ()): Series(1.0), ("wait", ()): Series(9.0)}, "paused"),
    )
    for line in (
        'sp_proxy_addon_calls_total{addon="one"} 10.0',
        'sp_proxy_addon_paused{addon="two"} 1.0',
        'sp_proxy_addon_requests_total{addon="one",version="v2"} 3.0',
        'sp_proxy_addon_requests_total{addon="two"} 1.0',
        'sp_proxy_addon_wait_count{addon="one"} 2.0',
        'sp_proxy_addon_wait_sum{addon="one"} 1.5',
    ):
        assert line in shown
    assert "9.0" not in shown


def test_an_addon_does_not_shadow_the_daemons():
    assert 'sp_proxy_addon_calls_total{addon="one"} 10.0' in text(stats("one", {("calls", ()): Series(999.0)}))
    assert "999" not in text(stats("one", {("calls", ()): Series(999.0), ("paused", ()): Series(999.0)}))


def test_without_addons_there_is_nothing():
    assert list(addon_metrics(())) == []
