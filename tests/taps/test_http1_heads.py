"""Heads are read once: what is remembered is what would be read anew, and no more is remembered than is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.core.rules import Policy, PolicyConfig, RuleConfig
from sp_proxy.taps.http1_framing import ABSENT, AMBIGUOUS, CHUNKED
from sp_proxy.taps.http1_heads import MAX_KNOWN, MAX_KNOWN_SIZE, Heads

REQUEST = b"GET /a?b HTTP/1.1\r\nHost: shop:80 \r\nAccept: */*\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
RULES = PolicyConfig(client_rules=(RuleConfig(host="shop"),))


def heads(policy: PolicyConfig = RULES, *, strict: bool = False, service: str = "shop") -> Heads:
    return Heads(Direction.OUTBOUND, Policy(policy), Injector(HeaderConfig(service)), strict=strict)


def test_a_request_says_all_that_the_tap_needs():
    head = heads().request(REQUEST)
    assert head is not None
    assert (head.method, head.target, head.authority, head.version) == (b"GET", b"/a?b", b"shop:80", "1.1")
    assert head.fields == b"\r\nHost: shop:80 \r\nAccept: */*\r\n" == REQUEST[head.fields_at : -2]
    assert (head.length, head.may_tunnel, head.fault, head.plain) == (0, False, "", True)
    assert (head.decision.rule, head.counter) == ("client[0]", "requests:captured:client[0]")


@pytest.mark.parametrize(
    "head, length",
    [
        (RESPONSE, 2),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED),
        (b"HTTP/1.0 200\r\n\r\n", ABSENT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", AMBIGUOUS),
    ],
)
def test_a_response_says_how_long_it_is(head, length):
    read = heads().response(head)
    assert read is not None
    assert (read.status, read.length, read.interim, read.no_content, read.skipped, read.fault) == (
        200,
        length,
        False,
        False,
        "",
        "",
    )


@pytest.mark.parametrize(
    "status, interim, no_content",
    [
        (b"100", True, False),
        (b"101", False, False),
        (b"103", True, False),
        (b"204", False, True),
        (b"304", False, True),
    ],
)
def test_what_a_status_says(status, interim, no_content):
    read = heads().response(b"HTTP/1.1 %b x\r\n\r\n" % status)
    assert read is not None
    assert (read.interim, read.no_content) == (interim, no_content)


def test_what_is_no_head_is_none():
    assert heads().request(b"GET / HTTP/1.1\r\nno colon\r\n\r\n") is None
    assert heads().response(b"HTTP/2 200 OK\r\n\r\n") is None


def test_the_same_bytes_are_read_once():
    reader = heads()
    assert reader.request(REQUEST) is reader.request(bytes(bytearray(REQUEST)))
    assert reader.response(RESPONSE) is reader.response(bytes(bytearray(RESPONSE)))


@pytest.mark.parametrize("field", [b"traceparent: x", b"X-Request-Id: 1", b"TraceState: a=b", b"sp_session_id: 1"])
def test_a_head_with_a_field_that_tells_is_not_kept(field):
    reader = heads()
    head = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % field
    read = reader.request(head)
    assert read is not None
    assert not read.plain
    assert reader.request(head) is not read


def test_no_request_is_plain_while_the_service_has_no_name_of_its_own():
    read = heads(service="").request(REQUEST)
    assert read is not None
    assert not read.plain


def test_a_traced_response_is_not_kept():
    reader = heads()
    head = b"HTTP/1.1 204 x\r\ntraceparent: 00-1-2-3\r\n\r\n"
    read = reader.response(head)
    assert read is not None
    assert read.traced
    assert reader.response(head) is not read


def test_each_listener_decides_for_itself():
    other = PolicyConfig(client_rules=(RuleConfig(host="shop", exclude=True),))
    first, second = heads().request(REQUEST), heads(other).request(REQUEST)
    assert first is not None
    assert second is not None
    assert (first.decision.capture, second.decision.capture) == (True, False)


def test_strict_reading_has_its_own_faults():
    head = b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
    lenient, strict = heads().request(head), heads(strict=True).request(head)
    assert lenient is not None
    assert strict is not None
    assert (lenient.fault, strict.fault) == ("", "missing_host")


def test_memory_is_bounded_in_number_and_size():
    reader = heads()
    for number in range(3 * MAX_KNOWN):
        reader.request(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        reader.response(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % number)
        assert max(len(reader._requests), len(reader._responses)) <= MAX_KNOWN
    large = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * MAX_KNOWN_SIZE)
    assert reader.request(large) is not reader.request(large)


@given(
    st.lists(st.sampled_from([REQUEST, REQUEST.replace(b"shop", b"other"), REQUEST.lower(), b"GET / HTTP/1.0\r\n\r\n"]))
)
def test_what_is_remembered_is_what_would_be_read_anew(sequence):
    reader = heads()
    for head in sequence:
        assert reader.request(head) == heads().request(head)
