"""The client's side by example: what is forwarded upstream, and what a record says of the request."""

import pytest

from sp_proxy.core.exchange import Direction
from sp_proxy.core.rules import PolicyConfig, RuleConfig
from sp_proxy.taps.context import Signal
from sp_proxy.taps.http1_state import MAX_OPEN, MAX_OPEN_BYTES
from tests.taps.rig import ENDS, INJECTED, NOW, Wire, each_byte, without_injected

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines)) + b"\r\n"


def with_injected(request_head: bytes) -> bytes:
    return request_head[:-2] + INJECTED + b"\r\n"


# ---- one request


def test_a_get_is_injected_forwarded_and_recorded():
    request = head(b"Host: shop:8080", b"Accept: */*", first=b"GET /a?b=c HTTP/1.1")
    wire = Wire().client(request)
    assert wire.up == with_injected(request)
    assert not wire.records
    wire.now += 5_000
    wire.server(OK)
    assert wire.down == OK
    (record,) = wire.records
    assert (record.method, record.target, record.authority) == (b"GET", b"/a?b=c", b"shop:8080")
    assert (record.protocol_version, record.scheme, record.direction) == ("1.1", "http", Direction.INBOUND)
    assert record.request_fields == b"Host: shop:8080\r\nAccept: */*\r\n" + INJECTED
    assert (record.status, record.response_fields, record.response_body) == (200, b"content-length: 2\r\n", b"hi")
    assert (record.request_body, record.request_body_size, record.response_body_size) == (b"", 0, 2)
    assert (record.start_unix_ns, record.ttfb_ns, record.duration_ns) == (NOW, 5_000, 5_000)
    assert (record.error, record.rule, record.service_name) == ("", "", b"shop")
    assert record.trace_id.hex().encode() in INJECTED
    assert record.span_id.hex().encode() in INJECTED
    assert record.parent_span_id == b""
    assert record.session_id in INJECTED
    assert (record.client_address, record.client_port) == (ENDS.client_address, ENDS.client_port)
    assert (record.server_address, record.server_port) == (ENDS.server_address, ENDS.server_port)
    assert wire.counters == {"requests:captured": 1, "captured": 1}
    assert wire.http1.idle


@pytest.mark.parametrize(
    "request_head",
    [
        head(b"HOST: a", b"X-a: 1", b"x-A: 2", b"X-a:1", b"Accept:\t*/* \t"),
        head(b"Host: a", b"X-Name: caf\xe9 \xff\x80"),
        head(b"Host: a", first=b"GET http://a.example/b HTTP/1.1"),
        head(b"Host: a", first=b"OPTIONS * HTTP/1.1"),
        head(b"Host: a", first=b"GET /\xff\xfe?\xe4 HTTP/1.1"),
        head(b"Host:", first=b"GET a:b HTTP/1.1"),
        head(first=b"GET / HTTP/1.1"),
        head(first=b"GET / HTTP/1.0"),
        head(b"Connection: keep-alive", first=b"GET / HTTP/1.0"),
        head(b"Host: a", b"X-Big: " + b"x" * 65536, *[b"X-%d: y" % index for index in range(1000)]),
        head(b"Host: a", first=b"GET /" + b"x" * 65536 + b" HTTP/1.1"),
        head(b"Host: a", first=b"PROPFIND-17.x / HTTP/1.1"),
        head(b"Host: a", b"Connection: close"),
        head(b"Host: a", b"Content-Length: 0", first=b"POST / HTTP/1.1"),
    ],
)
def test_heads_are_kept_as_they_are_but_for_what_is_added(request_head):
    for pieces in (
        [request_head],
        each_byte(request_head) if len(request_head) < 1000 else [request_head[:9], request_head[9:]],
    ):
        wire = Wire().client(*pieces).server(OK)
        assert wire.up == with_injected(request_head)
        assert wire.records[0].request_fields == with_injected(request_head).split(b"\r\n", 1)[1][:-2]
        assert wire.records[0].target == request_head.split(b" ")[1]
        assert not wire.reasons


