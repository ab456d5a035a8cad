"""Sampling that every hop decides alike, and limits."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.admission import Admission, AdmissionConfig, RateConfig, has_failed
from sp_proxy.core.exchange import Direction

SECOND = 1_000_000_000
TRACE_IDS = st.integers(min_value=1, max_value=(1 << 128) - 1).map(lambda number: b"%032x" % number)


def admission(**values) -> Admission:
    made = Admission.make(AdmissionConfig(**values))
    assert made is not None
    return made


def refuse(
    one: Admission,
    trace_id: bytes = b"0" * 32,
    *,
    rule: str = "",
    failed: bool = False,
    duration_ns: int = 0,
    size: int = 100,
    now_ns: int = SECOND,
) -> str:
    return one.refuse(trace_id, rule, failed=failed, duration_ns=duration_ns, size=size, now_ns=now_ns)


def test_nobody_needs_to_ask_when_nothing_is_limited():
    assert Admission.make(AdmissionConfig()) is None
    assert Admission.make(AdmissionConfig(limit=RateConfig(exchange_burst=5.0))) is None
    assert Admission.make(AdmissionConfig(rule_limits={"server[0]": RateConfig(exchanges=1.0)})) is not None


@given(TRACE_IDS, st.floats(min_value=0, max_value=0.99), st.floats(min_value=0, max_value=0.99))
def test_a_higher_ratio_keeps_all_that_a_lower_one_does(trace_id, one, other):
    lower, higher = (Admission(AdmissionConfig(sampling_ratio=ratio)) for ratio in sorted((one, other)))
    assert higher.samples(trace_id) >= lower.samples(trace_id)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 0.9])
def test_about_so_many_are_kept(ratio):
    sampling = admission(sampling_ratio=ratio)
    generator = random.Random(7)
    kept = sum(not refuse(sampling, b"%032x" % generator.getrandbits(128)) for _ in range(20_000))
    assert abs(kept / 20_000 - ratio) < 0.015


def test_the_ends_of_the_scale():
    """W3C level 2: the randomness is the last 56 bits, and is kept when it reaches (1 - ratio) of their range."""
    half = admission(sampling_ratio=0.5)
    assert half.samples(b"0" * 18 + b"80000000000000")
    assert not half.samples(b"f" * 18 + b"7fffffffffffff")
    nothing = admission(sampling_ratio=0.0)
    assert refuse(nothing, b"f" * 32) == "sampled_out"
    hardly_any = admission(sampling_ratio=1e-30)
    assert hardly_any.samples(b"f" * 32)


def test_errors_and_slow_exchanges_are_kept():
    sampling = admission(sampling_ratio=0.0, keep_slower_than=0.5)
    assert refuse(sampling) == "sampled_out"
    assert refuse(sampling, failed=True) == ""
    assert refuse(sampling, duration_ns=SECOND // 2) == ""
    assert refuse(sampling, duration_ns=SECOND // 2 - 1) == "sampled_out"
    assert refuse(admission(sampling_ratio=0.0, keep_errors=False), failed=True) == "sampled_out"


def test_exchanges_a_second():
    limited = admission(limit=RateConfig(exchanges=2.0, exchange_burst=3.0))
    assert [refuse(limited) for _ in range(5)] == ["", "", "", "rate_limit", "rate_limit"]
    assert [refuse(limited, now_ns=2 * SECOND) for _ in range(3)] == ["", "", "rate_limit"]
    assert [refuse(limited, now_ns=100 * SECOND) for _ in range(4)] == ["", "", "", "rate_limit"]


def test_bytes_a_second():
    limited = admission(limit=RateConfig(bytes=1000.0, byte_burst=1000.0))
    assert [refuse(limited, size=600) for _ in range(3)] == ["", "", "rate_limit"]  # 200 more than there were
    assert refuse(limited, size=1, now_ns=SECOND + SECOND // 10) == "rate_limit"
    assert refuse(limited, size=1, now_ns=SECOND + SECOND // 2) == ""


def test_a_rule_has_its_own_limit_beside_the_common_one():
    limited = admission(
        limit=RateConfig(exchanges=1.0, exchange_burst=3.0),
        rule_limits={"server[0]": RateConfig(exchanges=1.0, exchange_burst=1.0)},
    )
    assert refuse(limited, rule="server[0]") == ""
    assert refuse(limited, rule="server[0]") == "rule_rate_limit"
    # What one limit refuses costs nothing in the other.
    assert [refuse(limited, rule="server[1]") for _ in range(3)] == ["", "", "rate_limit"]


def test_what_is_sampled_out_costs_no_token():
    limited = admission(sampling_ratio=0.5, limit=RateConfig(exchanges=1.0, exchange_burst=1.0))
    assert [refuse(limited, b"0" * 32) for _ in range(3)] == ["sampled_out"] * 3
    assert refuse(limited, b"f" * 32) == ""


@pytest.mark.parametrize(
    "direction,status,fields,trailers,failed",
    [
        (Direction.INBOUND, 200, b"", b"", False),
        (Direction.INBOUND, 404, b"", b"", False),
        (Direction.OUTBOUND, 404, b"", b"", True),
        (Direction.INBOUND, 500, b"", b"", True),
        (Direction.INBOUND, 0, b"", b"", True),
        (Direction.OUTBOUND, 200, b"", b"grpc-status: 0\r\n", False),
        (Direction.OUTBOUND, 200, b"", b"a: b\r\nGrpc-Status:13\r\n", True),
        (Direction.OUTBOUND, 200, b"grpc-status: 5\r\n", b"", True),
        (Direction.OUTBOUND, 200, b"x-grpc-status: 5\r\n", b"", False),
    ],
)
def test_what_counts_as_an_error(direction, status, fields, trailers, failed):
    assert has_failed(direction, status, fields, trailers) is failed
