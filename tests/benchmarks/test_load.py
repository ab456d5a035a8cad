"""What the load tools print, as read from them."""

import math

import pytest

from benchmarks.load import parse_h2load, parse_wrk, percentile
from benchmarks.processes import BenchmarkError

WRK = """Running 1s test @ http://127.0.0.1:18080/small
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
Requests/sec:  30000.00

{"requests": 30123, "duration_us": 1004000, "p50_us": 410, "p99_us": 1500, "p999_us": 2750, "errors": 3}
"""

H2LOAD = """starting benchmark...
Main benchmark duration is over for thread #0. Stopping all clients.

finished in 1.00s, 4.00 req/s, 10.77MB/s
requests: 4 total, 14 started, 4 done, 4 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3 2xx, 0 3xx, 1 4xx, 0 5xx
"""
TIMES = (
    "1763838000000000\t200\t100\n1763838000000100\t200\t300\n1763838000000200\t404\t200\n1763838000000300\t200\t400\n"
)


def test_wrk():
    result = parse_wrk(WRK)
    assert result.requests == 30123
    assert result.seconds == pytest.approx(1.004)
    assert (result.p50_ms, result.p99_ms, result.p999_ms) == (0.41, 1.5, 2.75)
    assert result.errors == 3


def test_wrk_without_one_answer():
    with pytest.raises(BenchmarkError, match="no request was answered, 7 errors"):
        parse_wrk('{"requests": 0, "duration_us": 1, "p50_us": 0, "p99_us": 0, "p999_us": 0, "errors": 7}')


def test_wrk_that_could_not_connect():
    with pytest.raises(BenchmarkError, match="unable to connect"):
        parse_wrk("Running 1s test\nunable to connect to 127.0.0.1:1 Connection refused\n")


def test_h2load():
    result = parse_h2load(H2LOAD, TIMES)
    assert (result.requests, result.seconds, result.errors) == (4, 1.0, 1)
    assert (result.p50_ms, result.p99_ms) == (0.3, 0.4)


def test_h2load_without_one_answer():
    text = H2LOAD.replace("4 done, 4 succeeded, 0 failed", "4 done, 0 succeeded, 4 failed")
    with pytest.raises(BenchmarkError, match="no request was answered, 4 failed"):
        parse_h2load(text, "")


def test_h2load_that_failed():
    with pytest.raises(BenchmarkError, match="h2load: it said nothing"):
        parse_h2load("", "")


def test_percentile():
    assert [percentile(range(100), part) for part in (0.5, 0.99, 0.999)] == [50, 99, 99]
    assert math.isnan(percentile([], 0.5))
