"""What the tap and h11, or the tap and llhttp, both accept, they read alike: method, target, fields, body, trailers.

``disagreements/`` lists where one refuses what another accepts.
"""

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.taps.conversations import MUTATIONS, conversations, mutated
from tests.taps.disagreements.case import Disagreement
from tests.taps.disagreements.request_bodies import REQUEST_BODIES
from tests.taps.disagreements.request_heads import REQUEST_HEADS
from tests.taps.disagreements.responses import RESPONSES
from tests.taps.readers import (
    Reading,
    h11_requests,
    h11_responses,
    llhttp_requests,
    llhttp_responses,
    tap_requests,
    tap_responses,
)

MANY = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest.mark.parametrize("case", [*REQUEST_HEADS, *REQUEST_BODIES], ids=lambda case: case.name)
def test_disagreements_about_requests(case: Disagreement):
    readings = (tap_requests(case.data), h11_requests(case.data), llhttp_requests(case.data))
    assert tuple(map(str, readings)) == (case.tap, case.h11, case.llhttp)
    assert len(set(map(str, readings))) > 1
    assert case.why


@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case.name)
def test_disagreements_about_responses(case: Disagreement):
    readings = (tap_responses(case.data), h11_responses(case.data), llhttp_responses(case.data))
    assert tuple(map(str, readings)) == (case.tap, case.h11, case.llhttp)
    assert len(set(map(str, readings))) > 1
    assert case.why


def assert_alike(tap: Reading, other: Reading) -> None:
    """What both have read is the same. Where the other stopped by itself (it refused, it closed), only up to there."""
    if tap.outcome == "refused":
        return
    if tap.outcome == other.outcome == "read":
        assert tap.messages == other.messages
    else:
        common = min(len(tap.messages), len(other.messages))
        assert tap.messages[:common] == other.messages[:common]


@MANY
@given(conversations(replaced=False))
def test_valid_requests_are_read_alike(conversation):
    data = b"".join(each.sent for each in conversation)
    tap = tap_requests(data)
    assert len(tap.messages) == len(conversation) or tap.outcome in {"upgrade", "refused"}
    for other in (h11_requests(data), llhttp_requests(data)):
        assert_alike(tap, other)


@MANY
@given(conversations(replaced=False), MUTATIONS)
def test_broken_requests_that_both_accept_are_read_alike(conversation, mutations):
    data = mutated(b"".join(each.sent for each in conversation), mutations)
    assume(b"upgrade" not in data.lower())  # behind which the tap waits for the answer
    tap = tap_requests(data)
    for other in (h11_requests(data), llhttp_requests(data)):
        assert_alike(tap, other)


@MANY
@given(conversations(replaced=False), MUTATIONS)
def test_responses_that_both_accept_are_read_alike(conversation, mutations):
    for each in conversation:
        if each.method == b"HEAD":
            continue  # llhttp is not told the method
        for data in (each.answer, mutated(each.answer, mutations)):
            tap = tap_responses(data)
            for other in (h11_responses(data), llhttp_responses(data)):
                assert_alike(tap, other)


def test_the_readers_do_read():
    data = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n"
    expected = tap_requests(data)
    assert expected.messages[0].body == b"hi"
    assert expected.messages[0].trailers == [(b"A", b"b")]
    assert h11_requests(data) == llhttp_requests(data) == expected
    answer = b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nuntil close"
    assert str(tap_responses(answer)) == "read until close"
    assert h11_responses(answer) == llhttp_responses(answer) == tap_responses(answer)
