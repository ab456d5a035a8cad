"""Requests in absolute form, as their origin sees them."""

import pytest

from sp_proxy.taps.context import Signal
from sp_proxy.taps.http1_proxy import ProxyTap
from sp_proxy.taps.http1_state import BAD_REQUEST
from sp_proxy.taps.proxy_front import Origin
from tests.taps.rig import ENDS, INJECTED, Wire, each_byte, without_injected

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
ASKED = b"GET http://a.example:81/b?c HTTP/1.1\r\nHost: a.example:81\r\n\r\n"
SEEN = b"GET /b?c HTTP/1.1\r\nHost: a.example:81\r\n\r\n"


def proxied(*, strict: bool = False, max_head_size: int = 131072) -> Wire:
    wire = Wire(strict=strict, max_head_size=max_head_size)
    wire.tap = ProxyTap(wire.context, ENDS, Origin("a.example", 81))
    return wire


def tap_of(wire: Wire) -> ProxyTap:
    assert isinstance(wire.tap, ProxyTap)
    return wire.tap


def test_a_request_reaches_its_origin_in_origin_form():
    wire = proxied().client(ASKED)
    assert wire.up == SEEN[:-2] + INJECTED + b"\r\n"
    wire.server(OK)
    assert wire.down == OK
    (record,) = wire.records
    assert (record.target, record.authority, record.status) == (b"/b?c", b"a.example:81", 200)


CHANGED = [
    (b"GET http://a.example:81 HTTP/1.1", b"Host: a.example:81", b"GET / HTTP/1.1", b"Host: a.example:81"),
    (b"OPTIONS http://a.example:81 HTTP/1.1", b"Host: a.example:81", b"OPTIONS * HTTP/1.1", b"Host: a.example:81"),
    (b"GET http://u:p@A.Example:81/ HTTP/1.1", b"X: y\r\nHost: b", b"GET / HTTP/1.1", b"Host: A.Example:81\r\nX: y"),
    (b"GET http://a.example:81/ HTTP/1.0", b"X: y", b"GET / HTTP/1.0", b"Host: a.example:81\r\nX: y"),
    (b"GET http://a.example:81/ HTTP/1.1", b"host:  a.example:81 ", b"GET / HTTP/1.1", b"host:  a.example:81 "),
    (
        b"GET http://a.example:81/ HTTP/1.1",
        b"PROXY-Connection: close\r\nHost: a.example:81\r\nProxy-Authorization: x\r\nProxy-Other: y\r\nB: \xff",
        b"GET / HTTP/1.1",
        b"Host: a.example:81\r\nProxy-Other: y\r\nB: \xff",
    ),
]


@pytest.mark.parametrize("line, fields, seen_line, seen_fields", CHANGED)
def test_how_a_head_is_changed(line: bytes, fields: bytes, seen_line: bytes, seen_fields: bytes):
    wire = proxied().client(b"%b\r\n%b\r\n\r\n" % (line, fields))
    assert without_injected(wire.up) == b"%b\r\n%b\r\n\r\n" % (seen_line, seen_fields)


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_requests_in_pieces_and_pipelined(pieces: int):
    post = b"POST http://a.example:81/p HTTP/1.1\r\nHost: a.example:81\r\nContent-Length: 3\r\n\r\nabc"
    whole = ASKED + b"\r\n" + post + ASKED
    wire = proxied()
    if pieces == 1:
        wire.client(whole)
    else:
        wire.client(*each_byte(whole)) if pieces == 2 else wire.client(whole[:70], whole[70:])
    forwarded = SEEN + b"\r\n" + post.replace(b"http://a.example:81", b"") + SEEN
    assert without_injected(wire.up) == forwarded
    wire.server(OK * 3)
    assert [record.target for record in wire.records] == [b"/b?c", b"/p", b"/b?c"]


def test_an_incomplete_head_never_passes():
    wire = proxied().client(ASKED[:-1]).timeout()
    assert wire.up == b""
    assert wire.client_eof().up == b""


