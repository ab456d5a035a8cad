"""Our addon for mitmproxy's flows: decides, injects and records as the relay's taps do, with the same policy and injector.

Bodies are streamed and teed up to the limit; nothing is kept whole. A fault in here costs a record, never the flow: hooks
are called through ``hooks.py``, which catches at the border.
"""

from dataclasses import replace
from typing import Final

from mitmproxy.connection import Client, ConnectionState
from mitmproxy.http import Headers, HTTPFlow, Message
from mitmproxy.tcp import TCPFlow

from sp_proxy.core.exchange import ErrorType, Exchange
from sp_proxy.core.grpc_messages import CallMessages, is_call
from sp_proxy.core.head_edits import captured, joined
from sp_proxy.core.inject import RANDOM_BITS, Plan
from sp_proxy.mitm.http1 import hide_expect
from sp_proxy.mitm.live import Connections, Live
from sp_proxy.taps.open_exchange import OpenExchange
from sp_proxy.taps.websocket import WebSocketTap

_VERSIONS: Final = {"HTTP/1.0": "1.0", "HTTP/1.1": "1.1", "HTTP/2.0": "2"}
_NS: Final = 1_000_000_000


def block(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Fields as the policy and the injector read them: lines with a leading CRLF."""
    return b"\r\n" + b"".join([b"%b: %b\r\n" % field for field in fields])


def inject(headers: Headers, plan: Plan) -> None:
    """Take away and add what the plan says."""
    kept = tuple((name, value) for name, value in headers.fields if name.lower() not in plan.remove)
    static = [line.partition(b": ")[::2] for line in plan.static.split(b"\r\n")[:-1]]
    extra = [line.partition(b": ")[::2] for line in plan.extra.split(b"\r\n")[:-1]]
    added = [*static, *extra, (b"tracestate", plan.tracestate), (b"x-sp-num", plan.hops)]
    if plan.traceparent:
        added.append((b"traceparent", plan.traceparent))
    headers.fields = (*kept, *added)


class Capture:
    """The addon. ``websocket_messages``: as in ``config.MitmConfig``."""

    def __init__(self, connections: Connections, websocket_messages: int) -> None:
        self._connections = connections
        self._websocket_messages = websocket_messages
        self._tunnels: dict[str, tuple[OpenExchange, WebSocketTap]] = {}

    # ---- hooks of mitmproxy, by its names

    def requestheaders(self, flow: HTTPFlow) -> None:
        """A request's head has come."""
        live = self._connections.get(flow.client_conn.id)
        if live is None or flow.error is not None:
            return
        request = flow.request
        fields = block(request.headers.fields)
        lower = fields.lower()
        context = live.context
        is_http2 = request.http_version == "HTTP/2.0"
        authority = request.data.authority if is_http2 else b""
        authority = authority or request.headers.get("host", "").encode("utf-8", "surrogateescape")
        target = request.data.path
        decision = context.policy.request(context.direction, request.data.method, target, authority, lower)
        context.counters[decision.counter] += 1
        exchange = OpenExchange(
            context,
            live.endpoints(flow.server_conn.peername),
            int(request.timestamp_start * _NS),
            request.data.method,
            target,
            authority,
            _VERSIONS.get(request.http_version, ""),
            decision.capture,
            decision.rule,
            scheme="https" if request.scheme == "https" else "http",
        )
        live.exchanges[flow.id] = exchange
        if decision.inject:
            plan = context.injector.plan(lower, fields, context.random_bits(RANDOM_BITS))
            hooks = context.hooks
            edit = hooks.edit(context.direction, request.data.method, target, authority, fields) if hooks else None
            if edit is not None:
                named = is_http2 and bool(request.data.authority)
                plan = joined(plan, edit, lower, host=not named)
                exchange.capture, exchange.tags = captured(decision, edit), edit.tags
                if edit.authority:
                    exchange.authority = edit.authority
                    if named:
                        request.data.authority = edit.authority
            exchange.plan = plan
            inject(request.headers, plan)
        if exchange.capture:
            exchange.request_fields = block(request.headers.fields)[2:]
            if is_call(lower):
                exchange.messages = CallMessages()
        hide_expect(request.headers)

        def tee(data: bytes) -> bytes:
            exchange.tee_request(data, 0, len(data))
            if exchange.messages is not None:
                exchange.messages.request.feed(data, 0, len(data))
            return data

        request.stream = tee

    def request(self, flow: HTTPFlow) -> None:
        """A request is complete."""
        found = self._open(flow)
        if found is None:
            return
        live, exchange = found
        exchange.request_ended = True
        exchange.request_trailers = _trailers(flow.request)
        if exchange.response_ended:
            self._finish(live, flow, "")

    def responseheaders(self, flow: HTTPFlow) -> None:
        """The head of the final response has come."""
        found = self._open(flow)
        response = flow.response
        if found is None or response is None:
            return
        exchange = found[1]
        fields = block(response.headers.fields)
        lower = fields.lower()
        _set_server(found[0], exchange, flow)
        skipped = exchange.context.policy.response(lower)
        exchange.begin_response(int(response.timestamp_start * _NS), response.status_code, fields[2:], skipped)
        plan = exchange.plan
        if plan is not None and b"\r\ntraceparent:" in lower:
            context = found[0].context
            added = b"00-%b-%016x-01" % (plan.trace_id, context.random_bits(64) or 1)
            response.headers.fields = (*response.headers.fields, (b"traceparent", added))

        def tee(data: bytes) -> bytes:
            exchange.tee_response(data, 0, len(data))
            if exchange.messages is not None:
                exchange.messages.response.feed(data, 0, len(data))
            return data

        response.stream = tee

    def response(self, flow: HTTPFlow) -> None:
        """A response is complete."""
        found = self._open(flow)
        response = flow.response
        if found is None or response is None:
            return
        live, exchange = found
        exchange.response_ended = True
        exchange.response_trailers = _trailers(response)
        exchange.end_ns = int((response.timestamp_end or 0) * _NS)
        if response.status_code == 101 and self._begin_websocket(flow, exchange):
            return
        if exchange.request_ended:
            self._finish(live, flow, "")

    def error(self, flow: HTTPFlow) -> None:
        """The flow ends without a (complete) response."""
        found = self._open(flow)
        if found is not None:
            self._finish(found[0], flow, "" if found[1].response_ended else _error_type(flow))

    def tcp_start(self, flow: TCPFlow) -> None:
        """A tunnel begins, behind 101 or CONNECT or without any HTTP."""
        live = self._connections.get(flow.client_conn.id)
        if live is not None:
            live.raw = True

    def tcp_message(self, flow: TCPFlow) -> None:
        """Bytes of a tunnel. mitmproxy would keep them all."""
        message = flow.messages[-1]
        flow.messages.clear()
        tunnel = self._tunnels.get(flow.client_conn.id)
        if tunnel is not None:
            tunnel[1].feed(message.content, from_client=message.from_client)

    def tcp_end(self, flow: TCPFlow) -> None:
        """A tunnel has ended."""
        self._end_websocket(flow.client_conn.id)

    def tcp_error(self, flow: TCPFlow) -> None:
        """Likewise."""
        self._end_websocket(flow.client_conn.id)

    def client_disconnected(self, client: Client) -> None:
        """A connection is over, in whatever way."""
        self._end_websocket(client.id)
        live = self._connections.pop(client.id, None)
        if live is not None:
            live.close("client_aborted")

    # ---- WebSocket

    def _begin_websocket(self, flow: HTTPFlow, exchange: OpenExchange) -> bool:
        """Whether the exchange goes on, as a WebSocket connection whose messages are watched."""
        response = flow.response
        assert response is not None
        if self._websocket_messages < 0 or response.headers.get("upgrade", "").lower() != "websocket":
            return False
        tap = WebSocketTap(
            response.headers.get("sec-websocket-extensions", ""),
            self._websocket_messages,
            exchange.context.max_body_size,
            exchange.context.unix_ns,
        )
        sink = exchange.context.sink

        def with_messages(record: Exchange) -> None:
            sink(tap.added_to(record))

        exchange.context = replace(exchange.context, sink=with_messages)
        exchange.request_ended = True
        self._tunnels[flow.client_conn.id] = (exchange, tap)
        return True

    def _end_websocket(self, client_id: str) -> None:
        tunnel = self._tunnels.pop(client_id, None)
        live = self._connections.get(client_id)
        if tunnel is None or live is None:
            return
        exchange = tunnel[0]
        exchange.end_ns = exchange.context.unix_ns()
        exchange.finish("")
        for flow_id in [flow_id for flow_id, each in live.exchanges.items() if each is exchange]:
            del live.exchanges[flow_id]

    # ---- what they share

    def _open(self, flow: HTTPFlow) -> tuple[Live, OpenExchange] | None:
        live = self._connections.get(flow.client_conn.id)
        exchange = live.exchanges.get(flow.id) if live is not None else None
        return None if live is None or exchange is None else (live, exchange)

    def _finish(self, live: Live, flow: HTTPFlow, error: ErrorType) -> None:
        exchange = live.exchanges.pop(flow.id)
        _set_server(live, exchange, flow)
        exchange.finish(error)


def _set_server(live: Live, exchange: OpenExchange, flow: HTTPFlow) -> None:
    """Where it went: known late for the explicit proxy, which connects when a request has come."""
    if live.destination is None:
        named = (flow.request.host, flow.request.port)
        exchange.endpoints = live.endpoints(flow.server_conn.peername or named)


def _trailers(message: Message) -> bytes:
    return block(message.trailers.fields)[2:] if message.trailers else b""


def _error_type(flow: HTTPFlow) -> ErrorType:
    """In the words of ``core.exchange`` why a flow has failed."""
    server = flow.server_conn
    if not flow.client_conn.state & ConnectionState.CAN_READ or "by client" in (flow.error.msg if flow.error else ""):
        return "client_aborted"
    if server.timestamp_tcp_setup is None or (server.tls and not server.tls_established):
        return "upstream_unreachable"
    return "upstream_aborted"
