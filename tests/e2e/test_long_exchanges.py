"""Exchanges that go on for long, through real redirect rules: seen at once in the embedded backend, there once when they end.

Each runs with the relay's taps and with mitmproxy's flows. Nothing here is timed: an end comes when its partial record was seen.
"""

import itertools
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
import websockets.sync.server

from tests.e2e.conftest import Pair
from tests.e2e.harness import APP_UID, TIMEOUT, Daemon, eventually, home, netfilter, running_daemon, total
from tests.e2e.servers import SocketServer, listen
from tests.netns import Namespace

GRPC_PEER = ("env", "-i", sys.executable, str(Path(__file__).with_name("grpc_stream.py")))
_numbers = itertools.count(1)


@dataclass
class Site:
    pod: Namespace
    outside: Namespace
    daemon: Daemon

    def ends(self, direction: str) -> tuple[Namespace, Namespace]:
        """Client and server."""
        return (self.outside, self.pod) if direction == "inbound" else (self.pod, self.outside)


@pytest.fixture(scope="module", params=["auto", "mitmproxy"])
def site(pair: Pair, request: pytest.FixtureRequest) -> Iterator[Site]:
    settings = {
        "data_path": request.param,
        "engine": "eager",
        "capture": {"partial_after": "500ms"},
        "websocket": {"capture": "messages"},
    }
    pod = pair[0]
    with home() as directory, running_daemon(pod, directory, settings) as daemon:
        netfilter(pod, directory / "sp_proxy.yaml", "apply", "--writer", "nft")
        yield Site(*pair, daemon)
        netfilter(pod, directory / "sp_proxy.yaml", "remove")


def token() -> str:
    return f"/{next(_numbers)}-goes-on"


@contextmanager
def asking(near: Namespace, far: Namespace, port: int, path: str) -> Iterator[BufferedReader]:
    """The answer to a request which has been sent."""
    with near.call(partial(socket.create_connection, (far.ipv4, port), TIMEOUT)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: {far.ipv4}\r\n\r\n".encode())
        with client.makefile("rb") as answer:
            yield answer


@contextmanager
def seen_twice(site: Site, **filters: str) -> Iterator[dict[str, dict[str, Any]]]:
    """What the backend has of an exchange before the block, in which it ends, and after it; the two are one exchange."""
    daemon = site.daemon

    def found(partial: bool) -> list[dict[str, Any]]:
        return [each for each in daemon.exchanges(**filters) if each["partial"] is partial]

    eventually(partial(found, True), bool, f"a partial record of {filters}")
    seen = {"partial": daemon.exchange_where(**filters)}
    counted = daemon.api("/api/v1/stats")["exchanges"]
    yield seen
    eventually(partial(found, False), bool, f"the whole record of {filters}")
    seen["whole"] = daemon.exchange_where(**filters)
    ongoing, whole = seen["partial"]["attributes"], seen["whole"]["attributes"]
    assert (ongoing["sp.span.type"], ongoing["sp.partial"]) == ("partial", True)
    assert whole["sp.span.type"] == "extract"
    assert "sp.partial" not in whole
    assert re.fullmatch("[0-9a-f]{16}", whole["sp.partial.span_id"])
    for name in ("trace_id", "span_id", "parent_span_id", "session_id", "start_unix_ns", "kind"):
        assert seen["partial"][name] == seen["whole"][name], name
    assert whole["sp.partial.span_id"] != seen["whole"]["span_id"]
    assert seen["partial"]["duration_ns"] >= 500_000_000
    assert seen["partial"]["duration_ns"] < seen["whole"]["duration_ns"]
    others = 1 if "/shop.Events/Watch" in seen["whole"]["path"] else 0  # the call that ends it
    assert daemon.api("/api/v1/stats")["exchanges"] <= counted + others
    assert total(daemon.reported(), "sp_proxy_worker_partial_records_total") >= 1


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_an_event_stream(site: Site, direction: str):
    near, far = site.ends(direction)
    path = token()
    may_end = threading.Event()

    def serve(connection: socket.socket) -> None:
        if not connection.recv(65536):
            return  # the relay's own, given up when it handed the client over
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"9\r\ndata: 1\n\n\r\n")
        assert may_end.wait(TIMEOUT)
        connection.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    with (
        SocketServer(far, serve) as server,
        asking(near, far, server.port, path) as answer,
        seen_twice(site, path=path) as seen,
    ):
        may_end.set()
        assert b"data: 2\n" in list(iter(answer.readline, b"0\r\n"))
    assert (seen["partial"]["status"], seen["partial"]["span_status"]) == (200, "unset")
    assert seen["partial"]["response"]["body"]["data"] == "data: 1\n\n"
    assert seen["whole"]["response"]["body"]["data"] == "data: 1\n\ndata: 2\n\n"
    assert not seen["partial"]["truncated"]


