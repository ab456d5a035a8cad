"""The look-up of stored answers before an outbound request goes to its destination (settings ``inject``): for tests only.

An addon behind ``Capture``, whose exchanges it reads. A request that is looked up is held whole, so its length must be
known and within ``max_body``. A stored answer is the response, and the exchange is not recorded: it was no traffic. In
every other case the request goes on to where it was going, with what it was.
"""

import time
from binascii import unhexlify
from collections.abc import Callable

from mitmproxy.http import Headers, HTTPFlow, Request, Response

from sp_proxy import regex
from sp_proxy.core.exchange import Direction
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.redaction import RedactionError
from sp_proxy.exporter.body import decode_body
from sp_proxy.inject.asking import Asker
from sp_proxy.inject.config import InjectConfig
from sp_proxy.inject.wire import Lookup, Stored, encode_lookup
from sp_proxy.mitm.http1 import HIDDEN_EXPECT
from sp_proxy.mitm.live import Connections
from sp_proxy.patterns import compile_pattern
from sp_proxy.replay.prepare import OF_ONE_CONNECTION
from sp_proxy.replay.recorded import can_be_sent, joined, still_coded
from sp_proxy.taps.open_exchange import OpenExchange

_BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
_NEVER_IN_ANSWERS = OF_ONE_CONNECTION | {"traceparent", "tracestate"}


class Inject:
    """The addon. ``count`` is told what came of each request that might have been looked up."""

    def __init__(self, config: InjectConfig, connections: Connections, count: Callable[[str], None]) -> None:
        self._config = config
        self._connections = connections
        self._count = count
        self._asker = Asker(config, time.monotonic)
        self._redactor = Redactor(config.redaction, regex)
        self._hosts = tuple(compile_pattern(pattern) for pattern in config.hosts)
        self._held: dict[str, Callable[[bytes], object]] = {}
        """By flow: where its body would have been recorded as it passed."""

    def requestheaders(self, flow: HTTPFlow) -> None:
        """Decide, and hold the body."""
        exchange = self._exchange(flow)
        if exchange is None or not exchange.capture or flow.error is not None:
            return
        stream = flow.request.stream
        if stream and not callable(stream):
            return
        # Flow scripts may hold it already; they see it first.
        tee: Callable[[bytes], object] = stream if callable(stream) else _recorded_by_scripts
        authority = exchange.authority.decode("utf-8", "replace")
        if self._hosts and not any(search(authority) for search in self._hosts):
            return
        reason = unfit(flow.request, self._config.max_body)
        if reason:
            self._count(reason)
            return
        flow.request.stream = False
        self._held[flow.id] = tee

    async def request(self, flow: HTTPFlow) -> None:
        """Look up, with the whole body there. mitmproxy waits, and no other flow does."""
        tee = self._held.pop(flow.id, None)
        exchange = self._exchange(flow)
        if tee is None or exchange is None:
            return
        content = flow.request.raw_content
        if content:
            tee(content)
        if flow.response is not None:
            return  # a flow script has answered
        if content is None or len(content) > self._config.max_body:  # it had no length after all, and was too long
            self._count("too_large")
            return
        try:
            question = self._question(exchange, flow.request, content)
        except RedactionError:
            self._count("redaction_failed")
            return
        found = await self._asker.ask(question)
        if not isinstance(found, Stored):
            self._count(found.value)
            return
        self._count("hit")
        flow.response = response_of(found)
        live = self._connections.get(flow.client_conn.id)
        if live is not None:
            live.exchanges.pop(flow.id, None)

    def error(self, flow: HTTPFlow) -> None:
        """The flow is over."""
        self._held.pop(flow.id, None)

    def _exchange(self, flow: HTTPFlow) -> OpenExchange | None:
        live = self._connections.get(flow.client_conn.id)
        if live is None or live.context.direction is not Direction.OUTBOUND:
            return None
        return live.exchanges.get(flow.id)

    def _question(self, exchange: OpenExchange, request: Request, content: bytes) -> bytes:
        plan = exchange.plan
        fields = joined(request.headers.fields)
        coding = dict(fields).get("content-encoding", "")
        if coding and content and not still_coded(fields):
            decoded = decode_body(content, coding.encode("utf-8", "replace"), self._config.max_body)
            if decoded is not None and decoded.complete:
                content = decoded.data
        lookup = Lookup(
            trace_id=unhexlify(plan.trace_id) if plan else bytes(16),
            span_id=unhexlify(plan.span_id) if plan else bytes(8),
            parent_span_id=unhexlify(plan.parent_span_id) if plan else b"",
            start_unix_ns=exchange.start_ns,
            session=plan.session_id.decode("utf-8", "replace") if plan else "",
            service=plan.service_name.decode("utf-8", "replace") if plan else "",
            scheme=exchange.scheme,
            method=exchange.method.decode("latin-1"),
            host=exchange.authority.decode("utf-8", "replace"),
            target=exchange.target.decode("utf-8", "replace"),
            fields=fields,
            body=content,
        )
        config = self._config
        return encode_lookup(lookup, self._redactor, public_key=config.public_key, resource_type=config.resource_type)


def _recorded_by_scripts(_content: bytes) -> None:
    """``scripts.py`` records what they make of it."""


def unfit(request: Request, max_body: int) -> str:
    """Why a request is not looked up; empty when it is."""
    headers = request.headers
    if HIDDEN_EXPECT.decode() in headers:
        return "expect"  # its client waits for the destination's word before it sends the body
    if "upgrade" in headers:
        return "upgrade"
    if headers.get("content-type", "").startswith("application/grpc"):
        return "grpc"
    length = headers.get("content-length")
    if length is None:
        # Without either, HTTP/1 has no body (RFC 9112 section 6.3); HTTP/2 need not say.
        may_have_body = request.http_version == "HTTP/2.0" and request.method not in _BODILESS
        return "unknown_length" if "transfer-encoding" in headers or may_have_body else ""
    return "" if length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= max_body else "too_large"


def response_of(stored: Stored) -> Response:
    """Mitmproxy's response, framed anew."""
    gone = _NEVER_IN_ANSWERS if still_coded(stored.fields) else _NEVER_IN_ANSWERS | {"content-encoding"}
    fields = [
        (name.encode(), value.encode())
        for name, value in stored.fields
        if name not in gone and can_be_sent(name, value)
    ]
    if stored.status not in {204, 304}:
        fields.append((b"content-length", b"%d" % len(stored.body)))
    now = time.time()
    return Response(
        b"HTTP/1.1", stored.status, b"", Headers(fields), stored.body, None, timestamp_start=now, timestamp_end=now
    )
