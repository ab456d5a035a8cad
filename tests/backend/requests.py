"""OTLP requests as senders make them, for the tests of the backend."""

import os
import time
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sp_proxy.backend.model import Batch
from sp_proxy.backend.spans import read_request

START = 1_700_000_000_000_000_000
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"`${x}\u2028\x00\r\n\r\nevent: evil\ndata: {}\n\n"


def attribute(key: str, value: Any) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    if isinstance(value, bytes):
        return KeyValue(key=key, value=AnyValue(bytes_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def sdk_span(name: str = "SELECT", *, trace: bytes = b"", span: bytes = b"", parent: bytes = b"", at: int = 0) -> Span:
    """A span as any SDK sends it; ``at`` is its start in milliseconds after START."""
    return Span(
        trace_id=trace or os.urandom(16),
        span_id=span or os.urandom(8),
        parent_span_id=parent,
        name=name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=START + at * 1_000_000,
        end_time_unix_nano=START + at * 1_000_000 + 5_000_000,
        attributes=[attribute("db.system", "postgresql")],
    )


def exchange_span(
    *,
    trace: bytes = b"",
    span: bytes = b"",
    parent: bytes = b"",
    at: int = 0,
    service: str = "orders",
    direction: str = "inbound",
    method: str = "GET",
    host: str = "shop.local:8080",
    path: str = "/api/orders?id=7",
    status: int = 200,
    session: str = "session-1",
    request_body: str | None = None,
    response_body: str | None = '{"ok":true}',
    more: dict[str, Any] | None = None,
) -> Span:
    """A span as sp_proxy sends it (contract section 4); ``more`` are attributes that are added or replaced."""
    made = Span(
        trace_id=trace or os.urandom(16),
        span_id=span or os.urandom(8),
        parent_span_id=parent,
        name=path,
        kind=Span.SPAN_KIND_SERVER if direction == "inbound" else Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=START + at * 1_000_000,
        end_time_unix_nano=START + at * 1_000_000 + 12_000_000,
    )
    if status >= 500 or (status >= 400 and direction == "outbound"):
        made.status.code = Status.STATUS_CODE_ERROR
    values: dict[str, Any] = {
        "sp.span.type": "extract",
        "sp.service.name": service,
        "sp.traffic.direction": direction,
        "sp.session.id": session,
        "http.request.header.:method": method,
        "http.request.header.:path": path,
        "http.request.header.accept": "*/*",
        "http.response.header.content-type": "application/json",
        "http.response.status_code": status,
        "url.path": path,
        "url.host": host,
        "url.scheme": "http",
        "http.request.body.size": len(request_body or ""),
        "http.response.body.size": len(response_body or ""),
        "sp.ttfb_ms": 4.5,
        **(more or {}),
    }
    if request_body is not None:
        values["http.request.body"] = request_body
    if response_body is not None:
        values["http.response.body"] = response_body
    made.attributes.extend(attribute(key, value) for key, value in values.items())
    return made


def partial_span(*, span: bytes, parent: bytes = b"", **values: Any) -> Span:
    """The same of an exchange that goes on: ``span`` and ``parent`` are the ids of the whole one to come."""
    more = {"sp.span.type": "partial", "sp.partial": True, **values.pop("more", {})}
    if parent:
        more["sp.partial.parent_span_id"] = parent.hex()
    return exchange_span(parent=span, more=more, **values)


def request_of(*spans: Span, service: str = "orders") -> ExportTraceServiceRequest:
    """One request with one resource."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(attribute("service.name", service))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "sp_proxy"
    scope_spans.spans.extend(spans)
    return request


def batch_of(*spans: Span, service: str = "orders", tenant: str = "", received: int | None = None) -> Batch:
    """The same, read, as a store takes it."""
    now = time.time_ns() if received is None else received
    read = read_request(request_of(*spans, service=service), tenant=tenant, now_unix_ns=now)
    assert not read.rejected, read.reason
    return read.batch
