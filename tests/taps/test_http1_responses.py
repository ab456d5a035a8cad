"""The server's side by example: what is forwarded downstream, and what a record says of the response."""

import pytest

from sp_proxy.core.rules import PolicyConfig
from sp_proxy.taps.context import Signal
from sp_proxy.taps.http2 import Http2Tap
from tests.taps.rig import INJECTED, RESPONSE_ADDED, Wire, each_byte, without_injected

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
CONNECT = b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"


def answered(answer: bytes, request: bytes = GET, **options) -> Wire:
    """The answer in one piece and byte by byte gives the same; the wire of the former."""
    whole = Wire(**options).client(request).server(answer)
    bytewise = Wire(**options).client(request).server(*each_byte(answer))
    assert whole.down == bytewise.down
    assert whole.records == bytewise.records
    assert whole.counters == bytewise.counters
    assert whole.ended == bytewise.ended
    return whole


# ---- framing


@pytest.mark.parametrize(
    "answer, body",
    [
        (OK, b"hi"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nno", b"no"),
        (b"HTTP/1.1 299 \xe4\xf6\r\nX: \xfc\r\nx: 2\r\nContent-Length: 1\r\n\r\n!", b"!"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", b"hi!"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", b""),
        (b"HTTP/1.1 205 Reset\r\ncontent-length: 0\r\n\r\n", b""),
    ],
)
def test_answers_pass_unchanged_and_end_where_they_end(answer, body):
    wire = answered(answer)
    assert wire.down == answer
    (record,) = wire.records
    assert (bytes(record.response_body), record.response_body_size, record.error) == (body, len(body), "")
    assert (
        record.response_fields == answer.split(b"\r\n\r\n")[0].partition(b"\r\n")[2] + b"\r\n"[: 2 * (b":" in answer)]
    )
    assert wire.http1.idle
    wire.client(GET).server(OK)
    assert len(wire.records) == 2
    assert not wire.reasons


def test_trailers_are_recorded():
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nGrpc-Status: 0\r\n\r\n"
    assert answered(answer).records[0].response_trailers == b"Grpc-Status: 0\r\n"


def test_the_answer_to_head_has_no_body_whatever_it_announces():
    for fields in (b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b""):
        wire = answered(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", HEAD)
        assert [(record.method, record.response_body_size) for record in wire.records] == [(b"HEAD", 0)]
        wire.client(GET).server(OK)
        assert len(wire.records) == 2


def test_interim_answers_pass_before_the_final_one():
    interim = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2
    )
    wire = answered(interim + OK)
    assert wire.down == interim + OK
    assert [(record.status, record.response_fields) for record in wire.records] == [(200, b"content-length: 2\r\n")]


def test_time_to_first_byte_is_the_final_answers():
    wire = Wire().client(GET)
    wire.now += 1000
    wire.server(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    wire.now += 1000
    wire.server(OK[:5])
    wire.now += 1000
    wire.server(OK[5:-1])
    wire.now += 1000
    wire.server(OK[-1:])
    assert [(record.ttfb_ns, record.duration_ns) for record in wire.records] == [(2000, 4000)]


def test_a_clock_that_goes_back_gives_no_negative_times():
    wire = Wire().client(GET)
    wire.now -= 1_000_000
    wire.server(OK)
    assert [(record.ttfb_ns, record.duration_ns) for record in wire.records] == [(0, 0)]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_until_close(version):
    answer = b"HTTP/%b 200 OK\r\nA: b\r\n\r\n" % version + b"some bytes\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    wire = answered(answer, b"GET / HTTP/1.0\r\n\r\n")
    assert wire.down == answer
    assert not wire.records
    wire.server_eof().close("client_aborted")
    (record,) = wire.records
    assert (record.protocol_version, record.error) == ("1.0", "")
    assert record.response_body == answer.split(b"\r\n\r\n", 1)[1]


def test_an_empty_body_until_close():
    wire = answered(b"HTTP/1.1 200 OK\r\n\r\n").server_eof()
    assert [(record.error, record.response_body) for record in wire.records] == [("", b"")]


def test_bodies_are_kept_up_to_the_limit_and_their_true_size_counted():
    for answer in (
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n012\r\n7\r\n3456789\r\n0\r\n\r\n",
    ):
        (record,) = answered(answer, max_body_size=4).records
        assert (bytes(record.response_body), record.response_body_size) == (b"0123", 10)


def test_a_huge_body_costs_constant_memory():
    wire = Wire().client(GET).server(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
    piece = b"x" * 1_000_000
    for _ in range(200):
        wire.server(piece)
        wire.forget()
        exchange = wire.http1._open[0]
        assert len(exchange.response_body) == 65536
    assert wire.http1.held == 0
    assert exchange.response_size == 200_000_000


def test_static_answers_are_not_recorded_and_nothing_of_them_is_kept():
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 2\r\n\r\nhi"
    wire = answered(answer, policy=PolicyConfig())
    assert wire.records == []
    assert wire.counters["responses_skipped:static"] == 1
    assert "captured" not in wire.counters


# ---- a second traceparent


def test_an_answer_with_traceparent_gets_a_second_one_of_the_same_trace():
    answer = b"HTTP/1.1 200 OK\r\nTraceparent: 00-abc\r\ncontent-length: 2\r\n\r\nhi"
    wire = answered(answer + OK, GET * 2)
    assert wire.down == answer[:-4] + RESPONSE_ADDED + b"\r\nhi" + OK
    assert wire.records[0].response_fields == b"Traceparent: 00-abc\r\ncontent-length: 2\r\n"
    assert wire.records[0].trace_id.hex().encode() in RESPONSE_ADDED


def test_the_second_traceparent_under_every_framing():
    for request, answer in (
        (HEAD, b"HTTP/1.1 200 OK\r\ntraceparent: x\r\n\r\n"),
        (GET, b"HTTP/1.1 304 Not Modified\r\ntraceparent: x\r\n\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\ntraceparent: x\r\n\r\nuntil close"),
        (GET, b"HTTP/1.1 200 OK\r\ntraceparent: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
        (UPGRADE, b"HTTP/1.1 101 Switching\r\ntraceparent: x\r\n\r\nbytes"),
    ):
        before, after = answer.split(b"\r\n\r\n", 1)
        assert answered(answer, request).down == before + b"\r\n" + RESPONSE_ADDED + b"\r\n" + after


def test_no_second_traceparent_in_an_interim_answer_or_for_an_ingress_gateway():
    interim = b"HTTP/1.1 103 Early Hints\r\ntraceparent: x\r\n\r\n"
    assert answered(interim + OK).down == interim + OK
    left_alone = GET[:-2] + b"x-envoy-peer-metadata-id: istio-ingressgateway\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\ntraceparent: x\r\ncontent-length: 0\r\n\r\n"
    assert answered(answer, left_alone).down == answer


def test_a_kept_cr_is_forwarded_when_watching_ends():
    begin = b"HTTP/1.1 200 OK\r\ntraceparent: x\r\n\r"
    wire = Wire().client(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").server(begin)
    assert wire.down == begin[:-1]
    wire.client(b"zz\r\n")
    assert wire.ended is Signal.RAW
    assert wire.down == begin
    assert Wire().client(GET).server(begin).server_eof().down == begin


def test_nothing_is_kept_of_an_answer_without_traceparent():
    begin = b"HTTP/1.1 200 OK\r\nA: b\r\n\r"
    assert Wire().client(GET).server(begin).down == begin


# ---- tunnels


def test_connect_makes_a_tunnel():
    wire = answered(b"HTTP/1.1 200 Connection established\r\ncontent-length: 5\r\n\r\n\x16\x03\x01", CONNECT)
    assert wire.ended is Signal.RAW
    assert [(record.method, record.target, record.status, record.error) for record in wire.records] == [
        (b"CONNECT", b"b:443", 200, "")
    ]
    wire.client(b"GET / HTTP/1.1\r\n\r\n")
    assert wire.up.endswith(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert (wire.counters["tunnels:connect"], wire.reasons) == (1, set())


def test_connect_refused_goes_on_with_http():
    wire = answered(b"HTTP/1.1 407 No\r\ncontent-length: 2\r\n\r\nno", CONNECT)
    wire.client(GET).server(OK)
    assert [record.status for record in wire.records] == [407, 200]
    assert without_injected(wire.up) == CONNECT + GET


def test_an_upgrade_makes_a_tunnel():
    wire = answered(SWITCH + b"\x81\x02hi", UPGRADE)
    assert (wire.ended, wire.down) == (Signal.RAW, SWITCH + b"\x81\x02hi")
    wire.client(b"\x81\x82\x00\x00\x00\x00hi").server(b"\x88\x00")
    assert wire.up.endswith(b"\x81\x82\x00\x00\x00\x00hi")
    assert wire.down.endswith(b"\x88\x00")
    assert [record.status for record in wire.records] == [101]
    assert (wire.counters["tunnels:upgrade"], wire.reasons) == (1, set())


@pytest.mark.parametrize("settings", [b"AAEAAQAA", b"AAEAAQAA==", b"AAE", b"A", b"!", b""])
def test_an_upgrade_to_http2_goes_on_with_its_tap(settings):
    """RFC 7540, section 3.2. Whatever the settings say, the bytes pass, and the answer is that of stream 1."""
    request = UPGRADE.replace(b"websocket\r\n", b"h2c\r\nHTTP2-Settings: " + settings + b"\r\n")
    switch = SWITCH.replace(b"websocket", b"H2C")
    said = switch + bytes.fromhex("000000 04 00 00000000 000001 01 04 00000001 89")  # SETTINGS; 204, more to come
    wire = Wire().client(request).server(said)
    tap = wire.http1
    assert (wire.ended, wire.down, wire.records) == (Signal.HTTP2, said, [])
    assert tap.upgraded is not None
    http2 = Http2Tap(tap._context, tap._endpoints)
    http2.begin(bytes(tap.server_said), tap.preface_passed, tap.upgraded, tap.upgrading)
    trailers = bytes.fromhex("000006 01 05 00000001 00 01 61 02 6263")
    assert http2.client(b"") == b""
    assert http2.server(trailers) == trailers
    (record,) = wire.records
    assert (record.status, record.protocol_version, record.error) == (204, "2", "")
    assert (record.target, record.response_trailers) == (b"/ws", b"a: bc\r\n")


@pytest.mark.parametrize(
    "request_, answer, behind",
    [
        (UPGRADE, SWITCH.replace(b"websocket", b"h2c"), b""),
        (UPGRADE.replace(b"websocket", b"h2c"), SWITCH, b""),
        (UPGRADE.replace(b"websocket", b"h2c"), SWITCH.replace(b"websocket", b"h2c"), b"unread"),
    ],
)
def test_an_upgrade_that_is_not_surely_to_http2_is_a_tunnel(request_, answer, behind):
    wire = answered(answer + b"\0", request_ + behind)
    assert (wire.ended, wire.down[-1:]) == (Signal.RAW, b"\0")
    assert [record.status for record in wire.records] == [101]


def test_bytes_sent_before_the_upgrade_is_accepted_pass():
    wire = Wire().client(UPGRADE + b"\x81\x00", b"\x82\x00").server(SWITCH)
    assert wire.up == UPGRADE[:-2] + INJECTED + b"\r\n\x81\x00\x82\x00"
    assert (wire.ended, len(wire.records)) == (Signal.RAW, 1)


def test_an_upgrade_that_is_declined_goes_on_with_http():
    body = b"content-length: 2\r\n"
    for request in (UPGRADE, UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\n" + body + b"\r\nab")):
        wire = answered(b"HTTP/1.1 103 Early\r\n\r\n" + OK, request)
        wire.client(GET).server(OK)
        assert [record.status for record in wire.records] == [200, 200]
        assert without_injected(wire.up) == request + GET
        assert wire.ended is None


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil close",
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntraceparent: x\r\ncontent-length: 2\r\n\r\nhi".replace(b"traceparent", b"x-traceparent"),
    ],
)
def test_an_upgrade_that_is_declined_with_bytes_behind_it_goes_raw(answer):
    wire = Wire().client(UPGRADE + GET).server(answer)
    assert wire.up == UPGRADE[:-2] + INJECTED + b"\r\n" + GET
    assert wire.down == answer
    assert wire.reasons == {"raw:behind_upgrade"}
    assert (wire.records, wire.counters["abandoned"]) == ([], 1)


def test_an_upgrade_that_is_answered_before_its_body_is_complete():
    request = UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\ncontent-length: 4\r\n\r\n")
    wire = Wire().client(request + b"ab").server(OK).client(b"cd" + GET).server(OK)
    assert [record.target for record in wire.records] == [b"/ws", b"/"]
    assert without_injected(wire.up) == request + b"abcd" + GET


def test_a_101_that_was_not_asked_for_is_not_believed():
    wire = answered(SWITCH + b"bytes")
    assert (wire.down, wire.reasons, wire.records) == (SWITCH + b"bytes", {"raw:unasked_upgrade"}, [])


# ---- ends in every state

REQUEST_BODY = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n"
UNFINISHED = {
    "nothing": b"",
    "part of a status line": b"HTTP/1.1 2",
    "part of a head": b"HTTP/1.1 200 OK\r\nA: b\r\n",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "part of a fixed body": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab",
    "part of a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nab",
    "no last chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    "part of trailers": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\n",
}


@pytest.mark.parametrize("answer", UNFINISHED.values(), ids=UNFINISHED.keys())
@pytest.mark.parametrize("request_bytes", [GET, REQUEST_BODY + b"ab", REQUEST_BODY + b"abcd"])
def test_an_answer_that_ends_too_early_is_recorded_as_aborted(answer, request_bytes):
    status = 200 if b"\r\n\r\n" in answer and b" 200 " in answer else 0
    wire = Wire().client(request_bytes).server(answer).server_eof()
    assert wire.down == answer
    assert [(record.status, record.error) for record in wire.records] == [(status, "upstream_aborted")]
    wire.close("client_aborted")
    assert len(wire.records) == 1
    for error in ("client_aborted", "upstream_aborted", "upstream_unreachable"):
        wire = Wire().client(request_bytes).server(answer).close(error)
        assert [(record.status, record.error) for record in wire.records] == [(status, error)]
        wire.close(error)
        assert len(wire.records) == 1


def test_a_body_until_close_that_is_aborted():
    wire = Wire().client(GET).server(b"HTTP/1.1 200 OK\r\n\r\nab").close("upstream_aborted")
    assert [(record.status, record.error, record.response_body) for record in wire.records] == [
        (200, "upstream_aborted", b"ab")
    ]


def test_all_open_exchanges_end_with_the_connection():
    wire = Wire().client(GET * 3).server(OK + b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nx").server_eof().close()
    assert wire.errors == ["", "", "upstream_aborted"]
    assert [record.status for record in wire.records] == [200, 200, 0]


def test_requests_after_the_servers_end_end_with_the_connection():
    wire = Wire().client(GET).server(OK).server_eof().client(GET).close("client_aborted")
    assert wire.errors == ["", "client_aborted"]


def test_a_connection_without_a_request_leaves_no_record():
    assert Wire().client_eof().server_eof().close().records == []
    assert Wire().client(GET[:-2]).client_eof().server_eof().close().records == []


# ---- endless


@pytest.mark.parametrize("endless", [b"x", b"A: b\r\n"])
def test_an_endless_answer_head_goes_raw_at_the_limit(endless):
    begin = b"HTTP/1.1 200 OK\r\nA: " if endless == b"x" else b"HTTP/1.1 200 OK\r\n"
    wire = Wire(max_head_size=8192).client(GET).server(begin)
    while wire.ended is None:
        wire.server(endless)
        assert wire.http1.held <= 8192 + len(endless)
        assert len(wire.down) <= 8192 + len(endless)
    assert wire.reasons == {"raw:response_head_too_long"}
    assert wire.down == begin + endless * ((len(wire.down) - len(begin)) // len(endless))


def test_an_answer_of_a_hundred_thousand_one_byte_chunks():
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    wire = Wire().client(GET).server(answer)
    assert wire.down == answer
    assert [record.response_body_size for record in wire.records] == [100_000]


# ---- draining, and bytes that pass beside the tap


def test_a_drain_tells_the_client_once_nothing_else_is_open():
    wire = Wire().client(GET * 2)
    assert wire.http1.drain(patient=True) == b""
    wire.server(*each_byte(OK + OK))
    assert wire.down == OK + OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    assert [record.response_fields for record in wire.records] == [b"content-length: 2\r\n"] * 2


def test_a_drain_in_the_middle_of_a_head():
    for place in range(1, len(OK)):
        wire = Wire().client(GET).server(OK[:place])
        wire.http1.drain(patient=True)
        wire.server(OK[place:])
        assert wire.down.replace(b"connection: close\r\n", b"") == OK
        assert (b"connection: close" in wire.down) == (place < OK.index(b"\r\n\r\n") + 3)


def test_the_rest_of_a_large_body_may_pass_beside_the_tap():
    request = b"POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\n"
    wire = Wire(max_body_size=4).client(request + b"12")
    assert wire.http1.bulk(client=True) == 0
    wire.client(b"34")
    assert wire.http1.bulk(client=True) == 96
    assert wire.http1.bulk(client=False) == 0
    wire.http1.passed(95, client=True)
    wire.http1.passed(1, client=True)
    assert wire.http1.bulk(client=True) == 0
    wire.server(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n12345")
    assert wire.http1.bulk(client=False) == 45
    wire.http1.passed(45, client=False)
    assert [
        (bytes(record.request_body), record.request_body_size, record.response_body_size) for record in wire.records
    ] == [(b"1234", 100, 50)]
    assert wire.http1.idle
    wire.client(GET).server(OK)
    assert len(wire.records) == 2
