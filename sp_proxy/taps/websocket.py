"""Watches the frames of a WebSocket connection (RFC 6455) in a copy of its bytes: counts messages, keeps the first ones.

Nothing is changed and nothing is held. Bytes that are no frames end the watching; what was counted so far stays.
Compressed messages (RFC 7692) are counted by their size on the wire and kept as what they mean, within the limit: one that
inflates to more ends the keeping of content in its direction, since what follows builds on it.
"""

import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from sp_proxy.core.exchange import Exchange, WebSocketMessage, WebSocketSummary

_CONTINUATION: Final = 0
_TEXT: Final = 1
_BINARY: Final = 2
_CLOSE: Final = 8
_CONTROL: Final = 8
_MAX_CONTROL_BYTES: Final = 125
_DEFLATE_TAIL: Final = b"\x00\x00\xff\xff"
MAX_MESSAGE_BYTES: Final = 4096
"""Content kept of one message; its size is the true one."""


class _Direction:
    """One direction: the frame that is passing, and the message which it belongs to."""

    def __init__(self, fresh_context: bool) -> None:
        self.header = bytearray()
        self.left = -1  # payload bytes of the frame; -1: its header is not complete
        self.opcode = 0
        self.final = False
        self.mask = b""
        self.masked_at = 0
        self.open = False  # a message goes on
        self.binary = False
        self.compressed = False
        self.size = 0
        self.content = bytearray()
        self.complete = True  # nothing of the content is missing
        self.control = bytearray()
        self.keep = True  # content of messages; after an inflated one that was too long, no more
        self.fresh_context = fresh_context  # each message is compressed on its own
        self.inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self.messages = 0
        self.bytes = 0

    def begin_frame(self) -> bool:
        """The frame's header is complete; whether it may stand here."""
        header = self.header
        short = header[1] & 0x7F
        offset = 2
        if short == 126:
            self.left, offset = int.from_bytes(header[2:4]), 4
        elif short == 127:
            self.left, offset = int.from_bytes(header[2:10]), 10
        else:
            self.left = short
        self.final = bool(header[0] & 0x80)
        self.opcode = header[0] & 0x0F
        self.mask = bytes(header[offset:])
        self.masked_at = 0
        compressed = bool(header[0] & 0x40)
        header.clear()
        if self.opcode >= _CONTROL:
            self.control.clear()
            return self.final and self.left <= _MAX_CONTROL_BYTES
        if self.opcode == _CONTINUATION:
            return self.open
        if self.open or self.opcode not in {_TEXT, _BINARY}:
            return False
        self.open = True
        self.binary = self.opcode == _BINARY
        self.compressed = compressed
        self.size = 0
        self.content.clear()
        self.complete = True
        return True

    def unmask(self, piece: bytes) -> bytes:
        """XOR with the repeated mask (section 5.3), in one operation on long integers."""
        if not self.mask:
            return piece
        shift = self.masked_at & 3
        self.masked_at += len(piece)
        mask = self.mask[shift:] + self.mask[:shift]
        repeated = (mask * (len(piece) // 4 + 1))[: len(piece)]
        return (int.from_bytes(piece) ^ int.from_bytes(repeated)).to_bytes(len(piece))

    def add(self, piece: bytes, limit: int) -> None:
        """A piece of a message's content."""
        room = limit - len(self.content)
        if not self.compressed:
            self.content += piece[: max(0, room)]
            self.complete = self.complete and len(piece) <= room
            return
        if self.keep:
            try:
                self.content += self.inflater.decompress(piece, room + 1)
            except zlib.error:
                self.keep = False
            if len(self.content) > limit or self.inflater.unconsumed_tail:
                del self.content[limit:]
                self.keep = False
        self.complete = self.complete and self.keep

    def end_message(self, limit: int) -> None:
        """The last frame of a message has passed."""
        if self.compressed:
            self.add(_DEFLATE_TAIL, limit)
            if self.fresh_context:
                self.inflater = zlib.decompressobj(-zlib.MAX_WBITS)
                self.keep = True
        self.open = False
        self.messages += 1


class WebSocketTap:
    """``extensions``: the value of the response's ``Sec-WebSocket-Extensions``."""

    def __init__(self, extensions: str, max_messages: int, max_size: int, unix_ns: Callable[[], int]) -> None:
        lower = extensions.lower()
        self._client = _Direction("client_no_context_takeover" in lower)
        self._server = _Direction("server_no_context_takeover" in lower)
        self._max_messages = max_messages
        self._max_size = min(max_size, MAX_MESSAGE_BYTES)
        self._unix_ns = unix_ns
        self._messages: list[WebSocketMessage] = []
        self._close_code = 0
        self._lost = False

    def feed(self, data: bytes, *, from_client: bool) -> None:
        """Bytes passed by."""
        side = self._client if from_client else self._server
        at = 0
        while at < len(data) and not self._lost:
            if side.left < 0:
                at = self._header(side, data, at)
            else:
                end = min(len(data), at + side.left)
                side.left -= end - at
                self._payload(side, data[at:end])
                at = end
            if not side.left:
                self._end_frame(side)

    def added_to(self, exchange: Exchange) -> Exchange:
        """The handshake's record, with what was seen since."""
        client, server = self._client, self._server
        summary = WebSocketSummary(
            client.messages, client.bytes, server.messages, server.bytes, self._close_code, tuple(self._messages)
        )
        return msgspec.structs.replace(exchange, websocket=summary)

    def _header(self, side: _Direction, data: bytes, at: int) -> int:
        header = side.header
        end = at + _header_size(header) - len(header)
        header += data[at:end]
        if len(header) >= 2 and len(header) == _header_size(header):
            self._lost = not side.begin_frame()
        return min(end, len(data))

    def _payload(self, side: _Direction, piece: bytes) -> None:
        if side.opcode >= _CONTROL:
            if side.opcode == _CLOSE:
                side.control += side.unmask(piece)
            return
        side.size += len(piece)
        side.bytes += len(piece)
        if len(self._messages) < self._max_messages:
            if side.compressed or len(side.content) < self._max_size:
                side.add(side.unmask(piece), self._max_size)
            else:
                side.complete = False

    def _end_frame(self, side: _Direction) -> None:
        side.left = -1
        if side.opcode == _CLOSE:
            if not self._close_code and len(side.control) >= 2:
                self._close_code = int.from_bytes(side.control[:2])
        elif side.opcode < _CONTROL and side.final:
            wanted = len(self._messages) < self._max_messages
            if wanted:
                side.end_message(self._max_size)
                self._messages.append(
                    WebSocketMessage(
                        *(side is self._client, self._unix_ns(), side.binary, side.size, bytes(side.content)),
                        complete=side.complete,
                    )
                )
            else:
                side.open = False
                side.messages += 1


def _header_size(header: bytearray) -> int:
    """Bytes of the whole frame header, as far as they can be told from its beginning (section 5.2)."""
    if len(header) < 2:
        return 2
    short = header[1] & 0x7F
    return 2 + (2 if short == 126 else 8 if short == 127 else 0) + (4 if header[1] & 0x80 else 0)
