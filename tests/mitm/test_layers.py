"""Which layer comes next, asked of our addon with mitmproxy's own objects."""

import pytest
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import context, events, layer, layers
from mitmproxy.proxy.layers import modes

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.mitm.config import MitmConfig
from sp_proxy.mitm.layers import NextLayer
from sp_proxy.mitm.live import Connections, Live
from sp_proxy.mitm.options import proxy_options
from sp_proxy.mitm.tap_layer import TapLayer
from sp_proxy.taps.sniff import PREFACE
from tests.taps.rig import Wire
from tests.taps.test_tls_hello import client_hello

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Asking:
    """One connection, transparent unless ``explicit``."""

    def __init__(self, *, flows: bool = False, websocket: int = -1, explicit: bool = False) -> None:
        self.config = MitmConfig(64, 3, 4, HeaderConfig("a"), PolicyConfig(), flows=flows, websocket_messages=websocket)
        client = Client(peername=("10.0.0.1", 1), sockname=("10.0.0.2", 2), state=ConnectionState.OPEN)
        self.context = context.Context(client, proxy_options(""))
        self.context.server = Server(address=("10.0.0.2", 2))
        self.context.server.state = ConnectionState.OPEN
        top = modes.HttpProxy if explicit else modes.TransparentProxy
        top(self.context)
        self.live = Live(Wire().context, ("10.0.0.1", 1), None if explicit else ("10.0.0.2", 2))
        self.connections = Connections()
        self.connections[client.id] = self.live

    def inside_tls(self, alpn: bytes | None, *, server: bool = True) -> "Asking":
        layers.ServerTLSLayer(self.context)
        layers.ClientTLSLayer(self.context)
        self.context.client.timestamp_tls_setup = 1.0
        self.context.client.alpn = alpn
        if server:
            self.context.server.timestamp_tls_setup = 1.0
        return self

    def ask(self, client: bytes = b"", server: bytes = b"") -> layer.Layer | None:
        data = layer.NextLayer(self.context)
        if client:
            data.events.append(events.DataReceived(self.context.client, client))
        if server:
            data.events.append(events.DataReceived(self.context.server, server))
        NextLayer(self.connections, self.config).next_layer(data)
        return data.layer


def test_tls_is_opened_from_both_sides():
    found = Asking().ask(client_hello("a.test"))
    assert isinstance(found, layers.ServerTLSLayer)
    assert isinstance(found.child_layer, layers.ClientTLSLayer)


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03", b"GET", b"PRI * HTTP/2.0\r\n"])
def test_too_little_is_asked_again(said):
    assert Asking().ask(said) is None


@pytest.mark.parametrize("said", [b"EHLO a\r\n", b"\x00\x01", b"\x16\x00\x00\x00"])
def test_what_is_not_http_passes(said):
    asking = Asking()
    found = asking.ask(said)
    assert isinstance(found, layers.TCPLayer)
    assert asking.live.raw
    assert raw_reasons(asking) == ["not_http"]


def raw_reasons(asking: Asking) -> list[str]:
    """Why connections to the destination's port passed unread."""
    assert asking.live.destination is not None
    prefix = f"raw_connections:{asking.live.destination[1]}:"
    return [name.removeprefix(prefix) for name in asking.live.context.counters if name.startswith(prefix)]


def test_a_server_that_speaks_first_is_heard():
    asking = Asking()
    assert isinstance(asking.ask(b"", b"220 ready\r\n"), layers.TCPLayer)
    assert raw_reasons(asking) == ["server_first"]


def test_a_client_that_says_much_and_nothing_passes():
    assert isinstance(Asking().ask(b"GET /" + b"a" * 20_000), layers.TCPLayer)


def test_clear_text_http_is_for_flows():
    assert isinstance(Asking().ask(REQUEST), layers.HttpLayer)


def test_http2_with_prior_knowledge():
    asking = Asking(flows=True)
    assert isinstance(asking.ask(PREFACE), layers.HttpLayer)
    assert asking.context.client.alpn == asking.context.server.alpn == b"h2"


@pytest.mark.parametrize("alpn", [b"h2", b"http/1.1"])
def test_inside_tls_a_tap_watches(alpn):
    asking = Asking().inside_tls(alpn)
    assert isinstance(asking.ask(), TapLayer)
    assert len(asking.live.taps) == 1


def test_inside_tls_without_alpn_the_bytes_decide():
    assert Asking().inside_tls(None).ask() is None
    assert isinstance(Asking().inside_tls(None).ask(REQUEST), TapLayer)
    assert isinstance(Asking().inside_tls(None).ask(b"\x00\x01"), layers.TCPLayer)
    assert isinstance(Asking().inside_tls(None).ask(client_hello("inner.test")), layers.TCPLayer)


def test_inside_tls_flows_where_they_are_wanted():
    assert isinstance(Asking(flows=True).inside_tls(b"h2").ask(), layers.HttpLayer)
    assert isinstance(Asking(websocket=5).inside_tls(b"http/1.1").ask(), layers.HttpLayer)
    assert isinstance(Asking(websocket=5).inside_tls(b"h2").ask(), TapLayer)


def test_a_server_without_tls_is_told_to_the_client_by_a_flow():
    assert isinstance(Asking().inside_tls(b"http/1.1", server=False).ask(), layers.HttpLayer)


def test_the_explicit_proxy():
    asking = Asking(explicit=True)
    found = asking.ask()
    assert isinstance(found, layers.HttpLayer)
    # inside a tunnel, clear text
    assert isinstance(asking.ask(REQUEST), TapLayer)


def test_a_connection_that_is_not_ours_and_a_layer_that_is_set():
    asking = Asking()
    asking.connections.clear()
    assert asking.ask(REQUEST) is None


def test_records_of_taps_inside_tls_say_so():
    asking = Asking().inside_tls(b"http/1.1")
    wire = Wire()
    asking.live.context = wire.context
    assert isinstance(asking.ask(), TapLayer)
    (tap,) = asking.live.taps
    tap.client(REQUEST)
    tap.server(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [(record.scheme, record.direction) for record in wire.records] == [("https", Direction.INBOUND)]