def test_headers_that_the_contract_replaces_are_taken_away_wherever_they_stand():
    request = head(b"x-sp-num: 4", b"Host: a", b"X-Sp-Service-Name: o", b"tracestate: v=1", b"X-SP-NUM: 7", b"Z: z")
    wire = Wire().client(request).server(OK)
    lines = wire.up.split(b"\r\n")
    assert lines[:4] == [b"GET / HTTP/1.1", b"Host: a", b"Z: z", b"x-sp-service-name: shop"]
    assert lines[4].startswith(b"tracestate: x-sp-traceparent=00-")
    assert lines[4].endswith(b",v=1")
    assert lines[5] == b"x-sp-num: 5"
    assert wire.records[0].request_fields == wire.up.split(b"\r\n", 1)[1][:-2]


def test_nothing_is_added_for_an_ingress_gateway():
    request = head(b"Host: a", b"x-envoy-peer-metadata-id: router~istio-ingressgateway-7")
    wire = Wire().client(request).server(OK)
    assert (wire.up, wire.down, wire.records) == (request, OK, [])
    assert wire.counters == {"requests:ingress_gateway": 1}


def test_what_no_rule_selects_is_injected_and_not_recorded():
    policy = PolicyConfig(server_rules=(RuleConfig(paths=("^/yes",)),))
    no, yes = head(b"Host: a", first=b"GET /no HTTP/1.1"), head(b"Host: a", first=b"GET /yes HTTP/1.1")
    wire = Wire(policy=policy).client(no).server(OK).client(yes).server(OK)
    assert wire.up == with_injected(no) + with_injected(yes)
    assert [(record.target, record.rule) for record in wire.records] == [(b"/yes", "server[0]")]
    assert wire.counters == {"requests:no_rule": 1, "requests:captured:server[0]": 1, "captured": 1}


# ---- bodies


def test_a_fixed_body():
    request = head(b"Host: a", b"Content-Length: 11", first=b"POST / HTTP/1.1")
    for pieces in ([request + b"hello world"], [request, b"hello", b" world"], each_byte(request + b"hello world")):
        wire = Wire().client(*pieces)
        assert not wire.http1.idle
        wire.server(OK)
        assert wire.up == with_injected(request) + b"hello world"
        assert (bytes(wire.records[0].request_body), wire.records[0].request_body_size) == (b"hello world", 11)


def test_a_chunked_body_with_extensions_and_trailers():
    request = head(b"Host: a", b"Transfer-Encoding: gzip, Chunked", first=b"PUT / HTTP/1.1")
    body = b'5;a="b;c"\r\nhello\r\n6\r\n world\r\n0;last\r\nDigest: x\r\nY: \xe9\r\n\r\n'
    for pieces in ([request + body], each_byte(request + body)):
        wire = Wire().client(*pieces).server(OK)
        assert wire.up == with_injected(request) + body
        (record,) = wire.records
        assert (bytes(record.request_body), record.request_body_size) == (b"hello world", 11)
        assert record.request_trailers == b"Digest: x\r\nY: \xe9\r\n"


def test_bodies_are_kept_up_to_the_limit_and_their_true_size_counted():
    request = head(b"Content-Length: 10", first=b"POST / HTTP/1.1")
    for pieces in ([request + b"0123456789"], each_byte(request + b"0123456789")):
        (record,) = Wire(max_body_size=4).client(*pieces).server(OK).records
        assert (bytes(record.request_body), record.request_body_size) == (b"0123", 10)


