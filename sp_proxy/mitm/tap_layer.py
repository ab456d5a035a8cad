"""A layer that lets bytes pass through one of the relay's taps: what HTTP inside TLS needs, and no more.

mitmproxy's TLS layers sit below; above there is one connection to one connection, as in the relay. So trailers, interim
responses, half-closes and everything else that mitmproxy's own HTTP layer reads and writes anew stay as they are, the
records are those of the relay, and a request costs a thirtieth. Flows, and so operators' scripts, have no part in it.
"""

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

from sp_proxy.mitm.live import Live
from sp_proxy.taps.context import Endpoints, Signal, Tap, TapContext
from sp_proxy.taps.discard import Discard
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.http2 import Http2Tap


class TapLayer(layer.Layer):
    """Both connections are open when it starts (eager strategy)."""

    def __init__(
        self, context: Context, live: Live, tap_context: TapContext, endpoints: Endpoints, detect_timeout: float
    ) -> None:
        super().__init__(context)
        self._live = live
        self._tap_context = tap_context
        self._endpoints = endpoints
        self._detect_timeout = detect_timeout
        self._tap: Tap | None = None
        self._waiting = False
        self._set_tap(Http1Tap(tap_context, endpoints))

    def _set_tap(self, tap: Tap | None) -> None:
        if self._tap is not None:
            self._live.taps.remove(self._tap)
        self._tap = tap
        if tap is not None:
            self._live.taps.append(tap)
        else:
            self._live.raw = True

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            if event.connection == self.context.client:
                yield from self._client_data(event.data)
            else:
                yield from self._server_data(event.data)
        elif isinstance(event, events.ConnectionClosed):
            yield from self._closed(event.connection)
        elif isinstance(event, events.Wakeup):
            self._waiting = False
            if self._tap is not None:
                yield from self._send(self.context.server, self._tap.timeout())

    def _client_data(self, data: bytes) -> layer.CommandGenerator[None]:
        if self._tap is None:
            yield commands.SendData(self.context.server, data)
            return
        yield from self._send(self.context.server, self._tap.client(data))
        yield from self._look_at_signal()

    def _server_data(self, data: bytes) -> layer.CommandGenerator[None]:
        if self._tap is None:
            yield commands.SendData(self.context.client, data)
            return
        yield from self._send(self.context.client, self._tap.server(data))
        yield from self._look_at_signal()

    def _send(self, connection: Connection, data: bytes) -> layer.CommandGenerator[None]:
        if data and connection.state & ConnectionState.CAN_WRITE:
            yield commands.SendData(connection, data)

    def _look_at_signal(self) -> layer.CommandGenerator[None]:
        tap = self._tap
        if tap is None or not tap.signal:
            return
        signal = tap.signal
        if signal is Signal.HOLDING:
            if not self._waiting:
                self._waiting = True
                yield commands.RequestWakeup(self._detect_timeout)
        elif signal is Signal.HTTP2 and isinstance(tap, Http1Tap):
            held = tap.take_held()
            http2 = Http2Tap(self._tap_context, self._endpoints)
            http2.begin(bytes(tap.server_said), tap.preface_passed, tap.upgraded, tap.upgrading)
            self._set_tap(http2)
            yield from self._client_data(held)
        elif signal is Signal.RAW:
            held, kept = tap.take_held(), tap.take_kept()
            self._set_tap(None)
            yield from self._send(self.context.server, held)
            yield from self._send(self.context.client, kept)
        elif signal is Signal.ANSWER:
            answer = tap.answer
            self._set_tap(Discard())
            yield from self._send(self.context.client, answer)
            yield from self._close_both()
        elif signal is Signal.ABORT:
            yield from self._close_both()

    def _closed(self, connection: Connection) -> layer.CommandGenerator[None]:
        client, server = self.context.client, self.context.server
        from_client = connection == client
        tap = self._tap
        other = server if from_client else client
        if tap is not None:
            yield from self._send(other, tap.client_eof() if from_client else tap.server_eof())
        if client.state & ConnectionState.CAN_READ or server.state & ConnectionState.CAN_READ:
            if other.tls:
                # TLS is not half-closed by anybody in earnest, and mitmproxy's layer would cut it off without a word.
                yield from self._close_both("client_aborted" if from_client else "upstream_aborted")
            elif other.state & ConnectionState.CAN_WRITE:
                yield commands.CloseTcpConnection(other, half_close=True)
            return
        yield from self._close_both("upstream_aborted")

    def _close_both(self, error: str = "protocol_error") -> layer.CommandGenerator[None]:
        tap = self._tap
        if tap is not None:
            self._set_tap(None)
            tap.close("client_aborted" if error == "client_aborted" else "upstream_aborted")
        for connection in (self.context.server, self.context.client):
            if connection.state is not ConnectionState.CLOSED:
                yield commands.CloseConnection(connection)
