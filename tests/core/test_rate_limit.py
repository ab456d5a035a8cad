"""When a repeated event is worth a line, and token buckets."""

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.rate_limit import Sparing, TokenBucket


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


SECOND = 1_000_000_000


def taken(bucket: TokenBucket, now: float, times: int) -> int:
    """How many of so many attempts found a token."""
    found = 0
    for _ in range(times):
        if bucket.has(round(now * SECOND)):
            bucket.take(1.0)
            found += 1
    return found


def test_a_bucket_is_full_at_first_and_fills_at_its_rate():
    bucket = TokenBucket(rate=10.0, burst=5.0)
    assert taken(bucket, 100.0, 20) == 5
    assert taken(bucket, 100.25, 20) == 3  # two and a half more: the third is borrowed
    assert taken(bucket, 100.3, 20) == 0
    assert taken(bucket, 200.0, 20) == 5


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=30))
def test_the_average_holds(steps):
    bucket = TokenBucket(rate=3.0, burst=4.0)
    now, found = 0.0, 0
    for wait, times in steps:
        now += wait
        found += taken(bucket, now, times)
    assert found <= 4 + 3 * now + 1


def test_a_clock_that_is_set_back_neither_fills_nor_stops_it():
    bucket = TokenBucket(rate=1.0, burst=2.0)
    assert taken(bucket, 1000.0, 5) == 2
    assert taken(bucket, 999.9, 5) == 0
    assert taken(bucket, 10.0, 5) == 0
    assert taken(bucket, 11.5, 5) == 2


def test_a_debt_is_paid_off():
    bucket = TokenBucket(rate=100.0, burst=10.0)
    assert bucket.has(0)
    bucket.take(110.0)
    assert not bucket.has(SECOND)
    assert bucket.has(SECOND + SECOND // 10)
