"""An OTLP sink for the exporters' benchmarks: reads every request, accepts it, and tells how much has come."""

import json
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from threading import Lock

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """By a sink, since its start."""

    requests: int = 0
    body_bytes: int = 0
    """As they came: compressed or not."""

    def since(self, before: "Received") -> "Received":
        """What came after an earlier look."""
        return Received(self.requests - before.requests, self.body_bytes - before.body_bytes)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = Lock()
        self.received = Received()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            before = self.server.received
            self.server.received = Received(before.requests + 1, before.body_bytes + len(body))
        self._answer(b"")

    def do_GET(self) -> None:
        received = self.server.received
        self._answer(json.dumps([received.requests, received.body_bytes]).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
        pass


def serve(port: Connection) -> None:
    """For ever, in a process of its own; tells its port."""
    server = _Server()
    port.send(server.server_port)
    server.serve_forever()


def received(url: str) -> Received:
    """What has come to the sink at this URL until now."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
        return Received(*json.load(answer))
