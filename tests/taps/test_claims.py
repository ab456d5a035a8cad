"""Hosts that flow scripts claim."""

from collections import defaultdict

import pytest

from sp_proxy.taps.claims import Claims
from sp_proxy.taps.context import Signal
from sp_proxy.taps.proxy_front import ProxyFront
from sp_proxy.taps.sniff import HandOverRules, Interception, SniffTap

CLAIMS = Claims((r"^api\.", "internal$"))


@pytest.mark.parametrize(
    "authority, covered",
    [
        ("api.shop", True),
        ("API.shop:8080", True),
        ("a.internal:80", True),
        ("shop", False),
        ("my-api.shop", False),
        ("", False),
    ],
)
def test_names_with_a_port_or_without(authority, covered):
    assert CLAIMS.covers(authority) is covered
    fields = f"GET / HTTP/1.1\r\nAccept: x\r\nHOST:  {authority}\r\n\r\n".encode()
    assert CLAIMS.covers_fields(fields) is covered
    assert CLAIMS.covers(authority) is covered


def test_without_patterns_nothing_is_claimed():
    assert not Claims(())
    assert not Claims(()).covers("api.shop")
    assert not CLAIMS.covers_fields(b"\r\naccept: x\r\n")
    with pytest.raises(ValueError, match="not a regular expression"):
        Claims(("(",))


def sniffed(*pieces: bytes) -> Signal:
    rules = HandOverRules(hosts=("^api",))
    tap = SniffTap(rules, Interception((), ()), "10.0.0.1", 8192, Claims(rules.hosts))
    for piece in pieces:
        tap.client(piece)
    return tap.signal


def test_a_connection_is_handed_over_for_the_host_of_its_first_request():
    assert bool(HandOverRules(hosts=("^api",)))
    head = b"GET / HTTP/1.1\r\nHost: api.shop\r\n\r\n"
    assert sniffed(head) is Signal.HAND_OVER
    assert sniffed(head[:20]) is Signal.HOLDING
    assert sniffed(head[:20], head[20:]) is Signal.HAND_OVER
    assert sniffed(head.replace(b"api", b"web")) is Signal.KEEP
    upgrade = head.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\n\r\n")
    assert sniffed(upgrade.replace(b"api", b"web")) is Signal.KEEP
    assert sniffed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") is Signal.KEEP
    assert sniffed(b"\x16\x03\x01") is Signal.KEEP


def test_the_explicit_proxy_hands_over_what_is_claimed():
    for host, signal in (("api.shop", Signal.HAND_OVER), ("web.shop", Signal.NAMED)):
        tap = ProxyFront(HandOverRules(), defaultdict(int), 4096, engine=True, claims=Claims(("^api",)))
        tap.client(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert tap.signal is signal