def test_a_long_poll(site: Site):
    near, far = site.ends("outbound")
    path = token()
    may_end = threading.Event()

    def serve(connection: socket.socket) -> None:
        if not connection.recv(65536):
            return  # the relay's own, given up when it handed the client over
        assert may_end.wait(TIMEOUT)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nnews")

    with (
        SocketServer(far, serve) as server,
        asking(near, far, server.port, path) as answer,
        seen_twice(site, path=path) as seen,
    ):
        may_end.set()
        assert b"200" in answer.readline()
    assert (seen["partial"]["status"], seen["partial"]["failed"], seen["partial"]["error"]) == (0, False, "")
    assert seen["whole"]["response"]["body"]["data"] == "news"


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_a_grpc_call_with_many_answers(site: Site, direction: str):
    near, far = site.ends(direction)
    with far.call(listen) as free:
        port = free.getsockname()[1]
    server = far.popen(*GRPC_PEER, "serve", str(port), user=APP_UID, stdout=-1)
    client = None
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        client = near.popen(*GRPC_PEER, "call", f"{far.ipv4}:{port}", user=APP_UID, stdin=-1, stdout=-1)
        assert client.stdin is not None
        assert client.stdout is not None
        assert [client.stdout.readline() for _ in range(2)] == ["tea 1\n", "tea 2\n"]
        with seen_twice(site, path="/shop.Events/Watch", host=f"{far.ipv4}:{port}") as seen:
            client.stdin.write("\n")
            client.stdin.flush()
            assert client.stdout.readline() == "tea 3\n"
            assert client.wait(TIMEOUT) == 0
    finally:
        for process in (server, client):
            if process is not None:
                process.kill()
                process.communicate()
    counts = ("rpc.requests_per_rpc", "rpc.responses_per_rpc", "rpc.grpc.status_code")
    assert [seen["partial"]["attributes"].get(name) for name in counts] == [1, 2, None]
    assert [seen["whole"]["attributes"].get(name) for name in counts] == [1, 3, 0]
    assert seen["whole"]["attributes"]["network.protocol.version"] == "2"


def test_a_websocket_with_its_messages_so_far(site: Site):
    near, far = site.ends("inbound")
    path = token()

    def handle(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    listening = far.call(listen)
    server = websockets.sync.server.serve(handle, sock=listening)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = listening.getsockname()[1]
    try:
        stream = near.call(partial(socket.create_connection, (far.ipv4, port), TIMEOUT))
        with websockets.sync.client.connect(f"ws://{far.ipv4}:{port}{path}", sock=stream, proxy=None) as client:
            client.send("one")
            assert client.recv(TIMEOUT) == "one"
            with seen_twice(site, path=path) as seen:
                client.send("two")
                assert client.recv(TIMEOUT) == "two"
                client.close()
    finally:
        server.shutdown()
        thread.join()
    sent = [seen[name]["attributes"]["websocket.client.messages"] for name in ("partial", "whole")]
    assert sent == [1, 2]
    contents = [event["attributes"]["websocket.message.content"] for event in seen["whole"]["details"]["events"]]
    assert contents == ["one", "one", "two", "two"]
