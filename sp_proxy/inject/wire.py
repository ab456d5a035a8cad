"""The look-up on the wire (pure): an OTLP request with one span of type ``inject``, and one whose span has ``http.response.*``.

As published by Softprobe (``softprobe/hybrid``, ``spec/protocol/proxy-otel-api.md``): the request tells ``sp.session.id``,
``sp.service.name``, ``sp.traffic.direction``, ``url.host``, ``url.path``, ``http.request.header.*`` and ``http.request.body``;
the answer ``http.response.status_code``, ``http.response.header.*`` and ``http.response.body``. The method stands in
``http.request.header.:method``, as in every span (contract, section 4). Bodies are text where their content type says
so, else base64.
"""

import base64
from collections.abc import Iterable, Iterator

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core.body import media_type, text_of
from sp_proxy.core.redaction import Redaction

REQUEST = "http.request.header."
RESPONSE = "http.response.header."


class Lookup(Struct, frozen=True, kw_only=True):
    """A request that wants an answer, as it was captured. Fields have lower-case names, each once."""

    trace_id: bytes = bytes(16)
    """16 bytes."""
    span_id: bytes = bytes(8)
    parent_span_id: bytes = b""
    start_unix_ns: int = 0
    session: str = ""
    service: str = ""
    scheme: str = "http"
    method: str
    host: str
    target: str
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Stored(Struct, frozen=True):
    """A stored answer."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


def encode_lookup(
    lookup: Lookup, redaction: Redaction, *, public_key: str = "", resource_type: str = "sp-envoy-proxy"
) -> bytes:
    """The request, redacted. Raises RedactionError."""
    target = redaction.target(lookup.target.encode("utf-8", "replace")).decode()
    host = redaction.authority(lookup.host.encode("utf-8", "replace")).decode()
    content_type = dict(lookup.fields).get("content-type", "").encode("utf-8", "replace")
    body = redaction.body(lookup.body, content_type, complete=True) if lookup.body else None
    values = {
        "sp.span.type": "inject",
        "sp.session.id": redaction.session(lookup.session.encode("utf-8", "replace")).decode(),
        "sp.service.name": lookup.service,
        "sp.traffic.direction": "outbound",
        "url.host": host,
        "url.path": target,
        "url.full": f"{lookup.scheme}://{host}{target}",
        "url.scheme": lookup.scheme,
        "http.request.method": lookup.method,
        f"{REQUEST}:method": lookup.method,
        f"{REQUEST}:path": target,
        f"{REQUEST}:authority": host,
        f"{REQUEST}:scheme": lookup.scheme,
    }
    for name, value in lookup.fields:
        kept = redaction.header(name, value)
        if kept is not None and name != "host":
            values[REQUEST + name] = kept
    if body is not None:
        values["http.request.body"] = body.decode()
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource = {"service.name": lookup.service, "sp.resource.type": resource_type, "sp.public.key": public_key}
    resource_spans.resource.attributes.extend(_pair(name, value) for name, value in resource.items() if value)
    span = resource_spans.scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.parent_span_id = lookup.trace_id, lookup.span_id, lookup.parent_span_id
    span.name, span.kind = target, Span.SPAN_KIND_CLIENT
    span.start_time_unix_nano = span.end_time_unix_nano = lookup.start_unix_ns
    span.attributes.extend(_pair(name, value) for name, value in values.items())
    return request.SerializeToString()


def read_lookup(request: ExportTraceServiceRequest) -> Lookup | None:
    """The first look-up in a request; None when there is none in it."""
    for span in _spans(request):
        values = _texts(span.attributes)
        if values.get("sp.span.type") != "inject":
            continue
        fields = _fields(values, REQUEST)
        return Lookup(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            start_unix_ns=span.start_time_unix_nano,
            session=values.get("sp.session.id", ""),
            service=values.get("sp.service.name", ""),
            scheme=values.get("url.scheme", "http"),
            method=values.get(f"{REQUEST}:method") or values.get("http.request.method") or "GET",
            host=values.get("url.host") or values.get(f"{REQUEST}:authority", ""),
            target=values.get("url.path") or values.get(f"{REQUEST}:path", "/"),
            fields=fields,
            body=_content(values.get("http.request.body", ""), fields),
        )
    return None


def encode_answer(lookup: Lookup, stored: Stored) -> ExportTraceServiceRequest:
    """The answer to a look-up: the same trace and span, with the response."""
    answer = ExportTraceServiceRequest()
    span = answer.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = lookup.trace_id, lookup.span_id, lookup.target
    span.kind = Span.SPAN_KIND_CLIENT
    span.start_time_unix_nano = span.end_time_unix_nano = lookup.start_unix_ns
    span.attributes.append(_pair("sp.span.type", "inject"))
    if lookup.session:
        span.attributes.append(_pair("sp.session.id", lookup.session))
    span.attributes.append(KeyValue(key="http.response.status_code", value=AnyValue(int_value=stored.status)))
    span.attributes.extend(_pair(RESPONSE + name, value) for name, value in stored.fields)
    if stored.body:
        content_type = dict(stored.fields).get("content-type", "").encode("utf-8", "replace")
        text = text_of(stored.body, content_type)
        value = base64.b64encode(stored.body) if text is None else text
        span.attributes.append(_pair("http.response.body", value.decode()))
    return answer


def read_answer(answer: ExportTraceServiceRequest) -> Stored | None:
    """The stored answer; None when no span has a status that can be answered."""
    for span in _spans(answer):
        values = _texts(span.attributes)
        status = values.get("http.response.status_code") or values.get(f"{RESPONSE}:status", "")
        if status.isascii() and status.isdigit() and len(status) == 3 and "200" <= status <= "599":
            fields = _fields(values, RESPONSE)
            return Stored(int(status), fields, _content(values.get("http.response.body", ""), fields))
    return None


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from scope_spans.spans


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes that are texts or whole numbers, which a status may be either of."""
    found = {}
    for each in attributes:
        kind = each.value.WhichOneof("value")
        if kind == "string_value":
            found[each.key] = each.value.string_value
        elif kind == "int_value":
            found[each.key] = str(each.value.int_value)
    return found


def _fields(values: dict[str, str], prefix: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.removeprefix(prefix).lower(), value)
        for name, value in values.items()
        if name.startswith(prefix) and not name.startswith(f"{prefix}:")
    )


def _content(value: str, fields: tuple[tuple[str, str], ...]) -> bytes:
    media = media_type(dict(fields).get("content-type", "").encode("utf-8", "replace"))
    if media.is_text:
        return value.encode(media.charset or "utf-8", "replace")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return value.encode("utf-8", "replace")  # no content type, and text all the same


def _pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
