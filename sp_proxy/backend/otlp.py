"""OTLP/HTTP on the wire (pure): requests and answers in protobuf and in JSON, and what fits no OTLP message.

Source: the OTLP specification 1.x, "OTLP/HTTP". JSON is proto3 JSON but for ids, which are hex; unknown fields are
ignored. An error answer is a ``google.rpc.Status`` in the encoding of the request.
"""

import base64
import binascii
import json
from enum import Enum, IntEnum
from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.json_format import ParseError as JsonError
from google.protobuf.message import DecodeError, Message
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from sp_proxy.backend import parts

_ID_KEYS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_MAX_NESTING = 100
"""What protobuf's own reader of the binary encoding allows."""


class Encoding(Enum):
    """The two encodings of OTLP/HTTP, by media type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


class Signal[Request: Message](Struct, frozen=True):
    """What is told apart by the path of a request: spans, log records."""

    request: type[Request]
    response: type[Message]
    rejected: str
    """The field of a partial success that counts what was left out, in JSON and (in snake case) in protobuf."""
    levels: tuple[tuple[str, str], ...]
    """Where ids stand in JSON: the lists on the way down to them, each in both its spellings."""
    kinds: parts.Kinds
    """Where messages stand in protobuf."""


TRACES = Signal(
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
    "rejectedSpans",
    (("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans"), ("spans", "spans")),
    parts.kinds_of(ExportTraceServiceRequest.DESCRIPTOR),
)
LOGS = Signal(
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
    "rejectedLogRecords",
    (("resourceLogs", "resource_logs"), ("scopeLogs", "scope_logs"), ("logRecords", "log_records")),
    parts.kinds_of(ExportLogsServiceRequest.DESCRIPTOR),
)


class Code(IntEnum):
    """``google.rpc.Code``, those which are used here."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class UnreadableError(ValueError):
    """The body is no OTLP request; one line says why."""


class TooManyError(UnreadableError):
    """It holds more messages than are decoded."""

    def __init__(self) -> None:
        super().__init__(f"the request holds more than {parts.MOST:,} values, send several smaller ones")


def encoding_of(content_type: str) -> Encoding | None:
    """The encoding that a ``content-type`` names, parameters ignored (RFC 9110 section 8.3.1); None for others."""
    media_type = content_type.partition(";")[0].strip().lower()
    return next((encoding for encoding in Encoding if encoding.value == media_type), None)


def decode[Request: Message](signal: Signal[Request], encoding: Encoding, body: bytes) -> Request:
    """Read a request. Raises UnreadableError, and nothing else whatever the bytes are."""
    name = signal.request.DESCRIPTOR.name
    if encoding is Encoding.PROTOBUF:
        if parts.too_many(body, signal.kinds):
            raise TooManyError
        try:
            return signal.request.FromString(body)
        except DecodeError as error:
            raise UnreadableError(f"the body is not a protobuf {name}") from error
    if parts.too_many_in_json(body):
        raise TooManyError
    try:
        value = json.loads(body)
        if not isinstance(value, dict):
            raise UnreadableError("the body is JSON, but not an object")
        _ids_to_base64(value, signal.levels)
        return ParseDict(value, signal.request(), ignore_unknown_fields=True, max_recursion_depth=_MAX_NESTING)
    except UnreadableError:
        raise
    # RecursionError: json.loads on deep nesting. The other kinds: ParseDict lets them through for some wrong types.
    except (JsonError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        detail = " ".join(str(error).split())[:200]
        raise UnreadableError(f"the body is not an {name} in JSON ({detail})") from error


def decode_traces(encoding: Encoding, body: bytes) -> ExportTraceServiceRequest:
    """Read a request of spans. Raises UnreadableError."""
    return decode(TRACES, encoding, body)


def _ids_to_base64(request: dict[str, Any], levels: tuple[tuple[str, str], ...]) -> None:
    """Hex ids to the base64 which proto3 JSON means by bytes. A malformed id becomes empty: its span is then rejected
    on its own, and does not cost the whole request.
    """
    holders = [request]
    for keys in levels:
        holders = [found for holder in holders for found in _objects(holder, *dict.fromkeys(keys))]
    for holder in holders:
        _convert(holder)
        for link in _objects(holder, "links"):
            _convert(link)


def _objects(parent: dict[str, Any], *keys: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for key in keys:
        items = parent.get(key)
        if isinstance(items, list):
            found.extend(item for item in items if isinstance(item, dict))
    return found


def _convert(holder: dict[str, Any]) -> None:
    for key in _ID_KEYS:
        value = holder.get(key)
        if isinstance(value, str):
            try:
                holder[key] = base64.b64encode(binascii.unhexlify(value)).decode()
            except ValueError:
                holder[key] = "" if key in {"traceId", "trace_id", "spanId", "span_id"} else "AA=="


def encode_accepted(signal: Signal[Any], encoding: Encoding, *, rejected: int, reason: str) -> bytes:
    """The body of a 200 answer. Nothing rejected is the empty message, as the specification wants it."""
    answer = {"partialSuccess": {signal.rejected: str(rejected), "errorMessage": reason}} if rejected else {}
    if encoding is Encoding.JSON:
        return msgspec.json.encode(answer)
    return ParseDict(answer, signal.response()).SerializeToString()


def encode_status(encoding: Encoding, code: Code, message: str) -> bytes:
    """A ``google.rpc.Status``: ``code`` is field 1 (varint), ``message`` field 2 (string). Laid by hand: its module
    lives in a package of its own, for two fields.
    """
    if encoding is Encoding.JSON:
        return msgspec.json.encode({"code": int(code), "message": message})
    content = message.encode()
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
