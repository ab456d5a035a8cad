"""A backend that answers before it has read a request: HTTP/1.1 or HTTP/2, in cleartext or TLS, as real servers do it.

    async with open_early(413, "close", context) as backend:
        ...  # POST to backend.url

What it says when a request's head is there is always the same; what it does then is ``ending``.
"""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import h2.config
import h2.connection
import h2.errors
import h2.events
import trio

Ending = Literal["hold", "close", "discard", "reset_stream"]
"""``hold``: reads no more, and closes nothing; gives no flow-control window.
``close``: closes with unread bytes, so the client gets a reset behind the answer.
``discard``: reads on, to be ready for the next request.
``reset_stream``: the same, behind RST_STREAM with NO_ERROR, as RFC 9113 section 8.1 has it; HTTP/2 only.
"""
SMALL_BUFFER = 16 << 10
"""Of the receiving socket, so that a client that writes on is soon made to wait."""

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@dataclass(slots=True)
class EarlyBackend:
    """What a test sees of it."""

    url: str
    status: int
    ending: Ending
    limit: int
    """Bytes of a request's body that are taken, and answered with 200."""
    only_http2: bool
    """A connection without it is closed."""
    versions: list[str] = field(default_factory=list)
    """Of the requests, in order."""
    taken: int = 0
    """Requests that were within the limit."""

    async def serve(self, stream: Stream) -> None:
        """Handle one connection."""
        try:
            async with stream:
                if isinstance(stream, trio.SSLStream):
                    await stream.do_handshake()
                    if stream.selected_alpn_protocol() == "h2":
                        await self._serve_http2(stream)
                        return
                if self.only_http2:
                    return
                await self._serve_http1(stream)
        except trio.BrokenResourceError:
            return

    async def _serve_http1(self, stream: Stream) -> None:
        buffer = bytearray()
        while True:
            while b"\r\n\r\n" not in buffer:
                if not (data := await stream.receive_some(4096)):
                    return
                buffer += data
            head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
            self.versions.append("1.1")
            lines = head.decode("latin-1").lower().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            early = length > self.limit
            answer = f"HTTP/1.1 {self.status if early else 200} Early\r\ncontent-length: 0\r\n\r\n".encode()
            if early:
                await stream.send_all(answer)
                if self.ending == "hold":
                    await trio.sleep_forever()
                if self.ending == "close":
                    return
            body = bytearray(rest)
            while len(body) < length:
                if not (data := await stream.receive_some(65536)):
                    return
                body += data
            buffer = body[length:]
            if not early:
                self.taken += 1
                await stream.send_all(answer)

    async def _serve_http2(self, stream: Stream) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        await stream.send_all(connection.data_to_send())
        early: set[int] = set()
        while data := await stream.receive_some(65536):
            for event in connection.receive_data(bytes(data)):
                if isinstance(event, h2.events.RequestReceived):
                    assert event.stream_id is not None
                    assert event.headers is not None
                    self.versions.append("2")
                    length = next(int(value) for name, value in event.headers if name == b"content-length")
                    if length > self.limit:
                        early.add(event.stream_id)
                        self._answer(connection, event.stream_id, self.status)
                        if self.ending == "reset_stream":
                            connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.NO_ERROR)
                elif isinstance(event, h2.events.DataReceived):
                    assert event.stream_id is not None
                    assert event.flow_controlled_length is not None
                    if event.stream_id not in early or self.ending in {"discard", "reset_stream"}:
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    assert event.stream_id is not None
                    if event.stream_id not in early:
                        self.taken += 1
                        self._answer(connection, event.stream_id, 200)
            await stream.send_all(connection.data_to_send())
            if early and self.ending == "close":
                return

    @staticmethod
    def _answer(connection: h2.connection.H2Connection, stream_id: int, status: int) -> None:
        headers = [(":status", str(status)), ("content-length", "0")]
        connection.send_headers(stream_id, headers, end_stream=True)


@asynccontextmanager
async def open_early(
    status: int,
    ending: Ending,
    tls: ssl.SSLContext | None = None,
    *,
    limit: int = 1 << 20,
    only_http2: bool = False,
) -> AsyncIterator[EarlyBackend]:
    """Serve on a free port of the loopback interface until the block ends. ``tls`` with ``h2`` among its ALPN protocols
    is HTTP/2 for who offers it.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.socket.getsockname()[1]}"
    backend = EarlyBackend(url, status, ending, limit, only_http2)

    async def accept(stream: trio.SocketStream) -> None:
        await backend.serve(trio.SSLStream(stream, tls, server_side=True, https_compatible=True) if tls else stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, accept, [listener])
        yield backend
        nursery.cancel_scope.cancel()
