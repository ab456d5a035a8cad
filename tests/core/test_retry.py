"""Backoff and ``Retry-After``, without a clock."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.retry import MAX_RETRY_AFTER, MIN_INTERVAL, Backoff, RetryPolicy, parse_retry_after

PLAIN = RetryPolicy(
    initial_interval=1.0, max_interval=8.0, multiplier=2.0, randomization_factor=0.0, max_elapsed_time=0.0
)
NOW_UNIX = 1_700_000_000.0


def test_waits_grow_to_the_maximum():
    backoff = Backoff(PLAIN, now=0.0)
    assert [backoff.next_wait(0.0, 0.5) for _ in range(6)] == [1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize("randomness,wait", [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_jitter_spreads_around_the_interval(randomness, wait):
    policy = RetryPolicy(1.0, 8.0, 2.0, 0.5, 0.0)
    assert Backoff(policy, now=0.0).next_wait(0.0, randomness) == pytest.approx(wait)


def test_a_longer_wait_asked_for_wins():
    assert Backoff(PLAIN, now=0.0).next_wait(0.0, 0.5, after=5.0) == 5.0


def test_a_shorter_wait_asked_for_does_not():
    assert Backoff(PLAIN, now=0.0).next_wait(0.0, 0.5, after=0.0) == 1.0


def test_gives_up_when_the_next_attempt_would_be_too_late():
    policy = RetryPolicy(1.0, 1.0, 1.0, 0.0, max_elapsed_time=10.0)
    backoff = Backoff(policy, now=100.0)
    assert backoff.next_wait(109.0, 0.5) == 1.0
    assert backoff.next_wait(109.01, 0.5) is None


def test_gives_up_when_asked_to_wait_beyond_the_end():
    policy = RetryPolicy(1.0, 1.0, 1.0, 0.0, max_elapsed_time=10.0)
    assert Backoff(policy, now=0.0).next_wait(0.0, 0.5, after=11.0) is None


def test_zero_elapsed_time_never_gives_up():
    assert Backoff(PLAIN, now=0.0).next_wait(1e9, 0.5) == 1.0


def test_an_initial_interval_of_zero_is_no_busy_loop():
    backoff = Backoff(RetryPolicy(0.0, 0.0, 1.0, 1.0, 0.0), now=0.0)
    assert [backoff.next_wait(0.0, 0.0) for _ in range(3)] == [MIN_INTERVAL] * 3


@given(
    st.floats(0, 1e3), st.floats(0, 1e3), st.floats(1, 1e6), st.floats(0, 1), st.lists(st.floats(0, 1), max_size=100)
)
def test_waits_stay_within_bounds(initial, maximum, multiplier, factor, draws):
    backoff = Backoff(RetryPolicy(initial, maximum, multiplier, factor, 0.0), now=0.0)
    for randomness in draws:
        wait = backoff.next_wait(0.0, randomness)
        assert wait is not None
        assert MIN_INTERVAL <= wait <= max(maximum, MIN_INTERVAL) * (1 + factor) + 1e-9


@pytest.mark.parametrize(
    "value,seconds",
    [
        ("0", 0.0),
        ("17", 17.0),
        (" 2 ", 2.0),
        ("999999999999", MAX_RETRY_AFTER),
        (formatdate(NOW_UNIX + 30, usegmt=True), 30.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
        ("Tue Nov 14 22:13:50 2023", 30.0),
        (formatdate(NOW_UNIX - 30, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Tue, 99 Nov 2023 22:13:50 GMT", None),
    ],
)
def test_retry_after(value, seconds):
    assert parse_retry_after(value, NOW_UNIX) == seconds


@given(st.text())
def test_retry_after_of_any_text_is_a_wait_or_nothing(value):
    seconds = parse_retry_after(value, NOW_UNIX)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER
