"""Adaptive concurrency: it grows while all goes well and is used, and gives way at the first sign of overload."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.concurrency import ConcurrencyLimit


def well(limit: ConcurrencyLimit, times: int, seconds: float = 0.01) -> None:
    for _ in range(times):
        limit.answered(seconds, limit.value)


def test_it_grows_by_one_a_round_up_to_its_maximum():
    limit = ConcurrencyLimit(8, initial=2)
    values = []
    for _ in range(7):
        well(limit, limit.value)
        values.append(limit.value)
    assert values == [3, 4, 5, 6, 7, 8, 8]


def test_it_does_not_grow_where_it_is_not_used():
    limit = ConcurrencyLimit(8, initial=4)
    for _ in range(100):
        limit.answered(0.01, 1)
    assert limit.value == 4


def test_overload_shrinks_it_once_a_round():
    limit = ConcurrencyLimit(10, initial=10)
    for _ in range(10):
        limit.overloaded()
    assert limit.value == 7
    limit.overloaded()
    assert limit.value == 4


def test_it_never_falls_below_one():
    limit = ConcurrencyLimit(4)
    for _ in range(100):
        limit.overloaded()
    assert limit.value == 1
    well(limit, 3)
    assert limit.value > 1


def test_latency_far_above_the_usual_is_overload():
    limit = ConcurrencyLimit(10, initial=10)
    well(limit, 50)
    limit.answered(5.0, 10)
    assert limit.value == 7


@pytest.mark.parametrize("seconds", [0.012, 0.04])
def test_small_differences_mean_nothing(seconds):
    limit = ConcurrencyLimit(10, initial=10)
    well(limit, 50)
    limit.answered(seconds, 10)
    assert limit.value == 10


def test_what_is_always_slow_is_the_usual():
    limit = ConcurrencyLimit(10, initial=4)
    for _ in range(100):
        limit.answered(2.0, limit.value)
    assert limit.value == 10


def test_a_maximum_of_one():
    limit = ConcurrencyLimit(1)
    well(limit, 10)
    limit.overloaded()
    assert limit.value == 1


@given(st.integers(1, 64), st.lists(st.one_of(st.none(), st.floats(0, 60)), max_size=200))
def test_it_stays_within_its_bounds(maximum, steps):
    limit = ConcurrencyLimit(maximum)
    for seconds in steps:
        if seconds is None:
            limit.overloaded()
        else:
            limit.answered(seconds, limit.value)
        assert 1 <= limit.value <= maximum
