"""What our addon records and injects beyond the comparison with the relay (tests/e2e/test_same_records.py)."""

import socket
import threading
from collections.abc import Iterator

import pytest
from mitmproxy.http import Headers
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from sp_proxy.core.exchange import Exchange
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.mitm.capture import block, inject
from tests.mitm.origins import Origin, read_all, read_head, read_until
from tests.mitm.running_mitm import RunningMitm


def test_injection_takes_away_and_adds_at_the_end():
    headers = Headers(((b"Host", b"a"), (b"X-SP-Num", b"3"), (b"TraceState", b"k=v"), (b"accept", b"*/*")))
    fields = block(headers.fields)
    assert fields == b"\r\nHost: a\r\nX-SP-Num: 3\r\nTraceState: k=v\r\naccept: */*\r\n"
    inject(headers, Injector(HeaderConfig("shop", compat_headers=False)).plan(fields.lower(), fields, 1 << 300))
    names = [name for name, _ in headers.fields]
    assert names == [b"Host", b"accept", b"x-sp-service-name", b"tracestate", b"x-sp-num", b"traceparent"]
    assert headers["x-sp-num"] == "4"
    assert headers["tracestate"].endswith("k=v")


def test_an_upstream_that_breaks_off(flows: RunningMitm, origin: Origin):
    with flows.connect(origin.address, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        with origin.accept() as upstream:
            read_head(upstream)
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            assert read_until(client, b"abc").endswith(b"abc")
        assert read_all(client) == b""
    exchange = flows.exchange()
    assert (exchange.status, exchange.error, exchange.response_body) == (200, "upstream_aborted", b"abc")


def test_an_upstream_that_answers_nothing(flows: RunningMitm, origin: Origin):
    with flows.connect(origin.address, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"):
        with origin.accept() as upstream:
            read_head(upstream)
        exchange = flows.exchange()
    assert (exchange.status, exchange.error) == (0, "upstream_aborted")


def test_an_early_answer_ends_with_its_connection(flows: RunningMitm, origin: Origin):
    head = b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
    with flows.connect(origin.address, head) as client, origin.accept() as upstream:
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert read_head(client).startswith(b"HTTP/1.1 413")
    exchange = flows.exchange()
    assert (exchange.status, exchange.error) == (413, "")


def test_a_tunnel_behind_101_passes_untouched(flows: RunningMitm, origin: Origin):
    head = b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n"
    with flows.connect(origin.address, head) as client, origin.accept() as upstream:
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n\x00\x01")
        assert read_until(client, b"\x00\x01").endswith(b"\r\n\r\n\x00\x01")
        client.sendall(b"\x02\xff")
        assert upstream.recv(2) == b"\x02\xff"
        exchange = flows.exchange()
        assert (exchange.status, exchange.websocket) == (101, None)


@pytest.fixture(scope="module")
def messages() -> Iterator[RunningMitm]:
    with RunningMitm(options={"websocket_messages": 3}) as worker:
        yield worker
        assert worker.counters.get("hook_faults", 0) == 0


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[str, int]]:
    def handler(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(handler, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()
        server.shutdown()
        thread.join()


def talk(worker: RunningMitm, echo: tuple[str, int], *said: str | bytes, compression: str | None) -> Exchange:
    sock = worker.connect(echo)
    compress = "deflate" if compression else None
    with connect("ws://shop.test/chat", sock=sock, compression=compress, max_size=None) as client:
        for message in said:
            client.send(message)
            assert client.recv(timeout=20) == message
    return worker.exchange()


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websocket_messages(messages: RunningMitm, echo: tuple[str, int], compression: str | None):
    exchange = talk(messages, echo, "hello " * 20, b"\x00\x01", "more", compression=compression)
    assert (exchange.status, exchange.target, exchange.error) == (101, b"/chat", "")
    found = exchange.websocket
    assert found is not None
    assert (found.client_messages, found.server_messages, found.close_code) == (3, 3, 1000)
    assert [(m.from_client, m.binary, m.content) for m in found.messages] == [
        (True, False, b"hello " * 20),
        (False, False, b"hello " * 20),
        (True, True, b"\x00\x01"),
    ]
    assert all(exchange.start_unix_ns <= m.end_unix_ns for m in found.messages)
    assert exchange.duration_ns >= exchange.ttfb_ns > 0
    if compression is None:
        assert found.client_bytes == found.server_bytes == 126


def test_a_large_message_passes_whole(messages: RunningMitm, echo: tuple[str, int]):
    large = b"\x07" * (16 << 20)
    found = talk(messages, echo, large, compression=None).websocket
    assert found is not None
    assert found.client_bytes == found.server_bytes == len(large)
    assert len(found.messages[0].content) == 4096


def test_an_upgrade_that_is_declined_is_an_ordinary_exchange(messages: RunningMitm, origin: Origin):
    head = b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with messages.connect(origin.address, head) as client, origin.accept() as upstream:
        read_head(upstream)
        upstream.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        read_head(client)
        exchange = messages.exchange()
    assert (exchange.status, exchange.websocket) == (403, None)


def test_a_connection_that_is_cut_off_is_recorded(messages: RunningMitm, echo: tuple[str, int]):
    sock = messages.connect(echo)
    with connect("ws://shop.test/cut", sock=sock, compression=None) as client:
        client.send("last words")
        assert client.recv(timeout=20) == "last words"
        sock.shutdown(socket.SHUT_RDWR)
    exchange = messages.exchange()
    assert exchange.websocket is not None
    assert (exchange.websocket.client_messages, exchange.websocket.close_code) == (1, 0)


def test_the_explicit_proxy(flows: RunningMitm, origin: Origin):
    request = b"GET http://127.0.0.1:%d/orders?q=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % origin.address[1]
    with flows.connect(("", 0), request) as client, origin.accept() as upstream:
        head = read_head(upstream)
        upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        answer = b""
        while not answer.endswith(b"ok"):
            answer += client.recv(1000)
    assert head.startswith(b"GET /orders?q=1 HTTP/1.1\r\n")
    assert b"x-sp-service-name: orders\r\n" in head
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    exchange = flows.exchange()
    assert (exchange.target, exchange.direction) == (b"/orders?q=1", "outbound")
    assert (exchange.server_address, exchange.server_port) == origin.address
