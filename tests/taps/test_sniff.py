"""What is handed over, what is kept, and that nothing is held without need."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.rules import Search
from sp_proxy.taps.context import Signal
from sp_proxy.taps.sniff import PREFACE, HandOverRules, Interception, SniffTap, looks_like_http
from sp_proxy.taps.tls_hello import ClientHello
from tests.taps.test_tls_hello import client_hello

REQUEST = b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUPGRADE: WebSocket \r\n\r\n"
TLS = HandOverRules(tls_intercept=(r"\.test$",), tls_never=("^bank",))
HTTP = HandOverRules(http=True)
WEBSOCKET = HandOverRules(websocket=True)


def sniff(rules: HandOverRules, address: str = "10.0.0.1") -> SniffTap:
    return SniffTap(rules, Interception(rules.tls_intercept, rules.tls_never), address, 4096)


def signal_after(rules: HandOverRules, *pieces: bytes) -> Signal:
    tap = sniff(rules)
    for piece in pieces:
        assert tap.client(piece) == b""
    assert tap.take_held() == b"".join(pieces)
    return tap.signal


def test_without_rules_the_first_byte_decides():
    assert signal_after(HandOverRules(), b"G") is Signal.KEEP
    assert signal_after(HandOverRules(), b"\x16") is Signal.KEEP
    assert not HandOverRules()


def test_where_only_tls_is_of_interest_other_protocols_are_let_go_at_their_first_byte():
    assert signal_after(TLS, b"G") is Signal.KEEP
    assert signal_after(TLS, b"\x00") is Signal.KEEP


@pytest.mark.parametrize(
    "name, expected",
    [("shop.test", Signal.HAND_OVER), ("bank.test", Signal.KEEP), ("shop.example", Signal.KEEP), (None, Signal.KEEP)],
)
def test_tls_is_handed_over_by_its_server_name(name, expected):
    assert signal_after(TLS, client_hello(name)) is expected


def test_a_hello_in_pieces_is_held_until_its_name_is_known():
    hello = client_hello("shop.test")
    assert signal_after(TLS, hello[:1]) is Signal.HOLDING
    assert signal_after(TLS, hello[:1], hello[1:200]) is Signal.HOLDING
    assert signal_after(TLS, hello[:1], hello[1:200], hello[200:]) is Signal.HAND_OVER


def test_without_a_server_name_the_address_counts():
    rules = HandOverRules(tls_intercept=(r"^10\.",))
    tap = sniff(rules)
    tap.client(client_hello(None))
    assert tap.signal is Signal.HAND_OVER


def test_what_only_begins_like_tls_is_kept():
    assert signal_after(TLS, b"\x16\x03\x01\x00\x05\x02aaaaa") is Signal.KEEP


@pytest.mark.parametrize("said", [REQUEST, PREFACE, b"POST http://a/ HTTP/1.0\r\n"])
def test_all_http_is_handed_over_where_that_is_wanted(said):
    assert signal_after(HTTP, said) is Signal.HAND_OVER


@pytest.mark.parametrize("said", [b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"\x00\x01", b"HELO a\r\n", client_hello("a.test")])
def test_what_is_none_is_kept(said):
    assert signal_after(HTTP, said) is Signal.KEEP


def test_http_is_recognised_in_pieces():
    tap = sniff(HTTP)
    for at in range(len(b"GET /a HTTP/1.1\r\n") - 1):
        tap.client(REQUEST[at : at + 1])
        assert tap.signal is Signal.HOLDING
    tap.client(b"\n")
    assert tap.signal is Signal.HAND_OVER


def test_websocket_is_known_by_the_whole_head_of_the_first_request():
    assert signal_after(WEBSOCKET, UPGRADE) is Signal.HAND_OVER
    assert signal_after(WEBSOCKET, UPGRADE[:-1]) is Signal.HOLDING
    assert signal_after(WEBSOCKET, UPGRADE[:-1], UPGRADE[-1:]) is Signal.HAND_OVER
    assert signal_after(WEBSOCKET, REQUEST) is Signal.KEEP
    assert signal_after(WEBSOCKET, PREFACE) is Signal.KEEP
    assert signal_after(WEBSOCKET, REQUEST[:-2] + b"A: " + b"x" * 5000) is Signal.KEEP


def test_a_field_of_a_body_is_no_upgrade():
    assert signal_after(WEBSOCKET, REQUEST + b"\r\nupgrade: websocket\r\n") is Signal.KEEP


def test_a_server_that_speaks_first_ends_the_looking():
    tap = sniff(HTTP)
    tap.client(b"GE")
    assert tap.server(b"220 hello\r\n") == b""
    assert tap.signal is Signal.KEEP
    assert tap.take_kept() == b"220 hello\r\n"
    assert tap.take_held() == b"GE"


SETTINGS = b"\0\0\x06\x04\0\0\0\0\0" + b"\0\x03\0\0\0\x64"


def test_an_http2_server_that_does_not_wait_is_made_to():
    tap = sniff(HTTP)
    assert tap.server(SETTINGS) == b""
    assert tap.server(b"more") == b""
    assert tap.signal is Signal.HOLDING
    tap.client(PREFACE)
    assert Signal(tap.signal) is Signal.HAND_OVER


def test_but_not_for_long_and_not_where_http_stays():
    tap = sniff(HTTP)
    tap.server(SETTINGS)
    tap.timeout()
    assert tap.signal is Signal.KEEP
    assert tap.take_kept() == SETTINGS
    tap = sniff(TLS)
    tap.server(SETTINGS)
    assert tap.signal is Signal.KEEP


def test_time_ends_it_too():
    tap = sniff(HTTP)
    tap.client(b"GE")
    assert not tap.idle
    assert tap.timeout() == b""
    assert tap.signal is Signal.KEEP


def test_a_client_that_ends_gets_its_bytes_through():
    tap = sniff(HTTP)
    tap.client(b"GE")
    assert tap.client_eof() == b"GE"
    assert tap.idle


@pytest.mark.parametrize(
    "said, expected",
    [
        (b"", None),
        (b"GET", None),
        (b"GET /", None),
        (b"GET / HTTP/1.1\r", None),
        (b"GET / HTTP/1.1\r\n", True),
        (b"PRI * HT", None),
        (PREFACE, True),
        (b"PRI * HTTP/2.0\r\n\r\nXX", False),
        (b"GET / HTTP/3\r\n", False),
        (b"EHLO example\r\n", False),
        (b"\x00", False),
    ],
)
def test_looks_like_http(said, expected):
    assert looks_like_http(said) is expected


@given(st.binary(max_size=300))
def test_a_prefix_of_http_is_never_denied(said):
    """What is denied stays denied: deciding early decides right."""
    if looks_like_http(said) is False:
        assert looks_like_http(said + b" /x HTTP/1.1\r\n") is False


def test_interception():
    rules = Interception(("api",), ("internal",))
    assert rules.applies(ClientHello("API.example"), "")
    assert rules.applies(ClientHello("api.example"), "")  # remembered
    assert not rules.applies(ClientHello("api.internal"), "")
    assert rules.applies(ClientHello(), "api")
    assert not Interception((), ("x",))
    with pytest.raises(ValueError, match="not a regular expression"):
        Interception(("(",), ())


def test_patterns_are_compiled_by_the_engine_that_is_given():
    asked = []

    def engine(pattern: str) -> Search:
        asked.append(pattern)
        return re.compile(pattern).search

    rules = Interception(("a|B", "c"), ("D",), engine)
    assert asked == ["(?i)a|B", "(?i)c", "(?i)D"]
    assert [rules.applies(ClientHello(name), "") for name in ("xb", "C", "bd", "x")] == [True, True, False, False]
