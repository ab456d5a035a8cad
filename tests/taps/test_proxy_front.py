"""What the explicit proxy's client says first."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.taps.context import Signal
from sp_proxy.taps.proxy_front import (
    BAD_REQUEST,
    NOT_IMPLEMENTED,
    Origin,
    ProxyFront,
    parse_absolute,
    parse_authority,
)
from sp_proxy.taps.sniff import HandOverRules


def front(rules: HandOverRules | None = None, *, engine: bool = False, max_head_size: int = 4096) -> ProxyFront:
    return ProxyFront(rules or HandOverRules(), defaultdict(int), max_head_size, engine=engine)


@pytest.mark.parametrize(
    "authority, default, origin",
    [
        (b"a.example:8080", 0, Origin("a.example", 8080)),
        (b"A.Example", 80, Origin("a.example", 80)),
        (b"a.example:", 80, Origin("a.example", 80)),
        (b"[::1]:443", 0, Origin("::1", 443)),
        (b"[2001:DB8::1]", 80, Origin("2001:db8::1", 80)),
        (b"10.0.0.1:1", 0, Origin("10.0.0.1", 1)),
        (b"a_b:65535", 0, Origin("a_b", 65535)),
        (b"a.example", 0, None),
        (b"a.example:0", 80, None),
        (b"a.example:65536", 80, None),
        (b"a.example:80:80", 80, None),
        (b"a.example:+80", 80, None),
        (b"::1:80", 80, None),
        (b"u@a.example:80", 80, None),
        (b"", 80, None),
        (b":80", 80, None),
        (b"\xc3\xa9.example", 80, None),
    ],
)
def test_authorities(authority: bytes, default: int, origin: Origin | None):
    assert parse_authority(authority, default) == origin


@pytest.mark.parametrize(
    "target, scheme, authority, port, path",
    [
        (b"http://a/b?c=d", b"http", b"a", 80, b"/b?c=d"),
        (b"HTTP://a:8080/", b"http", b"a:8080", 8080, b"/"),
        (b"http://a", b"http", b"a", 80, b""),
        (b"http://a?b", b"http", b"a", 80, b"/?b"),
        (b"http://u:p@a/b", b"http", b"a", 80, b"/b"),
        (b"http://a/b@c", b"http", b"a", 80, b"/b@c"),
        (b"http://a/b#c", b"http", b"a", 80, b"/b"),
        (b"http://[::1]:81/b", b"http", b"[::1]:81", 81, b"/b"),
        (b"https://a/", b"https", b"a", 443, b"/"),
        (b"ws://a/b//c", b"ws", b"a", 80, b"/b//c"),
        (b"http://a/\xc3\xa9|{}[]", b"http", b"a", 80, b"/\xc3\xa9|{}[]"),
    ],
)
def test_absolute_forms(target: bytes, scheme: bytes, authority: bytes, port: int, path: bytes):
    asked = parse_absolute(target)
    assert asked is not None
    assert (asked.scheme, asked.authority, asked.origin.port, asked.path) == (scheme, authority, port, path)


@pytest.mark.parametrize(
    "target", [b"/a", b"*", b"a:80", b"http:/a", b"http:///a", b"http://", b"http://a:x/", b"//a/b"]
)
def test_other_forms(target: bytes):
    assert parse_absolute(target) is None


@given(st.integers(1, 200), st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]))
def test_connect_in_pieces_of_any_size(size: int, before: bytes):
    tap = front()
    assert tap.idle
    head = before + b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"
    for at in range(0, len(head), size):
        assert tap.client(head[at : at + size]) == b""
    assert (tap.signal, tap.tunnel, tap.destination) == (Signal.NAMED, True, ("a.example", 443))
    assert tap.take_held() == b""
    assert tap.client(b"hello") == b"hello"
    assert tap.client_eof() == b""
    assert tap.signal is Signal.NAMED
    assert not tap.idle


def test_what_comes_behind_a_connect_is_for_the_tunnel():
    tap = front()
    tap.client(b"CONNECT a:1 HTTP/1.0\r\nContent-Length: 0\r\n\r\n\x16\x03\x01")
    assert (tap.signal, tap.take_held()) == (Signal.NAMED, b"\x16\x03\x01")


def test_a_request_in_absolute_form_is_kept_whole():
    tap = front()
    head = b"POST http://a:81/b HTTP/1.1\r\nHost: a:81\r\nContent-Length: 3\r\n\r\n"
    assert tap.client(head + b"abc") == b""
    assert (tap.signal, tap.tunnel, tap.destination) == (Signal.NAMED, False, ("a", 81))
    assert tap.take_held() == head + b"abc"


@pytest.mark.parametrize(
    "said, reason",
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "invalid_target"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "invalid_target"),
        (b"CONNECT a HTTP/1.1\r\n\r\n", "invalid_target"),
        (b"CONNECT http://a/ HTTP/1.1\r\n\r\n", "invalid_target"),
        (b"CONNECT a:80 HTTP/1.1\r\nContent-Length: 3\r\n\r\n", "ambiguous_framing"),
        (b"CONNECT a:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "ambiguous_framing"),
        (b"GET http://a/ HTTP/1.1\r\nHost : a\r\n\r\n", "malformed_head"),
        (b"GET http://a/ HTTP/2.0\r\n\r\n", "not_http"),
        (b"\x16\x03\x01", "not_http"),
        (b"\x05\x01\x00", "not_http"),
        (b"GET http://a/ HTTP/1.1\r\nX: " + b"x" * 5000, "head_too_long"),
        (b"GET http://a/ HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n", "head_too_long"),
    ],
)
def test_what_no_proxy_serves(said: bytes, reason: str):
    counters: defaultdict[str, int] = defaultdict(int)
    tap = ProxyFront(HandOverRules(), counters, 4096, engine=True)
    assert tap.client(said) == b""
    assert (tap.signal, tap.answer) == (Signal.ANSWER, BAD_REQUEST)
    assert tap.take_held() == b""
    if reason != "not_http" or said[:1] != b"G":
        assert counters == {"rejected:" + reason: 1}


WEBSOCKET = b"GET ws://a/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"
PLAIN = b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "said, rules, engine, signal",
    [
        (PLAIN, HandOverRules(http=True), True, Signal.HAND_OVER),
        (PLAIN, HandOverRules(http=True), False, Signal.NAMED),
        (PLAIN, HandOverRules(websocket=True), True, Signal.NAMED),
        (WEBSOCKET, HandOverRules(websocket=True), True, Signal.HAND_OVER),
        (WEBSOCKET, HandOverRules(), True, Signal.NAMED),
        (PLAIN.replace(b"http:", b"https:"), HandOverRules(), True, Signal.HAND_OVER),
        (PLAIN.replace(b"http:", b"https:"), HandOverRules(), False, Signal.ANSWER),
        (PLAIN.replace(b"http:", b"ftp:"), HandOverRules(), True, Signal.ANSWER),
    ],
)
def test_what_is_the_mitm_workers(said: bytes, rules: HandOverRules, engine: bool, signal: Signal):
    tap = front(rules, engine=engine)
    tap.client(said)
    assert tap.signal is signal
    assert tap.answer == (NOT_IMPLEMENTED if signal is Signal.ANSWER else b"")
    assert tap.take_held() == (b"" if signal is Signal.ANSWER else said)


@pytest.mark.parametrize("said", [b"", b"GET http://a/ HT"])
def test_a_client_that_goes_without_having_asked(said: bytes):
    tap = front()
    if said:
        tap.client(said)
    assert tap.client_eof() == b""
    assert (tap.signal, tap.answer, tap.take_held()) == (Signal.ANSWER, b"", b"")
