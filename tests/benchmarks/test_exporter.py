"""The comparison with OpenTelemetry's SDK in its short form, so that it cannot rot, and that both export the same spans."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.exporter import BATCH, rivals, varied
from tests.test_project import ROOT

COUNT = 2 * BATCH + 7


@contextmanager
def collecting() -> Iterator[tuple[str, list[Span]]]:
    """A sink that keeps the spans of what is sent without compression."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            spans.extend(span for each in request.resource_spans for span in each.scope_spans[0].spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.send_header("connection", "close")  # one thread serves them all, one after the other
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


def compared(span: Span) -> tuple[Any, ...]:
    """All but the flags and counts of what was dropped, which an SDK writes and a proxy has no knowledge of."""
    attributes = {pair.key: pair.value.SerializeToString() for pair in span.attributes}
    ids = (span.trace_id, span.span_id, span.parent_span_id)
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    return *ids, span.name, span.kind, *times, span.status.code, sorted(attributes.items())


def test_everybody_exports_the_same_spans():
    exchanges = varied(COUNT, 200)
    sent = {}
    for name in ("unredacted", "redacted", "sdk"):
        with collecting() as (url, spans):
            rivals(url, exchanges, 16, "none")[name]()
        sent[name] = {span.span_id: compared(span) for span in spans}
        assert len(spans) == len(sent[name]) == COUNT
    assert all(len(span[-1]) > 20 for span in sent["sdk"].values())
    # Redaction finds nothing here, so what it costs is looking.
    assert sent["unredacted"] == sent["redacted"] == sent["sdk"]


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_the_short_form(compression):
    arguments = ["--records", "2000", "--rounds", "2", "--compression", compression]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.exporter", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    times = [float(found) for found in re.findall(r"([0-9.]+) times the SDK's", done.stdout)]
    assert len(times) == 2
    # How many times is the benchmark's to say (docs/performance.md), on a quiet machine with more records.
    assert min(times) > 0
