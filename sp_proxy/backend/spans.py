"""An OTLP request to the batch that is stored (pure). Spans of sp_proxy become exchanges, others stay plain spans.

A span that cannot be stored is counted and named in the answer's partial success; it never costs the others. What an
attribute means for an exchange stands in the contract, section 4.
"""

import base64
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sp_proxy.backend.model import Batch, Direction, ExchangeFields, StoredSpan
from sp_proxy.backend.query.syntax import fold
from sp_proxy.core.body import media_type

MAX_TIME = 2**63 - 1
"""Nanoseconds that a signed 64-bit column holds: the year 2262."""
MAX_SIZE = 2**63 - 1
MAX_INDEXED = 2048
"""Characters of a text kept for lists and filters, so that a page of hostile exchanges stays a page."""
REQUEST_BODY = "http.request.body"
RESPONSE_BODY = "http.response.body"
MAX_TEXT = 1 << 18
"""Characters of an exchange that a text search looks through."""
TAG = "sp.tag."
EXTRACT = "extract"
PARTIAL = "partial"
PARTIAL_SPAN_ID = "sp.partial.span_id"
"""Of a whole exchange, the id of its partial record; kept with that too."""
NO_TAGS: Mapping[str, str] = MappingProxyType({})
_MESSAGES = ("http.request.header.", "http.response.header.", "http.request.trailer.", "http.response.trailer.")
_DIRECTIONS: dict[object, Direction] = {"inbound": "inbound", "outbound": "outbound"}


class Read(Struct, frozen=True):
    """The batch to store, and what had to be left out."""

    batch: Batch
    rejected: int
    reason: str
    """Why the first one was rejected; empty when none was."""


def read_request(request: ExportTraceServiceRequest, *, tenant: str, now_unix_ns: int) -> Read:
    """Every storable span of a request."""
    batch = Batch(tenant=tenant, received_unix_ns=now_unix_ns, resources=[], spans=[])
    rejected, first_reason = 0, ""
    for resource_spans in request.resource_spans:
        if not any(scope_spans.spans for scope_spans in resource_spans.scope_spans):
            continue
        resource = attributes(resource_spans.resource.attributes)
        service = text(resource.get("service.name"))[:MAX_INDEXED]
        tags = tags_of(resource)
        batch.resources.append(resource)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope
            scope_details: dict[str, Any] = {"name": scope.name, "version": scope.version}
            if scope.attributes:
                scope_details["attributes"] = attributes(scope.attributes)
            for span in scope_spans.spans:
                reason = unstorable(span)
                if reason:
                    rejected += 1
                    first_reason = first_reason or reason
                else:
                    batch.spans.append(stored(span, scope_details, len(batch.resources) - 1, service, tags))
    return Read(batch=batch, rejected=rejected, reason=first_reason)


def unstorable(span: Span) -> str:
    """Why a span cannot be stored; empty when it can. Invalid ids are W3C's and OTLP's: wrong length or all zero."""
    if len(span.trace_id) != 16 or not any(span.trace_id):
        return "a trace id must be 16 bytes, not all zero"
    if len(span.span_id) != 8 or not any(span.span_id):
        return "a span id must be 8 bytes, not all zero"
    if span.parent_span_id and len(span.parent_span_id) != 8:
        return "a parent span id must be 8 bytes or absent"
    if max(span.start_time_unix_nano, span.end_time_unix_nano) > MAX_TIME:
        return "a time must be before the year 2262"
    return ""


def stored(
    span: Span, scope: dict[str, Any], resource: int, service: str, resource_tags: Mapping[str, str] = NO_TAGS
) -> StoredSpan:
    """One storable span."""
    values = attributes(span.attributes)
    details: dict[str, Any] = {"scope": scope, "status": {"code": span.status.code, "message": span.status.message}}
    if span.trace_state:
        details["trace_state"] = span.trace_state
    if span.events:
        details["events"] = [
            {"time_unix_ns": event.time_unix_nano, "name": event.name, "attributes": attributes(event.attributes)}
            for event in span.events
        ]
    if span.links:
        details["links"] = [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": attributes(link.attributes),
            }
            for link in span.links
        ]
    span_id, parent_span_id = span.span_id, span.parent_span_id
    kind_of_span = values.get("sp.span.type")
    # The record of an exchange that goes on is a child of the one to come: here it takes that one's place for a while.
    partial = kind_of_span == PARTIAL and any(parent_span_id)
    if partial:
        values[PARTIAL_SPAN_ID] = span_id.hex()
        span_id, parent_span_id = parent_span_id, _span_id(values.get("sp.partial.parent_span_id"))
    exchange = request_body = response_body = None
    tags: dict[str, str] = {}
    searched = ""
    if partial or kind_of_span == EXTRACT:
        request_body = _body(values.pop(REQUEST_BODY, None))
        response_body = _body(values.pop(RESPONSE_BODY, None))
        exchange = exchange_fields(span, values, service, len(request_body or b""), len(response_body or b""))
        tags = {**resource_tags, **tags_of(values)}
        searched = search_text(exchange, details.get("events", ()), values, request_body, response_body)
    details["attributes"] = values
    return StoredSpan(
        trace_id=span.trace_id,
        span_id=span_id,
        parent_span_id=parent_span_id if any(parent_span_id) else b"",
        name=span.name[:MAX_INDEXED],
        kind=span.kind,
        start_unix_ns=span.start_time_unix_nano,
        duration_ns=max(0, span.end_time_unix_nano - span.start_time_unix_nano),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        service=exchange.service if exchange else service,
        resource=resource,
        details=details,
        exchange=exchange,
        request_body=request_body,
        response_body=response_body,
        partial=partial,
        tags=tags,
        text=searched,
    )


