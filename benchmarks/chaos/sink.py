"""The backend of the chaos run: takes OTLP, keeps in a journal what it has accepted, and misbehaves as it is told.

    python -m benchmarks.chaos.sink JOURNAL MOOD DESCRIPTOR

It serves the listening socket that it is given. ``MOOD`` is a file that is read at each request: ``busy`` answers 503,
``lossy`` accepts and then resets the connection; anything else is a backend that is well. The journal outlives the
process: what was accepted is in it before the answer goes.
"""

import gzip
import http.server
import itertools
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BUSY, LOSSY = "busy", "lossy"
RESET = struct.pack("ii", 1, 0)


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """One request that was taken."""

    batch: str
    time: float
    """Of the machine's monotonic clock."""
    spans: list[tuple[str, str]]
    """Each one's id, and the path of its request."""


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """Its answer was handed to the kernel whole."""

    batch: str
    time: float


Entry = Accepted | Answered


class Journal:
    """Entries, a line each."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def next_batch(self) -> str:
        """A name that no other request has, of this process or another."""
        return f"{os.getpid()}-{next(self._numbers)}"

    def write(self, entry: Entry) -> None:
        """At once: this process may be killed."""
        with self._lock:
            os.write(self._file, msgspec.json.encode(entry) + b"\n")


def spans(body: bytes) -> list[tuple[str, str]]:
    """Ids and paths, of a payload."""
    request = ExportTraceServiceRequest.FromString(gzip.decompress(body))
    return [
        (span.span_id.hex(), span.name.partition("?")[0])
        for resource_spans in request.resource_spans
        for scope in resource_spans.scope_spans
        for span in scope.spans
    ]


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of the daemon's, or of its Envoy's."""

    protocol_version = "HTTP/1.1"
    timeout = 60.0
    journal: Journal
    mood: Path

    def do_POST(self) -> None:
        """An upload."""
        body = self.rfile.read(int(self.headers["content-length"]))
        mood = self.mood.read_text()
        if mood == BUSY:
            self._answer(503)
            return
        batch = self.journal.next_batch()
        self.journal.write(Accepted(batch, time.monotonic(), spans(body)))
        if mood == LOSSY:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.close_connection = True
            return
        self._answer(200)
        self.journal.write(Answered(batch, time.monotonic()))

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections break off here: that is no news."""


def read_journal(path: Path) -> list[Entry]:
    """What all sinks have written; a line that a kill has cut off was never answered."""
    return list(_entries(path.read_bytes().splitlines(keepends=True)) if path.exists() else ())


def _entries(lines: Iterable[bytes]) -> Iterable[Entry]:
    decode = msgspec.json.Decoder(Entry).decode
    return (decode(line) for line in lines if line.endswith(b"\n"))


def serve(listening: socket.socket) -> None:
    """For ever."""
    server = _Server(("", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.serve_forever()


if __name__ == "__main__":
    Handler.journal, Handler.mood = Journal(Path(sys.argv[1])), Path(sys.argv[2])
    serve(socket.socket(fileno=int(sys.argv[3])))
