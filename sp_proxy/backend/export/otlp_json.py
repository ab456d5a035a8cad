"""Stored spans as OTLP-JSON, to be sent to any OTLP endpoint again (pure).

What was read for storing is laid back: attributes, bodies, events, links. The one loss is the encoding of what JSON lacks:
NaN and infinities are strings, and dropped counts are not kept.
"""

from typing import Any

from sp_proxy.backend.model import KINDS, SpanRecord
from sp_proxy.backend.spans import PARTIAL_SPAN_ID, REQUEST_BODY, RESPONSE_BODY


def resource_spans(record: SpanRecord) -> dict[str, Any]:
    """One span with its resource and scope: an element of ``resourceSpans``."""
    details = record.details
    scope = details.get("scope", {})
    attributes = dict(details.get("attributes", {}))
    for name, body in ((REQUEST_BODY, record.request_body), (RESPONSE_BODY, record.response_body)):
        if body is not None:
            attributes[name] = body.decode(errors="replace")
    span_id, parent_span_id = record.span_id, record.parent_span_id
    if record.exchange is not None and record.exchange.partial:
        # It is listed by the ids of the exchange to come, and sent by its own.
        span_id, parent_span_id = attributes.pop(PARTIAL_SPAN_ID, span_id), span_id
    status = {name: value for name, value in details.get("status", {}).items() if value}
    span: dict[str, Any] = {
        "traceId": record.trace_id,
        "spanId": span_id,
        "name": record.name,
        "kind": KINDS.index(record.kind),
        "startTimeUnixNano": str(record.start_unix_ns),
        "endTimeUnixNano": str(record.start_unix_ns + record.duration_ns),
        "attributes": key_values(attributes),
        "events": [
            {
                "timeUnixNano": str(event.get("time_unix_ns", 0)),
                "name": event.get("name", ""),
                "attributes": key_values(event.get("attributes", {})),
            }
            for event in details.get("events", ())
        ],
        "links": [
            {
                "traceId": link.get("trace_id", ""),
                "spanId": link.get("span_id", ""),
                "attributes": key_values(link.get("attributes", {})),
            }
            for link in details.get("links", ())
        ],
        "status": status,
    }
    if parent_span_id:
        span["parentSpanId"] = parent_span_id
    if details.get("trace_state"):
        span["traceState"] = details["trace_state"]
    return {
        "resource": {"attributes": key_values(record.resource)},
        "scopeSpans": [
            {
                "scope": {
                    "name": scope.get("name", ""),
                    "version": scope.get("version", ""),
                    "attributes": key_values(scope.get("attributes", {})),
                },
                "spans": [span],
            }
        ],
    }


def key_values(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes."""
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def any_value(value: Any) -> dict[str, Any]:
    """One value, as ``spans.plain`` made it. Integers are strings: that is how proto3 JSON writes 64 bits."""
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case list():
            return {"arrayValue": {"values": [any_value(item) for item in value]}}
        case {"base64": str(data)} if len(value) == 1:
            return {"bytesValue": data}
        case _:
            return {"kvlistValue": {"values": key_values(value)}}
