"""WebSocket summaries as parts of a span, read back by protobuf."""

import msgspec
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core.body import body_text
from sp_proxy.core.exchange import WebSocketMessage, WebSocketSummary
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.core.websocket_events import encode, media_type
from tests.taps.test_websocket import HANDSHAKE


def plain(content: bytes, kind: bytes, complete: bool) -> bytes | None:
    return body_text(content, kind)


def attributes(values) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in values}


def test_counts_and_messages_become_attributes_and_events():
    messages = (
        WebSocketMessage(True, 1_000, False, 7, b'{"a":1}'),
        WebSocketMessage(False, 2_000, True, 70_000, b"\xff\x00"),
    )
    span = Span.FromString(encode(WebSocketSummary(3, 30, 4, 70_040, 1000, messages), plain))
    assert attributes(span.attributes) == {
        "websocket.client.messages": 3,
        "websocket.client.bytes": 30,
        "websocket.server.messages": 4,
        "websocket.server.bytes": 70_040,
        "websocket.close_code": 1000,
    }
    first, second = span.events
    assert (first.name, first.time_unix_nano, second.time_unix_nano) == ("websocket.message", 1_000, 2_000)
    assert attributes(first.attributes) == {
        "websocket.message.type": "text",
        "websocket.message.from": "client",
        "websocket.message.size": 7,
        "websocket.message.content": '{"a":1}',
    }
    assert attributes(second.attributes)["websocket.message.content"] == "/wA="
    assert attributes(second.attributes)["websocket.message.type"] == "binary"


def test_without_a_close_frame_there_is_no_code():
    span = Span.FromString(encode(WebSocketSummary(0, 0, 0, 0, 0), plain))
    assert "websocket.close_code" not in attributes(span.attributes)
    assert not span.events


def test_what_redaction_leaves_out_is_left_out():
    asked = []

    def refuse(content: bytes, kind: bytes, complete: bool) -> None:
        asked.append((content, kind, complete))

    message = WebSocketMessage(True, 1, False, 9, b" [1, 2", complete=False)
    span = Span.FromString(encode(WebSocketSummary(1, 9, 0, 0, 0, (message,)), refuse))
    assert asked == [(b" [1, 2", b"application/json", False)]
    assert "websocket.message.content" not in attributes(span.events[0].attributes)
    assert attributes(span.events[0].attributes)["websocket.message.size"] == 9


def test_media_type():
    assert media_type(b"hello", binary=False).startswith(b"text/plain")
    assert media_type(b"\n{}", binary=False) == b"application/json"
    assert media_type(b"{}", binary=True) == b"application/octet-stream"


def test_a_span_has_them():
    summary = WebSocketSummary(1, 5, 0, 0, 1000, (WebSocketMessage(True, 7, False, 5, b"hello"),))
    handshake = msgspec.structs.replace(HANDSHAKE, websocket=summary)
    span = Span.FromString(SpanEncoder(lambda *_: None).encode_span(handshake))
    assert [attributes(event.attributes)["websocket.message.content"] for event in span.events] == ["hello"]
    assert attributes(span.attributes)["websocket.client.messages"] == 1
