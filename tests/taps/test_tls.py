"""TLS that is passed through: nothing changes, everything is counted, and labels are bounded."""

from sp_proxy.taps.labels import FIRST, LATER
from sp_proxy.taps.tls import TlsTap
from tests.taps.rig import Wire
from tests.taps.test_tls_hello import client_hello


def test_bytes_pass_and_are_counted_with_name_and_protocol():
    context = Wire().context
    tap = TlsTap(context, 8443)
    hello = client_hello("Shop.test", "h2", "http/1.1")
    assert tap.client(hello[:50]) + tap.client(hello[50:]) == hello
    assert tap.server(b"answer") == b"answer"
    tap.passed(1000, client=True)
    tap.passed(500, client=False)
    tap.close("")
    assert context.counters == {
        "tls_connections:8443": 1,
        "tls_sent_bytes:8443": len(hello) + 1000,
        "tls_received_bytes:8443": 506,
        "tls_server_names:shop.test": 1,
        "tls_alpn:h2": 1,
    }


def test_large_transfers_need_not_be_shown():
    tap = TlsTap(Wire().context, 8443)
    assert not tap.bulk(client=True)  # the hello is still to be read
    assert tap.bulk(client=False)
    tap.client(client_hello("a.test"))
    assert tap.bulk(client=True)


def test_what_is_no_hello_and_what_never_became_one_have_no_name():
    context = Wire().context
    TlsTap(context, 8443).client(b"\x16\x03\x01\x00\x05\x02aaaaa")
    broken = TlsTap(context, 8443)
    broken.client(b"\x16\x03\x01")
    broken.close("client_aborted")
    assert context.counters["tls_server_names:none"] == 2
    assert context.counters["tls_alpn:none"] == 2


def test_unknown_protocols_and_too_many_names_and_ports_share_a_label():
    context = Wire().context
    for number in range(FIRST + 10):
        TlsTap(context, number).client(client_hello(f"{number}.test", f"p{number}"))
    counters = context.counters
    assert counters["tls_alpn:other"] == FIRST + 10
    assert counters["tls_server_names:other"] == counters["tls_connections:other"] == 10
    assert counters["tls_sent_bytes:other"] > 0
    TlsTap(context, 0).client(client_hello("0.test"))
    assert counters["tls_server_names:0.test"] == counters["tls_connections:0"] == 2
    for _ in range(100):
        TlsTap(context, 443).client(client_hello("often.test"))
    assert counters["tls_server_names:often.test"] > 80
    assert counters["tls_connections:443"] > 80
    for family in ("tls_server_names:", "tls_connections:"):
        assert len([name for name in counters if name.startswith(family)]) <= FIRST + LATER + 1
