"""HTTP/2 without TLS for a client of the chaos run: one request at a time on one connection, by ``h2``.

A GOAWAY is kept from ``h2``, which would then take no more frames of streams that are open, against RFC 9113, section 6.8. Clients
that are made of it, as httpx, fail where a GOAWAY and a request cross; this one does as most do.
"""

import asyncio
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from benchmarks.chaos.http import BrokenError, Message

READ_BYTES = 65536
_HEADER_BYTES, _GOAWAY = 9, 7
HEAR_SECONDS = 0.001


class Http2:
    """The client's end of a connection with prior knowledge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._buffer = b""
        self._over = False
        self._no_more = False
        self._stream = 0
        self._status = ""
        self._fields: dict[str, str] = {}
        self._body = b""
        self._ended = False

    async def usable(self) -> bool:
        """Whether another request may be sent: hears what has come while nobody asked, as a GOAWAY."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEAR_SECONDS):
                while not self._over:
                    await self._hear()
        return not (self._over or self._no_more)

    async def ask(self, authority: str, method: str, path: str, body: bytes) -> Message:
        """One request and its whole answer. Raises BrokenError, OSError."""
        connection = self._connection
        stream = self._stream = connection.get_next_available_stream_id()
        self._status, self._fields, self._body, self._ended = "", {}, b"", False
        head = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
        connection.send_headers(stream, head, end_stream=not body)
        if body:
            connection.send_data(stream, body, end_stream=True)
        self._writer.write(connection.data_to_send())
        await self._writer.drain()
        while not self._ended:
            if self._over:
                raise BrokenError("ended without an answer")
            await self._hear()
        return Message(f"HTTP/2 {self._status} ", self._fields, self._body)

    async def _hear(self) -> None:
        """Read once, and act by it. After a GOAWAY the answer to what has been asked may still come."""
        data = await self._reader.read(READ_BYTES)
        if not data:
            self._over = True
            return
        try:
            events = self._connection.receive_data(self._without_goaway(data))
        except ProtocolError as error:
            raise BrokenError(f"not HTTP/2: {error}") from error
        for event in events:
            match event:
                case ResponseReceived():
                    fields = {str(name): str(value) for name, value in event.headers or ()}
                    self._status, self._fields = fields.pop(":status"), fields
                case DataReceived():
                    self._body += event.data or b""
                    self._connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                case StreamEnded():
                    self._ended = True
                case StreamReset():
                    raise BrokenError(f"stream reset, code {event.error_code}")
                case _:
                    pass
        self._writer.write(self._connection.data_to_send())

    def _without_goaway(self, data: bytes) -> bytes:
        """Whole frames; a GOAWAY says that nothing more may be asked, and whether what was asked will be answered."""
        self._buffer += data
        passed = b""
        while len(self._buffer) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._buffer[:3])
            if len(self._buffer) < end:
                break
            frame, self._buffer = self._buffer[:end], self._buffer[end:]
            if frame[3] != _GOAWAY:
                passed += frame
                continue
            last = int.from_bytes(frame[_HEADER_BYTES : _HEADER_BYTES + 4]) & 0x7FFFFFFF
            self._no_more = True
            self._over = self._over or (last < self._stream and not self._ended)
        return passed
