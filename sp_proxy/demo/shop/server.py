"""The HTTP server under each service: HTTP/1.1 with keep-alive, a thread a connection, on a socket that it is given."""

import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol, override

from sp_proxy.demo.shop.messages import Answer, Request, encode, problem

MAX_BODY_BYTES = 1 << 20
HEALTH = "/healthz"
"""For the probes of a cluster: the server answers, whatever its service does."""


class Service(Protocol):
    """What serves one connection. State that connections share is given to it."""

    name: str

    def answer(self, request: Request) -> Answer:
        """Answer a request."""

    def close(self) -> None:
        """The connection has ended."""


class Server(ThreadingHTTPServer):
    """Serves on a listening socket, one ``Service`` for each connection."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, connect: Callable[[], Service]) -> None:
        address = listening.getsockname()[:2]
        super().__init__(address, Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.connect = connect


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment

    @override
    def setup(self) -> None:
        super().setup()
        self.service = self.server.connect()

    @override
    def finish(self) -> None:
        self.service.close()
        super().finish()

    @override
    def version_string(self) -> str:
        return f"{self.service.name}/1.0"

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the calls are reported by those who make them."""

    def do_GET(self) -> None:
        """Answer a GET."""
        self._respond()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._respond()

    def _respond(self) -> None:
        if self.path == HEALTH:
            self._send(Answer(200, {"status": "ok"}))
            return
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True  # the body is left unread, so nothing after it can be understood
            self._send(problem(413 if length.isdigit() else 411, "a content-length of 1 MiB at most is needed"))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.service.answer(Request(self.command, self.path, headers, self.rfile.read(int(length)))))

    def _send(self, answer: Answer) -> None:
        headers, body = encode(answer, self.headers.get("accept-encoding", ""))
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
