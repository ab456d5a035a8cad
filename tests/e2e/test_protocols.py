"""Protocols on top of HTTP, through real redirect rules in both directions: WebSocket, server-sent events, HTTP/2 without TLS,
half-closed connections. Each is spoken by an unmodified implementation on both ends where there is one. (``test_grpc``,
``test_http2_peers``, ``test_databases`` and ``test_tls`` have more.)
"""

import http.server
import itertools
import json
import random
import socket
import threading
import time
from functools import partial
from pathlib import Path
from statistics import median

import pytest
import websockets.sync.client
import websockets.sync.server
from websockets.extensions.permessage_deflate import PerMessageDeflate

from tests.e2e.conftest import Site
from tests.e2e.contract import check_identity, check_injected, check_request_headers, check_span, joined
from tests.e2e.harness import TIMEOUT
from tests.e2e.servers import ECHO_PORT, SocketServer, http_server, listen
from tests.netns import Namespace

DIRECTIONS = ["inbound", "outbound"]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _redirected(site: Site):
    site.redirect("nft")


def token() -> str:
    return f"/{next(_numbers)}-of-its-own"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_http2_without_tls(site: Site, direction: str):
    near, far = site.ends(direction)
    path = token()
    done = near.run(
        *("curl", "--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "20", "--data", "tea"),
        *("--write-out", "\n%{http_version}", f"http://{far.ipv4}:{ECHO_PORT}{path}"),
    )
    body, version = done.stdout.rsplit("\n", 1)
    assert version == "2"
    saw = json.loads(body)
    seen = joined(saw["headers"])
    assert (saw["target"], saw["body"]) == (path, "tea")
    assert len(seen) == len(saw["headers"])
    check_injected(seen, "shop")
    exchange = site.daemon.exchange_where(path=path)
    check_identity(exchange, seen)
    check_span(exchange, direction, "shop", 200)
    check_request_headers(exchange, seen)
    assert exchange["attributes"]["network.protocol.version"] == "2"
    assert exchange["request"]["body"]["data"] == "tea"
    assert exchange["response"]["body"]["data"] == body


# ---- WebSocket


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_websocket_with_big_messages(site: Site, direction: str, family: int):
    """With compression (permessage-deflate), 16 MiB that cannot be compressed among them."""
    near, far = site.ends(direction)
    path = token()
    big = random.Random(7).randbytes(16 << 20)
    seen: dict[str, str] = {}

    def handle(connection: websockets.sync.server.ServerConnection) -> None:
        assert connection.request is not None
        seen.update(joined(connection.request.headers.raw_items()))
        for message in connection:
            connection.send(message[::-1])

    listening = far.call(listen)
    server = websockets.sync.server.serve(handle, sock=listening, max_size=None)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = listening.getsockname()[1]
    host = far.ipv4 if family == 4 else far.ipv6
    try:
        stream = near.call(partial(socket.create_connection, (host, port), TIMEOUT))
        uri = f"ws://{host}:{port}{path}" if family == 4 else f"ws://[{host}]:{port}{path}"
        with websockets.sync.client.connect(uri, sock=stream, max_size=None, proxy=None) as client:
            assert [type(each) for each in client.protocol.extensions] == [PerMessageDeflate]
            for message in ("tea", big, "tea" * 100_000, "GET / HTTP/1.1\r\n\r\n"):
                client.send(message)
                assert client.recv(TIMEOUT) == message[::-1]
            assert client.ping().wait(TIMEOUT)
    finally:
        server.shutdown()
        thread.join()
    check_injected(seen, "shop")
    exchange = site.daemon.exchange_where(path=path)
    check_identity(exchange, seen)
    check_span(exchange, direction, "shop", 101)
    assert dict(exchange["response"]["headers"])["upgrade"] == "websocket"


# ---- answers that come in pieces


class Events(http.server.BaseHTTPRequestHandler):
    """Sends the next event when the client says that it has the one before: who keeps one back stops everything."""

    protocol_version = "HTTP/1.1"
    arrived = threading.Semaphore(0)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(5):
            event = b"data: %d\n\n" % number
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            assert self.arrived.acquire(timeout=TIMEOUT)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_server_sent_events_arrive_one_by_one(site: Site, direction: str):
    near, far = site.ends(direction)
    path = token()

    def read() -> list[bytes]:
        request = f"GET {path} HTTP/1.1\r\nhost: {far.ipv4}:9000\r\naccept: text/event-stream\r\n\r\n"
        events = []
        with socket.create_connection((far.ipv4, 9000), TIMEOUT) as connection, connection.makefile("rb") as stream:
            connection.sendall(request.encode())
            for line in stream:
                if line.startswith(b"data: "):
                    events.append(line)
                    Events.arrived.release()
                if line == b"0\r\n":
                    break
        return events

    with http_server(far, Events, 9000):
        assert near.call(read) == [b"data: %d\n" % number for number in range(5)]
    exchange = site.daemon.exchange_where(path=path)
    check_span(exchange, direction, "shop", 200)
    assert exchange["response"]["body"]["data"] == "".join(f"data: {number}\n\n" for number in range(5))
    assert exchange["attributes"]["sp.ttfb_ms"] < exchange["duration_ns"] / 1e6


EVENTS = 40
LATE = 0.05
"""Seconds by which an event may arrive later than directly."""


class Timed(http.server.BaseHTTPRequestHandler):
    """Sends events with the time at which they were sent, some of them together."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            event = b"data: %.6f\n\n" % time.monotonic()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(0.01 if number % 4 else 0)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


def delays(near: Namespace, host: str, port: int) -> list[float]:
    """How long each event was on its way."""

    def read() -> list[float]:
        taken = []
        with socket.create_connection((host, port), TIMEOUT) as connection, connection.makefile("rb") as stream:
            connection.sendall(b"GET /events HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n")
            for line in stream:
                if line.startswith(b"data: "):
                    taken.append(time.monotonic() - float(line[6:]))
                if line == b"0\r\n":
                    break
        return taken

    return near.call(read)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_server_sent_events_are_not_late(site: Site, direction: str, family: int):
    near, far = site.ends(direction)
    with http_server(far, Timed, 9001):
        direct = delays(far, "127.0.0.1", 9001)
        relayed = delays(near, far.ipv4 if family == 4 else far.ipv6, 9001)
    assert len(relayed) == len(direct) == EVENTS
    assert median(relayed) - median(direct) < LATE


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_client_that_half_closes_still_gets_its_answer(site: Site, direction: str):
    near, far = site.ends(direction)
    path = token()

    def serve(connection: socket.socket) -> None:
        request = b"".join(iter(partial(connection.recv, 65536), b""))
        assert request.endswith(b"tea")
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end")

    def ask() -> bytes:
        with socket.create_connection((far.ipv4, server.port), TIMEOUT) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nhost: {far.ipv4}\r\ncontent-type: text/plain\r\n".encode())
            connection.sendall(b"content-length: 3\r\n\r\ntea")
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(partial(connection.recv, 65536), b""))

    with SocketServer(far, serve) as server:
        assert near.call(ask).endswith(b"until the end")
    exchange = site.daemon.exchange_where(path=path)
    check_span(exchange, direction, "shop", 200)
    assert exchange["request"]["body"]["data"] == "tea"
    assert exchange["response"]["body"]["data"] == "until the end"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_expect_100_continue(site: Site, direction: str, tmp_path: Path):
    """curl waits for the interim response before it sends more than 1 MiB."""
    near, far = site.ends(direction)
    path = token()
    body = tmp_path / "body"
    body.write_bytes(b"x" * (2 << 20))
    done = near.run(
        *("curl", "--silent", "--show-error", "--verbose", "--max-time", "20", "--data-binary", f"@{body}"),
        *("--header", "content-type: text/plain", f"http://{far.ipv4}:{ECHO_PORT}{path}"),
    )
    assert "< HTTP/1.1 100" in done.stderr
    assert len(json.loads(done.stdout)["body"]) == 2 << 20
    exchange = site.daemon.exchange_where(path=path)
    check_span(exchange, direction, "shop", 200)
    assert exchange["attributes"]["http.request.body.size"] == 2 << 20
    assert exchange["truncated"]
    assert exchange["request"]["body"]["data"] == "x" * 65536
