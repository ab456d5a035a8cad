"""A backend that only decodes: OTLP/HTTP requests with opentelemetry-proto's own classes, kept as they came."""

import gzip
import http.server
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.servers import http_server
from tests.netns import Namespace


@dataclass(frozen=True)
class Arrived:
    """One span with what came around it."""

    span: Span
    resource: dict[str, str]
    upload_headers: dict[str, str]


@dataclass
class Sink:
    """What has arrived, in order. Whoever waits for it asks the daemon whether all is delivered."""

    spans: list[Arrived] = field(default_factory=list)

    def take(self, headers: dict[str, str], body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body))
        for resource_spans in request.resource_spans:
            resource = values(resource_spans.resource.attributes)
            self.spans += [
                Arrived(span, resource, headers) for scope in resource_spans.scope_spans for span in scope.spans
            ]


def values(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes by name, as text; one that is there twice is an error."""
    pairs = [(each.key, each.value) for each in attributes]
    assert len(dict(pairs)) == len(pairs), [name for name, _ in pairs]
    return {name: _text(value) for name, value in pairs}


def _text(value: AnyValue) -> str:
    kind = value.WhichOneof("value") or "string_value"
    return str(getattr(value, kind))


@contextmanager
def otlp_sink(namespace: Namespace, port: int) -> Iterator[Sink]:
    """One on all addresses, until the block ends."""
    sink = Sink()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()} | {":path": self.path}
            sink.take(headers, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http_server(namespace, Handler, port):
        yield sink
