"""An OTLP/HTTP backend that misbehaves on demand: real sockets, one scripted behaviour a request.

    async with open_backend(answer(503), answer(200)) as backend:
        ...  # POST to backend.url
    assert len(backend.received) == 2

When the script is at its end, every further request is answered by ``otherwise``: 200 unless it is changed. What was
received stays in ``received``, and as OTLP in ``requests``. ``go_down`` and ``come_up`` close and open its port, ``tls``
is what new connections are secured with.
"""

import gzip
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    time: float

    def otlp(self) -> ExportTraceServiceRequest:
        gzipped = self.headers.get("content-encoding") == "gzip"
        return ExportTraceServiceRequest.FromString(gzip.decompress(self.body) if gzipped else self.body)


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Behaviour = Callable[[Stream], Awaitable[bool]]
"""Does something to a request which was read; whether the connection goes on."""


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Behaviour:
    """A whole answer. ``retry_after="1"`` is sent as ``retry-after: 1``."""

    async def behave(stream: Stream) -> bool:
        await stream.send_all(_head(status, len(body), headers) + body)
        return True

    return behave


def partial_success(rejected: int, message: str) -> Behaviour:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return answer(200, response.SerializeToString(), content_type="application/x-protobuf")


def huge_answer(size: int, status: int = 200) -> Behaviour:
    """As much as the client reads of so many bytes."""

    async def behave(stream: Stream) -> bool:
        await stream.send_all(_head(status, size, {}))
        for _ in range(size >> 16):
            await stream.send_all(bytes(1 << 16))
        return False

    return behave


def cut_answer(status: int = 200) -> Behaviour:
    """A head which promises a body, some of the body, reset."""

    async def behave(stream: Stream) -> bool:
        await stream.send_all(_head(status, 1000, {}) + b"some")
        _reset(stream)
        return False

    return behave


def slow_body(status: int = 200) -> Behaviour:
    """A head at once, and a body that never comes to its end."""

    async def behave(stream: Stream) -> bool:
        await stream.send_all(_head(status, 1000, {}) + b"some")
        await trio.sleep_forever()
        return False

    return behave


def slow_answer(body: bytes = b"", pause: float = 0.05, status: int = 200) -> Behaviour:
    """A whole answer, byte by byte."""

    async def behave(stream: Stream) -> bool:
        for byte in _head(status, len(body), {}) + body:
            await stream.send_all(bytes([byte]))
            await trio.sleep(pause)
        return True

    return behave


def endless_head(status: int = 200) -> Behaviour:
    """Header fields without an end, as long as the client reads them."""

    async def behave(stream: Stream) -> bool:
        await stream.send_all(f"HTTP/1.1 {status} OK\r\n".encode())
        while True:
            await stream.send_all(b"x-more: and more\r\n" * 64)

    return behave


async def interim_answers(stream: Stream) -> bool:
    """100 (Continue) for ever: each read of the client succeeds, and no answer comes."""
    while True:
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        await trio.sleep(0.01)


async def reset_without_answer(stream: Stream) -> bool:
    _reset(stream)
    return False


async def reset_within_head(stream: Stream) -> bool:
    await stream.send_all(b"HTTP/1.1 200 O")
    _reset(stream)
    return False


async def close_without_answer(stream: Stream) -> bool:
    return False


async def never_answer(stream: Stream) -> bool:
    await trio.sleep_forever()
    return False


async def speak_no_http(stream: Stream) -> bool:
    await stream.send_all(b"220 mail.example ESMTP\r\n")
    return False


@dataclass(slots=True)
class Backend:
    """What a test sees of the server."""

    url: str
    script: deque[Behaviour]
    otherwise: Behaviour = field(default_factory=answer)
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    _news: trio.Event = field(default_factory=trio.Event)
    _nursery: trio.Nursery | None = None
    _listener: trio.SocketListener | None = None
    _open: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [received.otlp() for received in self.received]

    @property
    def spans(self) -> list[Span]:
        """Of all requests, whatever they were answered."""
        return [
            span
            for request in self.requests
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]

    async def wait_received(self, count: int) -> None:
        """Until so many requests were read."""
        while len(self.received) < count:
            await self._news.wait()

    async def go_down(self) -> None:
        """From now on connections are refused, and those that there are end."""
        assert self._listener is not None
        self._open.cancel()
        await self._listener.aclose()

    async def come_up(self, nursery: trio.Nursery | None = None) -> None:
        """Listen, at the port of before."""
        self._nursery = nursery or self._nursery
        assert self._nursery is not None
        port = int(self.url.rpartition(":")[2])
        (self._listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.url = f"{self.url.rpartition(':')[0]}:{self._listener.socket.getsockname()[1]}"
        self._open = trio.CancelScope()
        self._nursery.start_soon(self._listen, self._listener, self._open)

    async def _listen(self, listener: trio.SocketListener, while_open: trio.CancelScope) -> None:
        with while_open:
            await trio.serve_listeners(self._accept, [listener])

    async def _accept(self, stream: trio.SocketStream) -> None:
        if self.tls is None:
            await self.serve(stream)
            return
        secured = trio.SSLStream(stream, self.tls, server_side=True, https_compatible=True)
        try:
            await secured.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError):
            await trio.aclose_forcefully(stream)
        else:
            await self.serve(secured)

    async def serve(self, stream: Stream) -> None:
        """Handle one connection."""
        self.connections += 1
        connection = self.connections
        buffer = bytearray()
        try:
            async with stream:
                while (received := await _read_request(stream, buffer, connection)) is not None:
                    self.received.append(received)
                    behave = self.script.popleft() if self.script else self.otherwise
                    self._news.set()
                    self._news = trio.Event()
                    if not await behave(stream):
                        return
        except trio.BrokenResourceError:
            return  # the client went away


@asynccontextmanager
async def open_backend(*script: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Backend]:
    """Serve on a free port of the loopback interface until the block ends."""
    async with trio.open_nursery() as nursery:
        backend = Backend(f"{'https' if tls else 'http'}://127.0.0.1:0", deque(script), tls=tls)
        await backend.come_up(nursery)
        yield backend
        nursery.cancel_scope.cancel()


def refused_url() -> str:
    """A URL at which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def _read_request(stream: Stream, buffer: bytearray, connection: int) -> Received | None:
    while b"\r\n\r\n" not in buffer:
        if not (data := await stream.receive_some()):
            return None
        buffer += data
    head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request_line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = bytearray(rest)
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        if not (data := await stream.receive_some()):
            return None
        body += data
    buffer[:] = body[length:]
    return Received(method, target, headers, bytes(body[:length]), connection, trio.current_time())


def _head(status: int, length: int, headers: dict[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", f"content-length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def _reset(stream: Stream) -> None:
    """Have the following close send RST instead of FIN."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
