"""Which of mitmproxy's layers comes next on a connection: our addon in the place of its own.

Its own guesses by three bytes and falls back to HTTP; ours asks for a request line, and what is none passes as bytes.
"""

from dataclasses import replace

from mitmproxy.connection import Client
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode
from msgspec import structs

from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.mitm.config import MitmConfig
from sp_proxy.mitm.live import Connections, Live
from sp_proxy.mitm.tap_layer import TapLayer
from sp_proxy.patterns import compile_pattern
from sp_proxy.taps.claims import Claims
from sp_proxy.taps.context import TapContext
from sp_proxy.taps.sniff import looks_like_http

_HTTP_ALPN = frozenset((b"h2", b"http/1.1", b"http/1.0"))
_MAX_LOOKED_AT = 20000
"""A client that has said so much without telling what it speaks is passed through."""


class NextLayer:
    """The addon."""

    def __init__(self, connections: Connections, config: MitmConfig) -> None:
        self._connections = connections
        self._config = config
        self._claims = Claims(tuple(host for each in config.scripts for host in each.hosts), compile_pattern)
        self._encrypted: dict[Direction, TapContext] = {}

    def next_layer(self, data: layer.NextLayer) -> None:
        """Set ``data.layer``, or leave it to be asked again when there is more."""
        live = self._connections.get(data.context.client.id)
        if live is not None and data.layer is None:
            said: bytes = data.data_client()  # type: ignore[no-untyped-call]
            server_said: bytes = data.data_server()  # type: ignore[no-untyped-call]
            data.layer = self._choose(live, data.context, said, bool(server_said))

    def _choose(self, live: Live, context: Context, said: bytes, server_spoke: bool) -> layer.Layer | None:
        if len(context.layers) == 1 and isinstance(context.layers[0], modes.HttpProxy):
            return layers.HttpLayer(context, HTTPMode.regular)
        alpn = context.client.alpn if context.client.tls_established else None
        if alpn in _HTTP_ALPN:
            return self._http(live, context, is_http2=alpn == b"h2")
        if server_spoke:
            return self._raw(live, context, "server_first")
        if not said:
            return None
        if said[0] == 0x16 and not context.client.tls:
            if len(said) < 3:
                return None
            if starts_like_tls_record(said):
                below = layers.ServerTLSLayer(context)
                below.child_layer = layers.ClientTLSLayer(context)
                return below
        is_http = looks_like_http(said)
        if is_http is None and len(said) < _MAX_LOOKED_AT:
            return None
        if not is_http:
            return self._raw(live, context, "not_http")
        return self._http(live, context, is_http2=said.startswith(b"PRI "))

    @staticmethod
    def _raw(live: Live, context: Context, reason: str) -> layer.Layer:
        live.raw = True
        live.context.went_raw(reason, live.endpoints(context.server.peername or context.server.address).server_port)
        return layers.TCPLayer(context, ignore=True)

    def _http(self, live: Live, context: Context, is_http2: bool) -> layer.Layer:
        server, client = context.server, context.client
        tunnelled = len(context.layers) > 1 and isinstance(context.layers[0], modes.HttpProxy)
        # What is handed over in clear text is meant for flows, but for the explicit proxy's tunnels.
        wants_flow = self._config.flows or (not client.tls and not tunnelled)
        if self._config.websocket_messages >= 0 and not is_http2:
            wants_flow = True
        if self._config.inject and live.context.direction is Direction.OUTBOUND:
            wants_flow = True
        if self._claims and self._claims.covers(client.sni or live.endpoints(server.peername).server_address):
            wants_flow = True
        # A flow can tell the client what is wrong with the server.
        reachable = server.connected and (not client.tls or server.tls_established)
        if wants_flow or not reachable:
            if is_http2 and not client.tls:
                _speak_http2(client)
                server.alpn = b"h2"
            return layers.HttpLayer(context, HTTPMode.transparent)
        tap_context = self._https(live.context) if client.tls else live.context
        return TapLayer(context, live, tap_context, live.endpoints(server.peername), self._config.detect_timeout)

    def _https(self, context: TapContext) -> TapContext:
        """A context whose records say that there was TLS; a tap sees none of it. One for all connections of a direction."""
        known = self._encrypted.get(context.direction)
        if known is None:
            known = self._encrypted[context.direction] = _https(context)
        return known


def _speak_http2(client: Client) -> None:
    """With prior knowledge (RFC 9113 section 3.3), mitmproxy is told what nobody has negotiated."""
    client.alpn = b"h2"


def _https(context: TapContext) -> TapContext:
    sink = context.sink

    def encrypted(exchange: Exchange) -> None:
        sink(structs.replace(exchange, scheme="https"))

    return replace(context, sink=encrypted)
