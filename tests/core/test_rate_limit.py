"""When a repeated event is worth a line."""

from sp_proxy.core.rate_limit import Sparing


def test_the_first_then_once_an_interval_with_the_count():
    sparing = Sparing(30.0)
    assert sparing.count(0.0) == 1
    assert sparing.count(1.0) is None
    assert sparing.count(29.9, events=5) is None
    assert sparing.count(30.0) == 7
    assert sparing.count(31.0) is None


def test_after_a_quiet_time_the_next_is_a_first_again():
    sparing = Sparing(30.0)
    assert sparing.count(0.0) == 1
    assert sparing.count(1000.0) == 1
