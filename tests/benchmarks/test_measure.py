"""Figures for capture are refused when less was captured than was asked for."""

import pytest

from benchmarks.measure import MIN_RECORD_BYTES, _check
from benchmarks.processes import BenchmarkError
from benchmarks.proxies import Settled


@pytest.mark.parametrize(
    "settled", [Settled(), Settled(captured=100), Settled(captured=116), Settled(channel_bytes=100 * MIN_RECORD_BYTES)]
)
def test_everything_was_captured(settled):
    _check(settled, 100)


@pytest.mark.parametrize(
    "settled,message",
    [
        (Settled(captured=0), "only 0 of 100 requests were captured"),
        (Settled(captured=99), "only 99 of 100 requests"),
        (Settled(channel_bytes=3000), "only 3,000 bytes of records came of 100 requests"),
    ],
)
def test_something_was_not(settled, message):
    with pytest.raises(BenchmarkError, match=message):
        _check(settled, 100)
