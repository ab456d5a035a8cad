"""One suite of exchanges through both data paths, the relay's taps and mitmproxy's flows: the spans must be the same.

Real worker processes on loopback: a relay worker alone, and one that hands everything over to a mitm worker.
"""

import gzip
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core.exchange import Exchange
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.relay.handoff import STATE_BYTES, EngineState
from sp_proxy.taps.sniff import HandOverRules
from tests.mitm.origins import Origin, read_all, read_head, read_until
from tests.mitm.running_mitm import RunningMitm
from tests.relay.running_worker import RunningWorker

IDS = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}|sp-session-[0-9a-f-]{36}")
CHANGING = {"client.port", "sp.ttfb_ms", "server.port", "network.peer.port", "url.full", "url.host"}


@dataclass
class Path:
    """One data path, to a fixed origin."""

    entrance: RunningWorker
    records: list[Exchange]

    def wait(self, count: int) -> list[Exchange]:
        self.entrance.wait(lambda: len(self.records) >= count, 20)
        found = self.records[:count]
        assert len(self.records) == count
        self.records.clear()
        return found


@pytest.fixture(scope="module")
def mitm() -> Iterator[RunningMitm]:
    with RunningMitm(options={"flows": True}) as worker:
        yield worker
        assert worker.counters.get("hook_faults", 0) == 0


@pytest.fixture
def both(mitm: RunningMitm) -> Iterator[Callable[[tuple[str, int]], dict[str, Path]]]:
    """Makes both paths to an origin."""
    with ExitStack() as stack:
        state_fd = os.memfd_create("engine-state")
        stack.callback(os.close, state_fd)
        os.truncate(state_fd, STATE_BYTES)
        EngineState(state_fd).takes = True

        def make(upstream: tuple[str, int]) -> dict[str, Path]:
            relay = stack.enter_context(RunningWorker(upstream))
            sending = mitm.handover.fileno()
            options = {"hand_over": HandOverRules(http=True), "handover_fd": sending, "engine_state_fd": state_fd}
            entrance = stack.enter_context(RunningWorker(upstream, options=options, pass_fds=(sending, state_fd)))
            return {"relay": Path(relay, relay.exchanges), "mitm": Path(entrance, mitm.exchanges)}

        yield make


def comparable(exchange: Exchange) -> dict[str, Any]:
    """A span without what differs by chance."""
    span = Span.FromString(SpanEncoder(decode_body).encode_span(exchange))
    attributes = {
        each.key: IDS.sub("ID", str(getattr(each.value, each.value.WhichOneof("value") or "string_value")))
        for each in span.attributes
    }
    port = str(exchange.server_port)
    return {
        "name": span.name,
        "kind": span.kind,
        "status": span.status.code,
        "trace": len(span.trace_id),
        "parent": bool(span.parent_span_id),
        "ends": span.end_time_unix_nano >= span.start_time_unix_nano > 0,
        "server.port": attributes["server.port"] == port,
        **{name: value.replace(port, "PORT") for name, value in attributes.items() if name not in CHANGING},
    }


Serve = Callable[[socket.socket], None]
"""What the origin does with one connection."""
Ask = Callable[[socket.socket], bytes]
"""What the client does; returns what it has read."""


def answers(*responses: bytes) -> Serve:
    """Reads a head (and its body of given length) and answers, for each response."""

    def serve(sock: socket.socket) -> None:
        for response in responses:
            head = read_head(sock).lower()
            if length := re.search(rb"content-length: (\d+)", head):
                left = int(length[1])
                while left:
                    left -= len(sock.recv(left))
            elif b"transfer-encoding: chunked" in head:
                read_until(sock, b"0\r\n\r\n")
            sock.sendall(response)

    return serve


def asks(*requests: bytes) -> Ask:
    """Sends each request and reads until its response has come; the last one until the end."""

    def ask(sock: socket.socket) -> bytes:
        seen = b""
        for request in requests:
            sock.sendall(request)
            seen += read_until(sock, b"<end>")
        return seen

    return ask


def asks_until(message: bytes, read: Callable[[socket.socket], bytes]) -> Ask:
    """Sends a request and reads in its own way."""

    def ask(sock: socket.socket) -> bytes:
        sock.sendall(message)
        return read(sock)

    return ask


def request(line: str, *fields: str, body: bytes = b"") -> bytes:
    return "".join(f"{each}\r\n" for each in (line, "Host: shop.test", *fields, "")).encode() + body


def response(line: str, *fields: str, body: bytes = b"<end>") -> bytes:
    length = (
        () if any("ength" in each or "ncoding: ch" in each for each in fields) else (f"Content-Length: {len(body)}",)
    )
    return "".join(f"{each}\r\n" for each in (line, *fields, *length, "")).encode() + body


OK = response("HTTP/1.1 200 OK", "Content-Type: text/plain")
JSON = b'{"order": 7, "note": "<end>"}'
TRACED = (
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate: other=1,x-sp-traceparent=00-11111111111111111111111111111111-2222222222222222-01,x-sp-session-id=s1",
    "x-sp-num: 4",
    "X-Service-Name: older",
)
ZIPPED = gzip.compress(JSON)

