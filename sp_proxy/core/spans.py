"""An exchange as an OTLP span (contract section 4), laid as protobuf wire bytes.

What an exchange shares with many others (who talks to whom, in what way, with which outcome) is laid once and
remembered in bounded memories by the facts that it depends on; what is its own (ids, times, bodies, sizes) is laid
each time. Whatever bytes the exchange holds, the result is a valid ``Span`` message.

Attribute names and their meaning are those of OpenTelemetry's semantic conventions for HTTP and RPC, beside the
filter's own, so ``server.address`` is the name that the client used and ``network.peer.address`` the other end of the
connection.
"""

from collections.abc import Mapping
from typing import Final

from sp_proxy.core import partial_spans, rpc, span_tags, websocket_events
from sp_proxy.core.body import DecodeBody
from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.memo import Memo
from sp_proxy.core.otlp import (
    bool_attribute,
    delimited,
    double_attribute,
    fixed64,
    int_attribute,
    key,
    string_attribute,
    text,
    utf8,
    varint,
)
from sp_proxy.core.redaction import NeverSent, Redaction
from sp_proxy.core.span_fields import Field, FieldEncoder

_KIND: Final = {Direction.INBOUND: b"\x30\x02", Direction.OUTBOUND: b"\x30\x03"}
_STATUS_ERROR: Final = b"\x7a\x02\x18\x02"

_PROTOCOL: Final = string_attribute(key(b"network.protocol.name"), b"http")
_TRUNCATED: Final = bool_attribute(key(b"sp.body.truncated"), True)
_SERVICE_NAME: Final = key(b"sp.service.name")
_DIRECTION: Final = key(b"sp.traffic.direction")
_SESSION_ID: Final = key(b"sp.session.id")
_RULE: Final = key(b"sp.rule")
_TTFB: Final = key(b"sp.ttfb_ms")
_METHOD: Final = key(b"http.request.method")
_METHOD_FIELD: Final = key(b"http.request.header.:method")
_SCHEME: Final = key(b"url.scheme")
_SCHEME_FIELD: Final = key(b"http.request.header.:scheme")
_VERSION: Final = key(b"network.protocol.version")
_PATH: Final = key(b"url.path")
_PATH_FIELD: Final = key(b"http.request.header.:path")
_QUERY: Final = key(b"url.query")
_FULL: Final = key(b"url.full")
_HOST: Final = key(b"url.host")
_AUTHORITY_FIELD: Final = key(b"http.request.header.:authority")
_SERVER_ADDRESS: Final = key(b"server.address")
_SERVER_PORT: Final = key(b"server.port")
_CLIENT_ADDRESS: Final = key(b"client.address")
_CLIENT_PORT: Final = key(b"client.port")
_PEER_ADDRESS: Final = key(b"network.peer.address")
_PEER_PORT: Final = key(b"network.peer.port")
_STATUS_FIELD: Final = key(b"http.response.header.:status")
_STATUS_CODE: Final = key(b"http.response.status_code")
_ERROR_TYPE: Final = key(b"error.type")
_REQUEST_BODY: Final = key(b"http.request.body")
_REQUEST_SIZE: Final = key(b"http.request.body.size")
_RESPONSE_BODY: Final = key(b"http.response.body")
_RESPONSE_SIZE: Final = key(b"http.response.body.size")

_NO_FIELD: Final[Field] = (b"", b"", b"")


def error_type(direction: Direction, status: int, error: str) -> str:
    """Why the exchange failed, for ``error.type``; empty when it did not (status UNSET).

    It failed when it was aborted, without a response, with a 5xx, and outbound with a 4xx too: then the fault is this
    workload's own (semantic conventions for HTTP spans, section *Status*).
    """
    if error:
        return error
    if status == 0:
        return "_OTHER"
    if status >= 500 or (status >= 400 and direction is Direction.OUTBOUND):
        return str(status)
    return ""


def split_authority(authority: bytes) -> tuple[bytes, int]:
    """Host, without an IPv6 address's brackets, and port, -1 when none is sent."""
    host, colon, port = authority.rpartition(b":")
    number = int(port) if colon and len(port) <= 5 and port.isdigit() else -1
    if not 0 <= number <= 65535 or (b":" in host and not host.endswith(b"]")):
        host, number = authority, -1
    return (host[1:-1] if host.startswith(b"[") and host.endswith(b"]") else host), number


def full_url(scheme: str, authority: bytes, target: bytes) -> bytes:
    """The absolute URL of a request (RFC 9110 section 7.1); empty for a target that has none (CONNECT's)."""
    origin = scheme.encode() + b"://" + authority
    if target.startswith(b"/"):
        return origin + target
    if target == b"*":
        return origin
    return target if b"://" in target else b""


