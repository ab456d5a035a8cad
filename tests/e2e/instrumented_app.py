"""An application with OpenTelemetry's SDK as its documentation sets it up: tracer, OTLP/HTTP exporters, logging handler.

``python instrumented_app.py PORT NEXT``: each request is a server span with a log record; where NEXT (a URL) is given, it
is called inside of a client span first. SIGTERM flushes and ends it.
"""

import logging
import signal
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import propagate, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

tracer = trace.get_tracer("shop")
log = logging.getLogger("shop")


def set_up() -> tuple[TracerProvider, LoggerProvider]:
    """Endpoint and service name come from the environment."""
    resource = Resource.create({})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(spans)
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(logs)
    logging.getLogger().addHandler(LoggingHandler(logger_provider=logs))
    logging.getLogger().setLevel(logging.INFO)
    return spans, logs


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    following = ""

    def do_GET(self) -> None:
        context = propagate.extract(self.headers)
        with tracer.start_as_current_span("handle", context=context, kind=trace.SpanKind.SERVER):
            answer = b"done"
            if self.following:
                answer = self.call()
            log.warning("answered %s", self.path, extra={"customer": "kingfisher"})
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def call(self) -> bytes:
        with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT):
            headers: dict[str, str] = {}
            propagate.inject(headers)
            request = urllib.request.Request(self.following + self.path, headers=headers)
            with urllib.request.urlopen(request, timeout=20) as response:
                body: bytes = response.read()
                return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
        pass


def main() -> None:
    providers = set_up()
    Application.following = sys.argv[2] if len(sys.argv) > 2 else ""
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Application)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("ready", flush=True)
    server.serve_forever()
    for provider in providers:
        provider.shutdown()


if __name__ == "__main__":
    main()