def exchange_fields(
    span: Span, values: Mapping[str, Any], service: str, request_length: int, response_length: int
) -> ExchangeFields:
    """The listed fields of a span that sp_proxy made, from the attributes of contract section 4.

    The filter that the contract replaces sends fewer of them, and direction ``auto``: the fallbacks are for it.
    """
    return ExchangeFields(
        session_id=_first(values, "sp.session.id"),
        service=_first(values, "sp.service.name") or service,
        direction=_DIRECTIONS.get(values.get("sp.traffic.direction"), "unknown"),
        method=_first(values, "http.request.header.:method", "http.request.method"),
        scheme=_first(values, "url.scheme", "http.request.header.:scheme"),
        host=_first(values, "url.host", "http.request.header.:authority", "server.address"),
        path=_first(values, "url.path", "http.request.header.:path") or span.name[:MAX_INDEXED],
        status=_integer(values, 999, "http.response.status_code", "http.response.header.:status"),
        request_size=_integer(values, MAX_SIZE, "http.request.body.size", default=request_length),
        response_size=_integer(values, MAX_SIZE, "http.response.body.size", default=response_length),
        error=_first(values, "error.type"),
    )


def tags_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The custom tags among attributes: they stand on the resource, or on single spans."""
    return {
        name.removeprefix(TAG)[:MAX_INDEXED]: text(value)[:MAX_INDEXED]
        for name, value in values.items()
        if name.startswith(TAG)
    }


def search_text(
    exchange: ExchangeFields,
    events: Iterable[Mapping[str, Any]],
    values: Mapping[str, Any],
    request_body: bytes | None,
    response_body: bytes | None,
) -> str:
    """What a text search looks through: target, host, header fields, bodies that are text, and what events say."""
    parts = [exchange.path, exchange.host]
    types = {True: b"", False: b""}
    for name, value in values.items():
        if name.startswith(_MESSAGES):
            field = name.split(".", 3)[3]
            parts += (field, text(value))
            if field == "content-type":
                types[name.startswith("http.request.")] = text(value).encode()
    for body, content_type in ((request_body, types[True]), (response_body, types[False])):
        # Base64 would only fill the index.
        if body and media_type(content_type).is_text:
            parts.append(body[: 4 * MAX_TEXT].decode(errors="replace"))
    for event in events:
        parts += [value for value in event["attributes"].values() if isinstance(value, str)]
    return fold("\n".join(parts)[:MAX_TEXT])


def attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes as plain values that JSON can hold. Of a repeated key the last value stays."""
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        # Most are strings: asked for here, it saves a call for each.
        found[pair.key] = value.string_value if value.WhichOneof("value") == "string_value" else plain(value)
    return found


def plain(value: AnyValue) -> Any:
    """One value; bytes as ``{"base64": …}``, numbers that JSON lacks (NaN, infinities) as their names."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "bool_value":
            return value.bool_value
        case "double_value":
            return value.double_value if math.isfinite(value.double_value) else str(value.double_value)
        case "bytes_value":
            return {"base64": base64.b64encode(value.bytes_value).decode()}
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return attributes(value.kvlist_value.values)
        case _:
            return None


def text(value: Any) -> str:
    """A value as a person would write it; absent is empty."""
    if isinstance(value, str):
        return value
    return "" if value is None else str(value)


def _span_id(value: Any) -> bytes:
    """An id as an attribute has it; empty when it is none."""
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""
    return found if len(found) == 8 else b""


def _first(values: Mapping[str, Any], *names: str) -> str:
    for name in names:
        found = text(values.get(name))
        if found:
            return found[:MAX_INDEXED]
    return ""


def _integer(values: Mapping[str, Any], highest: int, *names: str, default: int = 0) -> int:
    for name in names:
        value = values.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest:
            return value
    return default


def _body(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and isinstance(value.get("base64"), str):
        return str(value["base64"]).encode()
    return None
