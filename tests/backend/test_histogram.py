from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.histogram import bucket, percentile


@pytest.mark.parametrize("duration", [0, 1, 999, 1000])
def test_the_shortest_share_a_bucket(duration):
    assert bucket(duration) == 0


@given(st.integers(2000, 2**62))
def test_what_is_told_of_a_duration_is_near(duration):
    assert percentile({bucket(duration): 3}, 0.95) == pytest.approx(duration, rel=0.1)


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_buckets_are_in_order(one, other):
    assert (bucket(one) <= bucket(other)) or one > other


@given(st.lists(st.integers(10_000, 10**10), min_size=1), st.sampled_from([0.5, 0.95]))
def test_percentiles_are_near_the_exact_ones(durations, part):
    counts = Counter(bucket(duration) for duration in durations)
    exact = sorted(durations)[max(0, -(-int(len(durations) * part * 100) // 100) - 1)]
    nearest = [value for value in sorted(durations) if value >= exact][:2]
    assert any(percentile(counts, part) == pytest.approx(value, rel=0.1) for value in nearest)


def test_nothing_has_no_percentile():
    assert percentile({}, 0.5) == 0
    assert percentile({3: 0, 4: -1}, 0.5) == 0
