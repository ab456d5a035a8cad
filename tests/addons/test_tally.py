"""What is counted of an addon."""

from sp_proxy.addons.tally import MAX_SERIES, Tally
from sp_proxy.addons.wire import Done, Emitted


def done(*emitted: Emitted) -> Done:
    return Done([0], [], [1, 2], [3], [], list(emitted), [], 0.5)


def test_calls_and_metrics_add_up():
    tally = Tally("one")
    tally.add(done(Emitted("a", (("x", "1"),), 2.0, 0), Emitted("b", (), 1.5, 1)), 5, lambda _, value: value)
    tally.add(done(Emitted("a", (("x", "1"),), 1.0, 0), Emitted("b", (), -9.0, 1)), 5, lambda _, value: value)
    stats = tally.stats("ready")
    assert (stats.called, stats.failed, stats.skipped, stats.seconds) == (10, 4, 2, 1.0)
    assert stats.series["a", (("x", "1"),)].amount == 3.0
    assert (stats.series["b", ()].amount, stats.series["b", ()].observations) == (1.5, 1)


def test_series_are_bounded_and_masked():
    tally = Tally("one")
    emitted = [Emitted("a", (("x", str(number)),), 1.0, 0) for number in range(MAX_SERIES + 5)]
    tally.add(done(*emitted), 1, lambda name, value: f"{name}={value}")
    assert len(tally.series) == MAX_SERIES
    assert tally.series_lost == 5
    assert ("a", (("x", "x=7"),)) in tally.series