ELSEWHERE = [
    b"GET http://b.example:81/ HTTP/1.1\r\nHost: b.example:81\r\n\r\n",
    b"GET http://a.example:82/ HTTP/1.1\r\nHost: a.example:82\r\n\r\n",
    b"GET https://a.example:81/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
    b"CONNECT a.example:81 HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.example:81\r\n\r\n",
]


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_a_request_for_another_origin_ends_the_tap(elsewhere: bytes):
    wire = proxied().client(ASKED + elsewhere)
    tap = tap_of(wire)
    assert without_injected(wire.up) == SEEN
    assert tap.signal is Signal.AGAIN
    assert not tap.over
    wire.client(b"more")
    wire.server(OK)
    assert (tap.signal, tap.over) == (Signal.AGAIN, True)
    assert tap.take_held() == elsewhere + b"more"
    assert without_injected(wire.up) == SEEN
    assert len(wire.records) == 1


BROKEN = {
    "malformed_head": b"GET http://a.example:81/ HTTP/1.1\r\nHost : a\r\n\r\n",
    "repeated_host": b"GET http://a.example:81/ HTTP/1.1\r\nHost: a.example:81\r\nHost: a.example:81\r\n\r\n",
    "ambiguous_framing": ASKED[:-2] + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bare_lf": b"GET http://a.example:81/ HTTP/1.1\r\nHost: a\n",
    "malformed_request_line": b"GET  http://a.example:81/ HTTP/1.1\r\n\r\n",
    "head_too_long": ASKED[:-2] + b"X: " + b"x" * 5000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_not_read_in_one_way_is_refused(reason: str):
    for before in (b"", ASKED):
        wire = proxied(max_head_size=4096).client(before + BROKEN[reason])
        if before:
            wire.server(OK)
        assert without_injected(wire.up) == before.replace(ASKED, SEEN)
        assert wire.counters["rejected:" + reason] == 1
        assert wire.ended is Signal.ANSWER
        assert wire.down == (OK if before else b"") + BAD_REQUEST


def test_a_body_that_breaks_is_refused():
    head = ASKED.replace(b"GET", b"POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    wire = proxied().client(head + b"zz\r\n")
    assert wire.counters["rejected:chunk_size"] == 1
    assert (wire.ended, wire.down) == (Signal.ANSWER, BAD_REQUEST)


def test_an_answer_that_is_not_read_passes_and_ends_the_matter():
    wire = proxied().client(ASKED).server(b"ICY 200 OK\r\n\r\nmusic", b" for ever")
    assert wire.down == b"ICY 200 OK\r\n\r\nmusic for ever"
    assert wire.counters["raw:malformed_status_line"] == 1
    assert wire.records == []
    assert wire.ended is None
    up = wire.up
    wire.client(ASKED)  # nobody knows whether the answer is over
    assert wire.ended is Signal.ABORT
    assert wire.up == up


def test_read_strictly_such_an_answer_is_a_502():
    wire = proxied(strict=True).client(ASKED).server(b"ICY 200 OK\r\n\r\nmusic")
    assert wire.ended is Signal.ANSWER
    assert wire.down.startswith(b"HTTP/1.1 502 ")


def test_an_upgrade_is_a_tunnel_to_its_origin():
    asked = ASKED[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    wire = proxied().client(asked).server(switched).client(b"\x81\x02hi")
    assert wire.up.endswith(b"\x81\x02hi")
    assert wire.ended is Signal.RAW
    assert [record.status for record in wire.records] == [101]


def test_bytes_behind_an_upgrade_that_is_declined():
    asked = ASKED[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    wire = proxied().client(asked + b"early").server(OK)
    assert wire.down == OK
    assert wire.counters["raw:behind_upgrade"] == 1
    tap = tap_of(wire)
    tap.client(b"x")
    assert tap.signal is Signal.ABORT