def test_expect_100_continue():
    request = head(b"Content-Length: 2", b"Expect: 100-continue", first=b"POST / HTTP/1.1")
    wire = Wire().client(request).server(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.down == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.client(b"hi").server(OK)
    assert wire.up == with_injected(request) + b"hi"
    assert [(record.status, record.request_body) for record in wire.records] == [(200, b"hi")]


def test_an_answer_before_the_request_is_finished():
    request = head(b"Content-Length: 4", first=b"POST / HTTP/1.1")
    wire = Wire().client(request + b"ab").server(OK)
    assert not wire.records
    assert not wire.http1.idle
    wire.now += 1_000_000
    wire.client(b"cd" + head(b"Host: a")).server(OK)
    assert [(bytes(record.request_body), record.duration_ns) for record in wire.records] == [(b"abcd", 0), (b"", 0)]
    assert wire.http1.idle


def test_an_answer_to_a_request_that_is_never_finished():
    request = head(b"Content-Length: 4", first=b"POST / HTTP/1.1")
    wire = (
        Wire()
        .client(request + b"ab")
        .server(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    )
    wire.server_eof().client_eof().close()
    assert [(r.status, r.error, r.request_body, r.request_body_size) for r in wire.records] == [(413, "", b"ab", 2)]


# ---- several requests


def test_a_thousand_pipelined_requests_in_one_segment():
    requests = b"".join(head(b"Host: a", first=b"GET /%d HTTP/1.1" % index) for index in range(1000))
    wire = Wire().client(requests)
    assert without_injected(wire.up) == requests
    assert wire.up.count(INJECTED) == 1000
    wire.server(OK * 999)
    wire.server(*each_byte(OK))
    assert wire.down == OK * 1000
    assert [record.target for record in wire.records] == [b"/%d" % index for index in range(1000)]
    assert wire.http1.idle


def test_pipelined_requests_with_bodies():
    fixed = head(b"Content-Length: 3", first=b"POST /1 HTTP/1.1")
    chunked = head(b"Transfer-Encoding: chunked", first=b"POST /2 HTTP/1.1")
    both = fixed + b"one" + chunked + b"3\r\ntwo\r\n0\r\n\r\n" + head(first=b"GET /3 HTTP/1.1")
    for pieces in ([both], each_byte(both)):
        wire = Wire().client(*pieces).server(OK * 3)
        assert without_injected(wire.up) == both
        assert [(record.target, bytes(record.request_body)) for record in wire.records] == [
            (b"/1", b"one"),
            (b"/2", b"two"),
            (b"/3", b""),
        ]


def test_too_many_open_requests_go_raw():
    wire = Wire(policy=PolicyConfig(capture_enabled=False))
    request = head(b"Host: a")
    wire.client(request * MAX_OPEN)
    assert wire.ended is None
    wire.client(request)
    assert wire.reasons == {"raw:too_many_open"}
    assert wire.up == with_injected(request) * MAX_OPEN + request


def test_what_waits_for_capture_is_bounded():
    body = b"x" * 65536
    request = head(b"Content-Length: 65536", first=b"POST / HTTP/1.1")
    number = 2 * MAX_OPEN_BYTES // 65536
    wire = Wire()
    for _ in range(number):
        wire.client(request, body)
    kept = sum(len(each.request_body) + len(each.request_fields) for each in wire.http1._open)
    assert MAX_OPEN_BYTES - 2 * 65536 < kept < MAX_OPEN_BYTES + 4 * 65536
    assert wire.counters["requests_skipped:too_many_open"] > 0
    wire.server(OK * number)
    assert len(wire.records) == number - wire.counters["requests_skipped:too_many_open"]
    wire.client(request, body).client(request, body).server(OK * 2)
    assert wire.records[-1].request_body == body
    assert wire.http1._open_bytes == 0
    assert wire.ended is None


def test_empty_lines_before_a_request_pass_without_an_edit():
    for lines in (b"\r\n", b"\r\n" * 3):
        data = lines + head(b"Host: a") + lines + head(b"Host: b")
        for pieces in ([data], each_byte(data)):
            wire = Wire().client(*pieces).server(OK * 2)
            assert without_injected(wire.up) == data
            assert [record.authority for record in wire.records] == [b"a", b"b"]


def test_a_read_full_of_empty_lines_costs_no_more_than_any_other():
    wire = Wire().client(b"\r\n" * 131072, head(b"Host: a")).server(OK)
    assert len(wire.records) == 1
    assert wire.http1.held == 0


# ---- holding


def test_a_letter_is_held_until_it_decides():
    wire = Wire().client(b"G")
    assert (wire.up, wire.http1.signal) == (b"", Signal.HOLDING)
    assert not wire.http1.idle
    wire.client(b"ET / HTTP/1.1\r\n")
    assert (wire.up, wire.http1.signal) == (b"", Signal.HOLDING)
    wire.client(b"\r\n")
    assert wire.up == with_injected(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.http1.signal is Signal.NONE


def test_a_head_is_held_until_the_timeout_and_injected_all_the_same():
    request = head(b"Host: a", b"Accept: */*")
    for place in range(1, len(request)):
        wire = Wire().client(request[:place])
        assert wire.up == b""
        wire.timeout()
        assert wire.http1.signal is Signal.NONE
        wire.timeout()
        wire.client(request[place:]).server(OK)
        assert wire.up == with_injected(request), place
        assert wire.records[0].request_fields == b"Host: a\r\nAccept: */*\r\n" + INJECTED
        assert "headers_not_replaced" not in wire.counters


def test_everything_but_the_last_cr_is_forwarded_by_the_timeout():
    request = head(b"Host: a")
    for place in range(1, len(request)):
        wire = Wire().client(request[:place]).timeout()
        assert wire.up == (request[:-2] if place == len(request) - 1 else request[:place])
        wire.client_eof()
        assert wire.up == request[:place]


def test_what_comes_after_the_timeout_is_not_held_again():
    request = head(b"Host: a", b"Accept: */*")
    wire = Wire().client(request[:5]).timeout()
    for at in range(5, len(request) - 2):
        wire.client(request[at : at + 1])
        assert wire.up == request[: at + 1]
        assert wire.http1.signal is Signal.NONE
    wire.client(request[-2:])
    assert wire.up == with_injected(request)
    wire.client(b"G")
    assert wire.http1.signal is Signal.HOLDING


def test_a_header_that_has_gone_cannot_be_replaced_and_is_counted():
    request = head(b"Host: a", b"X-SP-Num: 4", b"Accept: */*", b"x-sp-service-name: other")
    first, second = request.index(b"X-SP-Num"), request.index(b"x-sp-service-name")
    for place in range(1, len(request)):
        wire = Wire().client(request[:place]).timeout().client(request[place:]).server(OK)
        expected = request[:-2]
        gone = 0
        for at, line in ((first, b"X-SP-Num: 4\r\n"), (second, b"x-sp-service-name: other\r\n")):
            if place > at:
                gone += 1
            else:
                expected = expected.replace(line, b"")
        expected += INJECTED.replace(b"x-sp-num: 1", b"x-sp-num: 5") + b"\r\n"
        assert wire.up == expected, place
        assert wire.counters.get("headers_not_replaced", 0) == gone
        assert wire.records[0].request_fields == expected.split(b"\r\n", 1)[1][:-2]


@pytest.mark.parametrize("lines", [1, 3])
def test_a_cr_at_the_end_of_a_segment(lines):
    data = b"\r\n" * lines + head(b"Host: a")
    for place in range(2 * lines):
        wire = Wire().client(data[: place + 1])
        assert wire.up == data[: place + 1]
        wire.client(data[place + 1 :]).server(OK)
        assert without_injected(wire.up) == data
        assert len(wire.records) == 1
        assert wire.http1.signal is Signal.NONE


def test_what_begins_with_no_usual_method_is_not_held():
    """Protocols of words (``ruok``, ``PING``) must not wait for us; should it be a request after all, it is read as one."""
    whole = head(b"Host: a", first=b"PURGE /x HTTP/1.1")
    for place in range(1, len(b"PURGE /x HTTP/1.1\r\n")):
        wire = Wire().client(whole[:place])
        held = place < 3 or whole[place - 1 : place] == b"\n"
        assert wire.up == (b"" if held else whole[:place]), place
        assert wire.http1.signal is (Signal.HOLDING if held else Signal.NONE)
        wire.client(whole[place:]).server(OK)
        assert without_injected(wire.up) == whole
        assert wire.records[0].method == b"PURGE"
        assert not wire.reasons


def test_it_is_held_no_longer_when_it_can_be_no_usual_method_any_more():
    wire = Wire().client(b"P")
    assert wire.http1.signal is Signal.HOLDING
    wire.client(b"I")
    assert (wire.up, wire.http1.signal) == (b"PI", Signal.NONE)
    wire.client(b"NG").timeout().client(b"\r\n")
    assert wire.up == b"PING\r\n"
    assert wire.reasons == {"raw:not_http"}


def test_read_strictly_the_beginning_of_any_head_is_held():
    wire = Wire(strict=True).client(b"hel")
    assert (wire.up, wire.http1.signal) == (b"", Signal.HOLDING)
    wire.client(b"lo /x HTTP/1.1\r\nHost : a\r\n\r\n")
    assert wire.up == b""
    assert wire.reasons == {"rejected:malformed_head"}


@pytest.mark.parametrize("blanks", [b"\n", b"\r", b" ", b"\t", b"\n\r\n", b"\r\n\n", b"\n" * 1000])
def test_read_strictly_blanks_that_some_servers_skip_do_not_hide_a_request(blanks):
    smuggled = blanks + b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    for pieces in ([smuggled], [blanks, smuggled[len(blanks) :]]):
        wire = Wire(strict=True).client(*pieces)
        assert wire.up.strip(b"\r\n") == b""
        assert wire.reasons == {"rejected:malformed_request_line"}
    wire = Wire(strict=True)
    for place in range(len(smuggled)):
        wire.client(smuggled[place : place + 1])
    assert wire.up.strip(b"\r\n") == b""
    assert wire.reasons == {"rejected:malformed_request_line"}


def test_read_strictly_blanks_before_another_protocol_are_held_no_longer_than_they_must():
    for said in (b"\n\x05hello", b"\nhello there\n", b"\n\xff"):
        for pieces in ([said], [said[:1], said[1:]]):
            wire = Wire(strict=True).client(*pieces)
            assert wire.up == said
            assert wire.reasons == {"raw:not_http"}
    wire = Wire(strict=True).client(b"\n")
    assert (wire.up, wire.http1.signal) == (b"", Signal.HOLDING)
    assert wire.timeout().client(b"\x00").up == b"\n\x00"
    assert Wire().client(b"\n").up == b"\n"


def test_a_cr_that_nothing_follows_is_not_kept():
    assert Wire().client(b"\r").client_eof().up == b"\r"
    wire = Wire().client(b"\r").timeout().client(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.up == b"\rGET / HTTP/1.1\r\n\r\n"
    assert wire.reasons == {"raw:malformed_request_line"}


def test_a_half_close_forwards_what_is_held_and_answers_still_come():
    wire = Wire().client(head(b"Host: a") + b"GET /half").client_eof()
    assert wire.up == with_injected(head(b"Host: a")) + b"GET /half"
    wire.server(OK).server_eof().close()
    assert wire.down == OK
    assert wire.errors == [""]


def test_a_timeout_when_nothing_is_held_does_nothing():
    wire = Wire().timeout().client(head(b"Host: a")).timeout().server(OK).timeout()
    assert wire.up == with_injected(head(b"Host: a"))


# ---- slow senders: the work for each byte does not grow with what has come


def test_a_long_first_line_byte_by_byte_is_still_injected():
    request = head(b"Host: a", first=b"GET /" + b"x" * 60000 + b" HTTP/1.1")
    wire = Wire().client(request[:10]).timeout().client(*each_byte(request[10:])).server(OK)
    assert wire.up == with_injected(request)
    assert len(wire.records) == 1


@pytest.mark.parametrize("endless", [b"x", b"X-Header: y\r\n", b"a:\r\n"])
def test_an_endless_head_is_held_no_longer_than_the_limit(endless):
    start = b"GET /" if endless == b"x" else b"GET / HTTP/1.1\r\n"
    wire = Wire(max_head_size=8192).client(start)
    sent = len(start)
    while wire.ended is None:
        wire.client(endless)
        sent += len(endless)
        assert wire.http1.held <= 8192
        assert sent <= 8192 + len(endless)
    assert wire.reasons == {"raw:head_too_long"}
    assert wire.up == start + endless * ((sent - len(start)) // len(endless))


def test_a_hundred_thousand_one_byte_chunks():
    request = head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.1")
    wire = Wire().client(request, *[b"1\r\nx\r\n"] * 100_000, b"0\r\n\r\n").server(OK)
    (record,) = wire.records
    assert record.request_body_size == 100_000
    assert record.request_body == b"x" * 65536
    assert wire.up == with_injected(request) + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