class SpanEncoder:
    """Makes spans. Keeps bounded memories of what it laid, so one encoder serves all exchanges, one at a time.

    ``decode_body`` undoes content codings, within ``max_body_size`` bytes. ``tags`` become ``sp.tag.NAME``. All that a
    client or a server wrote passes through ``redaction``, whose answers are remembered.
    """

    def __init__(
        self,
        decode_body: DecodeBody,
        *,
        max_body_size: int = 65536,
        tags: Mapping[str, str] | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self._decode_body = decode_body
        self._redaction: Redaction = redaction or NeverSent()
        self._max_body_size = max_body_size
        self._tag_names = frozenset(tags or ())
        self._constant = (
            partial_spans.WHOLE
            + _PROTOCOL
            + b"".join(
                string_attribute(key(text(f"sp.tag.{name}")), text(value)) for name, value in (tags or {}).items()
            )
        )
        self._request_fields = FieldEncoder(
            "http.request.header.",
            self._redaction,
            also={b"user-agent": "user_agent.original"},
            not_repeated=(b"host",),
        )
        self._response_fields = FieldEncoder("http.response.header.", self._redaction)
        self._request_trailers = FieldEncoder("http.request.trailer.", self._redaction)
        self._response_trailers = FieldEncoder("http.response.trailer.", self._redaction)
        self._kinds: Memo[tuple[Direction, bytes, str, str, bytes, str], bytes] = Memo(512, 2048)
        self._targets: Memo[tuple[str, bytes, bytes, str, int], tuple[bytes, bytes]] = Memo(2048, 2048)
        self._peers: Memo[tuple[Direction, str, int, str, int], bytes] = Memo(2048, 1024)
        self._outcomes: Memo[tuple[Direction, int, str], bytes] = Memo(1024, 1024)

    def encode_span(self, exchange: Exchange) -> bytes:
        """The body of a ``Span`` message. Raises RedactionError when nobody knows what may be sent of it."""
        x = exchange
        kind = self._kind(x)
        partial = x.partial
        if partial is not None:
            x, kind = partial_spans.marked(x, partial, kind)
        start = x.start_unix_ns
        name, laid_target = self._target(x)
        span_name = self._redaction.target(utf8(x.name.encode("utf-8", "replace"))) if x.name else name
        session_id = utf8(x.session_id)
        clean = self._redaction.is_clean(
            session_id, x.request_fields, x.request_trailers, x.response_fields, x.response_trailers
        )
        pieces = [
            b"\x0a",
            varint(len(x.trace_id)),
            x.trace_id,
            b"\x12",
            varint(len(x.span_id)),
            x.span_id,
            b"\x2a",
            varint(len(span_name)),
            span_name,
            _KIND[x.direction],
            b"\x39",
            fixed64(start),
            b"\x41",
            fixed64(start + x.duration_ns),
            kind,
            laid_target,
            self._peer(x),
            string_attribute(_SESSION_ID, self._redaction.session(session_id, clean=clean)),
        ]
        if x.parent_span_id:
            pieces.append(delimited(b"\x22", x.parent_span_id))
        if x.tags:
            pieces.append(span_tags.encode(x.tags, self._redaction, self._tag_names))

        request = self._request_fields.encode(x.request_fields, pieces, clean=clean)
        is_open = partial is not None and partial.request_open
        truncated = self._body(_REQUEST_BODY, bytes(x.request_body), x.request_body_size, request, pieces, is_open)
        pieces.append(int_attribute(_REQUEST_SIZE, x.request_body_size))
        if x.request_trailers:
            self._request_trailers.encode(x.request_trailers, pieces, clean=clean)

        error: str = x.error
        response: dict[bytes, Field] = {}
        if x.status:
            response = self._response_fields.encode(x.response_fields, pieces, clean=clean)
            is_open = partial is not None and partial.response_open
            truncated |= self._body(
                _RESPONSE_BODY, bytes(x.response_body), x.response_body_size, response, pieces, is_open
            )
            pieces.append(int_attribute(_RESPONSE_SIZE, x.response_body_size))
            if x.response_trailers:
                response = response | self._response_trailers.encode(x.response_trailers, pieces, clean=clean)
        if x.websocket is not None:
            pieces.append(websocket_events.encode(x.websocket, self._redact_message))
        if x.ttfb_ns >= 0:
            pieces.append(double_attribute(_TTFB, x.ttfb_ns / 1e6))
        if truncated:
            pieces.append(_TRUNCATED)

        if rpc.is_grpc(request.get(b"content-type", _NO_FIELD)[2]):
            grpc_status = response.get(b"grpc-status", _NO_FIELD)[2]
            pieces.append(rpc.attributes(name, grpc_status, rpc.messages(x, request, response)))
            if not error_type(x.direction, x.status, x.error):
                error = rpc.error(x.direction, grpc_status)
        if x.status or partial is None or not partial.ongoing:  # while it goes on, no answer is no failure
            pieces.append(self._outcome(x.direction, x.status, error))
        return b"".join(pieces)

    def _kind(self, x: Exchange) -> bytes:
        """What kind of exchange it is: service, direction, method, scheme, version, rule."""
        facts = (x.direction, x.service_name, x.scheme, x.protocol_version, x.method, x.rule)
        known = self._kinds.get(facts)
        if known is not None:
            return known
        method = utf8(x.method)
        scheme = x.scheme.encode()
        laid = (
            self._constant
            + string_attribute(_SERVICE_NAME, utf8(x.service_name))
            + string_attribute(_DIRECTION, x.direction.encode())
            + string_attribute(_METHOD, method)
            + string_attribute(_METHOD_FIELD, method)
            + string_attribute(_SCHEME, scheme)
            + string_attribute(_SCHEME_FIELD, scheme)
            + string_attribute(_VERSION, text(x.protocol_version))
        )
        if x.rule:
            laid += string_attribute(_RULE, text(x.rule))
        return self._kinds.keep(facts, laid, len(x.service_name) + len(x.method) + len(laid))

    def _target(self, x: Exchange) -> tuple[bytes, bytes]:
        """The target as it may be sent, and the attributes of what was asked for, and of whom."""
        facts = (x.scheme, x.authority, x.target, x.server_address, x.server_port)
        known = self._targets.get(facts)
        if known is not None:
            return known
        target = self._redaction.target(utf8(x.target))
        authority = self._redaction.authority(utf8(x.authority))
        host, port = split_authority(authority)
        address = text(x.server_address)
        laid = (
            string_attribute(_PATH, target)
            + string_attribute(_PATH_FIELD, target)
            + string_attribute(_HOST, authority)
            + string_attribute(_AUTHORITY_FIELD, authority)
            + string_attribute(_SERVER_ADDRESS, host or address)
            + int_attribute(_SERVER_PORT, port if port >= 0 else x.server_port)
        )
        query = target.partition(b"?")[2]
        if query:
            laid += string_attribute(_QUERY, query)
        if not authority:
            authority = (b"[%b]:%d" if b":" in address else b"%b:%d") % (address, x.server_port)
        url = full_url(x.scheme, authority, target)
        if url:
            laid += string_attribute(_FULL, url)
        return self._targets.keep(facts, (target, laid), len(x.target) + len(x.authority) + len(target) + len(laid))

    def _peer(self, x: Exchange) -> bytes:
        """The ends of the connection. The peer of an inbound exchange is its client, of an outbound one its server."""
        facts = (x.direction, x.client_address, x.client_port, x.server_address, x.server_port)
        known = self._peers.get(facts)
        if known is not None:
            return known
        client = text(x.client_address)
        peer = (client, x.client_port)
        if x.direction is Direction.OUTBOUND:
            peer = (text(x.server_address), x.server_port)
        laid = (
            string_attribute(_CLIENT_ADDRESS, client)
            + int_attribute(_CLIENT_PORT, x.client_port)
            + string_attribute(_PEER_ADDRESS, peer[0])
            + int_attribute(_PEER_PORT, peer[1])
        )
        return self._peers.keep(facts, laid, len(x.client_address) + len(x.server_address) + len(laid))

    def _outcome(self, direction: Direction, status: int, error: str) -> bytes:
        """Status code, ``error.type``, and the span's own status."""
        facts = (direction, status, error)
        known = self._outcomes.get(facts)
        if known is not None:
            return known
        laid = b""
        if status:
            laid = string_attribute(_STATUS_FIELD, b"%d" % status) + int_attribute(_STATUS_CODE, status)
        failure = error_type(direction, status, error)
        if failure:
            laid += string_attribute(_ERROR_TYPE, text(failure)) + _STATUS_ERROR
        return self._outcomes.keep(facts, laid, len(laid))

    def _redact_message(self, content: bytes, content_type: bytes, complete: bool) -> bytes | None:
        return self._redaction.body(content, content_type, complete=complete)

    def _body(
        self,
        laid_key: bytes,
        body: bytes,
        size: int,
        fields: dict[bytes, Field],
        pieces: list[bytes],
        is_open: bool,
    ) -> bool:
        """Lay a body, unless it is empty or left out. True when this is not all of it that has passed.

        ``is_open``: more of it may pass.
        """
        complete = len(body) >= size
        if not body:
            return not complete
        coding = fields.get(b"content-encoding")
        content = body
        if coding is not None:
            decoded = self._decode_body(body, coding[2], self._max_body_size)
            if decoded is None:
                value = self._redaction.coded_body(body)
                if value is not None:
                    pieces.append(string_attribute(laid_key, value))
                return not complete
            content = decoded.data
            complete = complete and decoded.complete
        if content:
            value = self._redaction.body(
                content, fields.get(b"content-type", _NO_FIELD)[2], complete=complete and not is_open
            )
            if value is not None:
                pieces.append(string_attribute(laid_key, value))
        return not complete