CONVERSATIONS: dict[str, tuple[Ask, Serve, int]] = {
    "get": (asks(request("GET /orders?q=a%20b HTTP/1.1", "Accept: */*", "User-Agent: test")), answers(OK), 1),
    "post": (
        asks(
            request(
                "POST /orders HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(JSON)}", body=JSON
            )
        ),
        answers(response("HTTP/1.1 201 Created", "Content-Type: application/json", body=JSON + b"<end>")),
        1,
    ),
    "chunked": (
        asks(
            request(
                "POST /c HTTP/1.1",
                "Content-Type: text/plain",
                "Transfer-Encoding: chunked",
                body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            )
        ),
        answers(response("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=b"5\r\n<end>\r\n0\r\n\r\n")),
        1,
    ),
    "keep-alive": (
        asks(*(request(f"GET /{number} HTTP/1.1") for number in range(3))),
        answers(OK, response("HTTP/1.1 404 Not Found"), response("HTTP/1.1 503 No")),
        3,
    ),
    "traced": (asks(request("GET /t HTTP/1.1", *TRACED)), answers(response("HTTP/1.1 200 OK", TRACED[0])), 1),
    "repeated fields": (
        asks(request("GET /r HTTP/1.1", "X-A: 1", "x-a: 2", "Cookie: a=1", "Authorization: Bearer x")),
        answers(response("HTTP/1.1 200 OK", "Set-Cookie: a", "Set-Cookie: b", "Vary: x", "Vary: y")),
        1,
    ),
    "gzip": (
        asks_until(request("GET /z HTTP/1.1", "Accept-Encoding: gzip"), lambda sock: read_until(sock, ZIPPED)),
        answers(response("HTTP/1.1 200 OK", "Content-Type: application/json", "Content-Encoding: gzip", body=ZIPPED)),
        1,
    ),
    "large": (
        asks(request("PUT /l HTTP/1.1", "Content-Length: 200000", body=b"x" * 200_000)),
        answers(response("HTTP/1.1 200 OK", "Content-Type: text/plain", body=b"y" * 300_000 + b"<end>")),
        1,
    ),
    "http 1.0": (
        asks_until(request("GET /old HTTP/1.0"), read_all),
        answers(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil close<end>"),
        1,
    ),
    "interim": (
        asks(request("GET /i HTTP/1.1")),
        answers(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK),
        1,
    ),
    "head": (
        asks_until(request("HEAD /h HTTP/1.1"), read_head),
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
        1,
    ),
    "no content": (
        asks_until(request("DELETE /n HTTP/1.1"), read_head),
        answers(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
        1,
    ),
    "static": (asks(request("GET /a.css HTTP/1.1"), request("GET /b HTTP/1.1")), answers(OK, OK), 1),
    "static response": (
        asks(request("GET /a HTTP/1.1"), request("GET /b HTTP/1.1")),
        answers(response("HTTP/1.1 200 OK", "Content-Type: text/html"), OK),
        1,
    ),
    "broken off": (
        asks_until(request("GET /x HTTP/1.1"), read_all),
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
        1,
    ),
}


def converse(path: Path, origin: Origin, ask: Ask, serve: Serve) -> bytes:
    def run() -> None:
        while True:
            with origin.accept() as upstream:
                first = upstream.recv(1, socket.MSG_PEEK)
                if not first:
                    continue  # the relay's own, of a connection that it handed over
                serve(upstream)
                return

    with ThreadPoolExecutor(1) as pool, path.entrance.connect() as client:
        client.settimeout(20)
        serving: Future[None] = pool.submit(run)
        seen = ask(client)
        serving.result(20)
    return seen


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_same_spans(both: Callable[[tuple[str, int]], dict[str, Path]], name: str):
    ask, serve, count = CONVERSATIONS[name]
    with Origin() as origin:
        paths = both(origin.address)
        spans = {}
        seen = {}
        for kind, path in paths.items():
            seen[kind] = IDS.sub("ID", converse(path, origin, ask, serve).decode("latin-1"))
            spans[kind] = [comparable(exchange) for exchange in path.wait(count)]
        assert spans["mitm"] == spans["relay"]
        assert seen["mitm"].lower() == seen["relay"].lower()


def test_the_same_spans_of_grpc(both: Callable[[tuple[str, int]], dict[str, Path]]):
    def unary(data: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-sum", "9"),))
        if data == b"fail":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        return data[::-1]

    def both_ways(messages: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for message in messages:
            yield message + b"!"

    handlers = {
        "Reverse": grpc.unary_unary_rpc_method_handler(unary),
        "Chat": grpc.stream_stream_rpc_method_handler(both_ways),
    }
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        spans = {}
        for kind, path in both(("127.0.0.1", port)).items():
            with grpc.insecure_channel(
                f"127.0.0.1:{path.entrance.address[1]}", [("grpc.enable_http_proxy", 0)]
            ) as channel:
                reverse = channel.unary_unary("/shop.Orders/Reverse")
                assert reverse(b"abc", metadata=(("x-order", "7"),), timeout=20) == b"cba"
                assert reverse(b"x" * 1_000_000, timeout=20) == b"x" * 1_000_000
                with pytest.raises(grpc.RpcError) as failed:
                    reverse(b"fail", timeout=20)
                assert failed.value.code() is grpc.StatusCode.NOT_FOUND
                chat = channel.stream_stream("/shop.Orders/Chat")
                assert list(chat(iter([b"a", b"b"]), timeout=20)) == [b"a!", b"b!"]
                spans[kind] = [comparable(exchange) for exchange in path.wait(4)]
        server.stop(None).wait()
    for mine, other in zip(spans["relay"], spans["mitm"], strict=True):
        for each in (mine, other):
            each.pop("http.request.header.:authority")  # names the entrance's port
            each.pop("http.request.header.grpc-timeout", None)  # what was left of it
        assert other == mine
