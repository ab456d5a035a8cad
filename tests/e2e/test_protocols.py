"""Protocols on top of HTTP, through real redirect rules in both directions: gRPC, WebSocket, server-sent events, HTTP/2 without
TLS, half-closed connections. Each is spoken by an unmodified implementation on both ends where there is one.
"""

import http.server
import itertools
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
import websockets.sync.server

from tests.e2e.conftest import Site
from tests.e2e.contract import check_identity, check_injected, check_request_headers, check_span, joined
from tests.e2e.harness import APP_UID, TIMEOUT
from tests.e2e.servers import ECHO_PORT, SocketServer, http_server, listen
from tests.netns import Namespace

GRPC_PORT = 50051
GRPC_PEER = (sys.executable, str(Path(__file__).with_name("grpc_peer.py")))
DIRECTIONS = ["inbound", "outbound"]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _redirected(site: Site):
    site.redirect("nft")


def token() -> str:
    return f"/{next(_numbers)}-of-its-own"


# ---- gRPC


@contextmanager
def grpc_server(namespace: Namespace) -> Iterator[None]:
    command = ("env", "-i", *GRPC_PEER, "serve", str(GRPC_PORT))
    process = namespace.popen(*command, user=APP_UID, stdout=-1)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_grpc(site: Site, direction: str, family: int):
    near, far = site.ends(direction)
    host = f"{far.ipv4}:{GRPC_PORT}" if family == 4 else f"[{far.ipv6}]:{GRPC_PORT}"
    with grpc_server(far):
        done = near.run("env", "-i", *GRPC_PEER, "call", host, timeout=60)
    results = json.loads(done.stdout)
    assert {name: result["answers"] for name, result in results.items()} == {
        "Unary": ["aet"],
        "Big": [f"{1 << 20} bytes"],
        "ServerStream": ["cup 0", "cup 1", "cup 2"],
        "ClientStream": ["a,b,c"],
        "BothStream": [f"you said {number}" for number in range(5)],
        "Refuse": [],
    }
    assert (results["Refuse"]["status"], results["Refuse"]["details"]) == ("RESOURCE_EXHAUSTED", "no more tea")
    # All calls are streams of one connection; the client's port tells it from those of the other parameters.
    exchanges: dict[str, Any] = {}
    for name, result in results.items():
        seen = joined(result["seen"])
        assert len(seen) == len(result["seen"])
        check_injected(seen, "shop")
        exchange = exchanges[name] = site.daemon.exchange_where(trace=seen["traceparent"].split("-")[1])
        check_identity(exchange, seen)
        check_grpc_span(exchange, name, direction)
    assert len({each["attributes"]["client.port"] for each in exchanges.values()}) == 1
    assert dict(exchanges["Unary"]["request"]["headers"])["x-order"] == "7"
    assert exchanges["Big"]["attributes"]["http.request.body.size"] == (1 << 20) + 5  # RFC: length-prefixed message
    assert exchanges["Big"]["truncated"]
    assert exchanges["Refuse"]["attributes"]["http.response.header.grpc-message"] == "no more tea"


def check_grpc_span(exchange: dict[str, Any], name: str, direction: str) -> None:
    attributes = exchange["attributes"]
    status = 8 if name == "Refuse" else 0
    expected = {
        "sp.traffic.direction": direction,
        "http.response.status_code": 200,
        "network.protocol.version": "2",
        "rpc.system": "grpc",
        "rpc.service": "shop.Orders",
        "rpc.method": name,
        "rpc.grpc.status_code": status,
        "rpc.requests_per_rpc": {"ClientStream": 3, "BothStream": 5}.get(name, 1),
        "rpc.responses_per_rpc": {"ServerStream": 3, "BothStream": 5, "Refuse": 0}.get(name, 1),
        "http.request.header.:path": f"/shop.Orders/{name}",
        "http.request.header.:method": "POST",
        "http.request.header.content-type": "application/grpc",
        "http.request.header.x-sp-service-name": "shop",
    }
    assert {key: attributes.get(key) for key in expected} == expected
    # An answer without a message has its trailers where the header fields are (gRPC: Trailers-Only).
    part = "header" if name == "Refuse" else "trailer"
    assert attributes[f"http.response.{part}.grpc-status"] == str(status)
    assert exchange["kind"] == ("server" if direction == "inbound" else "client")
    assert exchange["span_status"] == ("error" if status and direction == "outbound" else exchange["span_status"])


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


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_websocket_with_big_messages(site: Site, direction: str):
    near, far = site.ends(direction)
    path = token()
    big = bytes(range(256)) * (5 << 12)
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
    try:
        stream = near.call(partial(socket.create_connection, (far.ipv4, port), TIMEOUT))
        uri = f"ws://{far.ipv4}:{port}{path}"
        with websockets.sync.client.connect(uri, sock=stream, max_size=None, proxy=None) as client:
            for message in ("tea", big, "GET / HTTP/1.1\r\n\r\n"):
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
