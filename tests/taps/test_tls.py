"""TLS that is passed through: nothing changes, everything is counted, and labels are bounded."""

from collections import defaultdict

from sp_proxy.taps.context import Endpoints
from sp_proxy.taps.tls import MAX_LABELS, TlsTap, count
from tests.taps.test_tls_hello import client_hello

ENDS = Endpoints("10.0.0.1", 40000, "10.0.0.2", 8443)


def test_bytes_pass_and_are_counted_with_name_and_protocol():
    counters: defaultdict[str, int] = defaultdict(int)
    tap = TlsTap(counters, ENDS)
    hello = client_hello("Shop.test", "h2", "http/1.1")
    assert tap.client(hello[:50]) + tap.client(hello[50:]) == hello
    assert tap.server(b"answer") == b"answer"
    tap.passed(1000, client=True)
    tap.passed(500, client=False)
    tap.close("")
    assert {name: value for name, value in counters.items() if ":" in name} == {
        "tls_connections:8443": 1,
        "tls_sent_bytes:8443": len(hello) + 1000,
        "tls_received_bytes:8443": 506,
        "tls_server_names:shop.test": 1,
        "tls_alpn:h2": 1,
    }


def test_large_transfers_need_not_be_shown():
    tap = TlsTap(defaultdict(int), ENDS)
    assert not tap.bulk(client=True)  # the hello is still to be read
    assert tap.bulk(client=False)
    tap.client(client_hello("a.test"))
    assert tap.bulk(client=True)


def test_what_is_no_hello_and_what_never_became_one_have_no_name():
    counters: defaultdict[str, int] = defaultdict(int)
    TlsTap(counters, ENDS).client(b"\x16\x03\x01\x00\x05\x02aaaaa")
    broken = TlsTap(counters, ENDS)
    broken.client(b"\x16\x03\x01")
    broken.close("client_aborted")
    assert counters["tls_server_names:none"] == 2
    assert counters["tls_alpn:none"] == 2


def test_unknown_protocols_and_too_many_names_share_a_label():
    counters: defaultdict[str, int] = defaultdict(int)
    for number in range(MAX_LABELS + 10):
        TlsTap(counters, ENDS).client(client_hello(f"{number}.test", f"p{number}"))
    assert counters["tls_alpn:other"] == MAX_LABELS + 10
    assert counters["tls_server_names:other"] == 10
    assert len([name for name in counters if name.startswith("tls_server_names:")]) == MAX_LABELS + 1
    TlsTap(counters, ENDS).client(client_hello("0.test"))
    assert counters["tls_server_names:0.test"] == 2


def test_count_returns_the_key_that_it_used():
    counters: defaultdict[str, int] = defaultdict(int)
    assert count(counters, "things", "a", 0) == "things:a"
    assert counters["things:a"] == 0
