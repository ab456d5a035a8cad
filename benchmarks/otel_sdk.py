"""The OpenTelemetry SDK for Python as a rival: its ``BatchSpanProcessor`` with its OTLP/HTTP exporter, on spans of ours.

It is handed finished ``ReadableSpan`` objects, with the attributes that our own encoder makes of an exchange: what it costs
an application to record them is not counted. Compression is as the SDK comes: Python's gzip at its level 9.
"""

import time

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from benchmarks.processes import BenchmarkError
from sp_proxy import __version__

_KINDS = {Span.SPAN_KIND_SERVER: SpanKind.SERVER, Span.SPAN_KIND_CLIENT: SpanKind.CLIENT}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
FLUSH_SECONDS = 120


def readable(laid: list[bytes], service_name: str) -> list[ReadableSpan]:
    """Bodies of ``Span`` messages as what the SDK would have recorded."""
    resource = Resource({"service.name": service_name})
    scope = InstrumentationScope("sp-proxy", __version__)
    return [_readable(Span.FromString(each), resource, scope) for each in laid]


def _readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    trace_id = int.from_bytes(span.trace_id)
    parent = None
    if span.parent_span_id:
        parent = SpanContext(trace_id, int.from_bytes(span.parent_span_id), is_remote=True, trace_flags=_SAMPLED)
    return ReadableSpan(
        span.name,
        SpanContext(trace_id, int.from_bytes(span.span_id), is_remote=False, trace_flags=_SAMPLED),
        parent,
        resource,
        {pair.key: _value(pair.value) for pair in span.attributes},
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR if span.status.code == span.status.STATUS_CODE_ERROR else StatusCode.UNSET),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=scope,
    )


def _value(value: AnyValue) -> str | bool | int | float:
    kind = value.WhichOneof("value")
    found: str | bool | int | float = getattr(value, kind or "string_value")
    return found


def export(url: str, spans: list[ReadableSpan], batch: int, *, compressed: bool = True) -> tuple[float, float]:
    """CPU seconds and seconds until all are sent. Raises BenchmarkError when they are not."""
    compression = Compression.Gzip if compressed else Compression.NoCompression
    exporter = OTLPSpanExporter(f"{url}/v1/traces", compression=compression)
    processor = BatchSpanProcessor(exporter, max_queue_size=len(spans), max_export_batch_size=batch)
    cpu, wall = time.process_time(), time.perf_counter()
    for span in spans:
        processor.on_end(span)
    flushed = processor.force_flush(FLUSH_SECONDS * 1000)
    processor.shutdown()  # type: ignore[no-untyped-call]
    if not flushed:
        raise BenchmarkError(f"the SDK did not send its spans in {FLUSH_SECONDS} s")
    return time.process_time() - cpu, time.perf_counter() - wall
