"""mitmproxy's HTTP/1 with its gaps mended, so that what passes a flow passes as it does between two ends that talk directly.

mitmproxy 12 raises at trailers, takes an interim response (103) for the final one, answers ``Expect: 100-continue`` itself
and strips it, and gives an exchange up when the client half-closes behind its request. The classes here do what the relay's
tap does. ``install`` puts them in mitmproxy's place, since its HTTP layer names its classes and offers no hook.

What remains: chunks are cut anew, chunk extensions are lost, spaces around field values too, and an ambiguous message is
refused with 400.
"""

from collections.abc import Iterable
from weakref import WeakSet

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.http import Headers
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import _http1
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseEndOfMessage,
    ResponseTrailers,
)
from mitmproxy.proxy.mode_specs import TransparentMode

HIDDEN_EXPECT = b"x-sp-hidden-expect"
"""The name of ``expect`` while a request passes mitmproxy's stream, which would answer it."""
_LAST_CHUNK = b"0\r\n"


def install() -> None:
    """From now on, every HTTP/1 connection of this process is one of ours."""
    vars(http).update(Http1Server=Http1Server, Http1Client=Http1Client)


def hide_expect(headers: Headers) -> None:
    """Let the origin answer ``Expect: 100-continue``. ``Http1Client`` takes it back."""
    headers.fields = tuple(
        (HIDDEN_EXPECT if name.lower() == b"expect" else name, value) for name, value in headers.fields
    )


def shown(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Fields as they go upstream."""
    return tuple((b"Expect" if name == HIDDEN_EXPECT else name, value) for name, value in headers.fields)


def _trailer_lines(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in trailers)


def _is_chunked(headers: Headers) -> bool:
    return "chunked" in headers.get("transfer-encoding", "").lower()


class _TrailerReader(ChunkedReader):
    """Keeps the trailers and shows mitmproxy an end without, which it can read."""

    def __init__(self) -> None:
        super().__init__()
        self.trailers: Headers | None = None

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        event = super().__call__(buf)
        if isinstance(event, h11.EndOfMessage) and event.headers:
            self.trailers = Headers(event.headers.raw_items())
            return h11.EndOfMessage()
        return event


_ASKED: WeakSet[Connection] = WeakSet()
"""Upstream connections on which a whole request has been sent."""


def half_close(server: Connection) -> layer.CommandGenerator[None]:
    """Pass on an end of stream."""
    if server.state & ConnectionState.CAN_WRITE and not server.tls:
        yield commands.CloseTcpConnection(server, half_close=True)


class _WithTrailers(_http1.Http1Connection):
    """What both sides have in common."""

    received_trailers: type[RequestTrailers | ResponseTrailers]
    end_events: tuple[type[HttpEvent], ...]

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Trailers are told just before the end of the message."""
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = _TrailerReader()
        reader = self.body_reader
        for command in super().read_body(event):
            if (
                isinstance(reader, _TrailerReader)
                and reader.trailers is not None
                and isinstance(command, ReceiveHttp)
                and isinstance(command.event, self.end_events)
            ):
                trailers, reader.trailers = reader.trailers, None
                yield ReceiveHttp(self.received_trailers(command.event.stream_id, trailers))
            yield command


class Http1Server(_WithTrailers, _http1.Http1Server):
    """The client's side."""

    received_trailers = RequestTrailers
    end_events = (RequestEndOfMessage,)
    _sent_trailers = False
    _client_ended = False

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Bytes for the client."""
        if isinstance(event, ResponseTrailers):
            if self.response is not None and _is_chunked(self.response.headers):
                self._sent_trailers = True
                lines = _trailer_lines(event.trailers.fields)
                yield commands.SendData(self.conn, _LAST_CHUNK + lines + b"\r\n")
            return
        if isinstance(event, ResponseEndOfMessage) and self._sent_trailers:
            self._sent_trailers = False
            yield from self.mark_done(response=True)
        else:
            yield from super().send(event)
        if isinstance(event, ResponseEndOfMessage) and self._client_ended and self.state == self.read_headers:
            yield commands.CloseConnection(self.conn)

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The request is complete, its response is not.

        A client that half-closes waits for the response, and its origin is told so, who may know what it means: that is
        what a client which has gone altogether looks like too. Inside TLS, and for the explicit proxy, it has gone.
        """
        client = self.conn
        half_closed = isinstance(event, events.ConnectionClosed) and client.state & ConnectionState.CAN_WRITE
        if not half_closed or client.tls or not isinstance(self.context.client.proxy_mode, TransparentMode):
            yield from super().wait(event)
            return
        self._client_ended = True
        if self.context.server in _ASKED:
            yield from half_close(self.context.server)


class Http1Client(_WithTrailers, _http1.Http1Client):
    """The origin's side."""

    received_trailers = ResponseTrailers
    end_events = (ResponseEndOfMessage,)
    _sent_trailers = False

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Bytes for the origin."""
        if isinstance(event, RequestHeaders):
            event.request.headers.fields = shown(event.request.headers)
        elif isinstance(event, RequestTrailers):
            if self.request is not None and _is_chunked(self.request.headers):
                self._sent_trailers = True
                lines = _trailer_lines(event.trailers.fields)
                yield commands.SendData(self.conn, _LAST_CHUNK + lines + b"\r\n")
            return
        if isinstance(event, RequestEndOfMessage) and self._sent_trailers:
            self._sent_trailers = False
            yield from self.mark_done(request=True)
        else:
            yield from super().send(event)
        if isinstance(event, RequestEndOfMessage):
            _ASKED.add(self.conn)
            client = self.context.client
            if not client.state & ConnectionState.CAN_READ and isinstance(client.proxy_mode, TransparentMode):
                yield from half_close(self.conn)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Interim responses (RFC 9110 section 15.2) go straight to the client; 101 is final here."""
        while isinstance(event, events.DataReceived) and self.request is not None:
            interim = _interim_head(bytes(self.buf))
            if not interim:
                break
            self.buf.maybe_extract_at_most(len(interim))
            if self.context.client.alpn != b"h2" and self.request.http_version != "HTTP/1.0":
                yield commands.SendData(self.context.client, interim)
        yield from super().read_headers(event)


def _interim_head(data: bytes) -> bytes:
    """The whole interim response at the beginning, or nothing."""
    if len(data) < 12 or data[:7] != b"HTTP/1." or data[9:10] != b"1" or data[9:12] == b"101":
        return b""
    end = data.find(b"\r\n\r\n")
    return data[: end + 4] if end >= 0 else b""
