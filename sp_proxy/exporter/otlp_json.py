"""A payload as one line of OTLP-JSON, as the OpenTelemetry "File Exporter" specification has it.

It differs from protobuf's own JSON mapping in two points (OTLP specification, "JSON Protobuf Encoding"): ids are
hexadecimal and not base64, enumerations are numbers.
"""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.split import decoded


def json_line(payload: Payload) -> bytes:
    """One ``ExportTraceServiceRequest`` with a line break at its end. Takes milliseconds: for a thread."""
    request = decoded(payload)
    document: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for resource, laid in zip(request.resource_spans, document.get("resourceSpans", ()), strict=True):
        for scope, laid_scope in zip(resource.scope_spans, laid.get("scopeSpans", ()), strict=True):
            for span, laid_span in zip(scope.spans, laid_scope.get("spans", ()), strict=True):
                ids = {
                    "traceId": span.trace_id.hex(),
                    "spanId": span.span_id.hex(),
                    "parentSpanId": span.parent_span_id.hex(),
                }
                laid_span.update({name: value for name, value in ids.items() if value})
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
