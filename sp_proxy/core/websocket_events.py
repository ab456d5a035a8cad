"""What passed through a WebSocket connection, laid as attributes and events of its handshake's span."""

from collections.abc import Callable
from typing import Final

from sp_proxy.core.exchange import WebSocketSummary
from sp_proxy.core.otlp import delimited, fixed64, int_attribute, key, string_attribute

_EVENT: Final = b"\x5a"
"""Tag of ``Span.events`` (field 11)."""
_EVENT_ATTRIBUTE: Final = b"\x1a"
"""Tag of ``Event.attributes`` (field 3)."""
_NAME: Final = delimited(b"\x12", b"websocket.message")
_TYPE: Final = key(b"websocket.message.type")
_FROM: Final = key(b"websocket.message.from")
_SIZE: Final = key(b"websocket.message.size")
_CONTENT: Final = key(b"websocket.message.content")
_CLIENT_MESSAGES: Final = key(b"websocket.client.messages")
_CLIENT_BYTES: Final = key(b"websocket.client.bytes")
_SERVER_MESSAGES: Final = key(b"websocket.server.messages")
_SERVER_BYTES: Final = key(b"websocket.server.bytes")
_CLOSE_CODE: Final = key(b"websocket.close_code")

RedactBody = Callable[[bytes, bytes, bool], bytes | None]
"""From a content, its media type and whether it is complete to what may be sent of it; None for nothing."""


def media_type(content: bytes, *, binary: bool) -> bytes:
    """What a message is for redaction, as nothing says so: JSON by its first byte, else text."""
    if binary:
        return b"application/octet-stream"
    return b"application/json" if content.lstrip()[:1] in {b"{", b"["} else b"text/plain; charset=utf-8"


def encode(summary: WebSocketSummary, redact: RedactBody) -> bytes:
    """Fields of a ``Span`` message."""
    pieces = [
        int_attribute(_CLIENT_MESSAGES, summary.client_messages),
        int_attribute(_CLIENT_BYTES, summary.client_bytes),
        int_attribute(_SERVER_MESSAGES, summary.server_messages),
        int_attribute(_SERVER_BYTES, summary.server_bytes),
    ]
    if summary.close_code:
        pieces.append(int_attribute(_CLOSE_CODE, summary.close_code))
    for message in summary.messages:
        event = [
            b"\x09" + fixed64(message.end_unix_ns),
            _NAME,
            string_attribute(_TYPE, b"binary" if message.binary else b"text", _EVENT_ATTRIBUTE),
            string_attribute(_FROM, b"client" if message.from_client else b"server", _EVENT_ATTRIBUTE),
            int_attribute(_SIZE, message.size, _EVENT_ATTRIBUTE),
        ]
        if message.content:
            value = redact(message.content, media_type(message.content, binary=message.binary), message.complete)
            if value is not None:
                event.append(string_attribute(_CONTENT, value, _EVENT_ATTRIBUTE))
        pieces.append(delimited(_EVENT, b"".join(event)))
    return b"".join(pieces)
