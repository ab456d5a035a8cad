"""Splitting a finished request in two, for a backend that takes no request of its size.

Spans keep their order, their resource and their scope. Only done where a backend asks for it, so it is OTLP's own
messages that are used here.
"""

import zlib

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sp_proxy.exporter.encode import Payload, compressed

_ANY_FORMAT = 47
"""zlib's window bits for gzip with any window."""


def decoded(payload: Payload) -> ExportTraceServiceRequest:
    """The request that a payload is. Raises DecodeError or zlib.error for what no encoder of ours made."""
    body = zlib.decompress(payload.body, _ANY_FORMAT) if payload.encoding == "gzip" else payload.body
    return ExportTraceServiceRequest.FromString(body)


def split(payload: Payload) -> tuple[Payload, Payload] | None:
    """Two payloads with half of the records each; None for one record. Takes milliseconds: for a thread."""
    whole = decoded(payload)
    count = sum(len(scope.spans) for resource in whole.resource_spans for scope in resource.scope_spans)
    if count < 2:
        return None
    first, second = ExportTraceServiceRequest(), ExportTraceServiceRequest()
    left = count // 2
    for resource in whole.resource_spans:
        for scope in resource.scope_spans:
            here = min(left, len(scope.spans))
            left -= here
            for half, spans in ((first, scope.spans[:here]), (second, scope.spans[here:])):
                if spans:
                    target = half.resource_spans.add(resource=resource.resource, schema_url=resource.schema_url)
                    target.scope_spans.add(scope=scope.scope, schema_url=scope.schema_url, spans=spans)
    return _payload(first, count // 2, payload), _payload(second, count - count // 2, payload)


def _payload(request: ExportTraceServiceRequest, records: int, like: Payload) -> Payload:
    body = request.SerializeToString()
    return Payload(compressed(body) if like.encoding == "gzip" else body, records, like.encoding, len(body))


def first_trace_id(payload: Payload) -> str:
    """Of its first span, in hex, as a sample for a person; empty when there is none."""
    try:
        request = decoded(payload)
    except (DecodeError, zlib.error):
        return ""
    spans = (span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans)
    return next((span.trace_id.hex() for span in spans), "")
