"""HTTP/2 on the wire (RFC 9113): frames by hand, an end that waits for frames, and what of a conversation must stay the same.

Frames that a proxy has no business with are compared byte for byte; a header block by what it means, in which order, and which
of its fields are never to be indexed (RFC 7541, section 7.1.3). What cannot be read is compared byte for byte again.
"""

import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 16
"""RFC 9218, section 7.1."""
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
PRIORITIZED = 32
TIMEOUT = 20.0
OURS = frozenset(
    (b"x-sp-service-name", b"x-service-name", b"x-current-service", b"tracestate", b"x-sp-num", b"traceparent")
)
SERVICE = (b"x-sp-service-name", b"shop")
_LINES = re.compile(rb"(?m)^(?:%b): .*\r\n" % b"|".join(sorted(OURS)))
Field = tuple[str | bytes, str | bytes]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """One frame; ``length`` to lie about it."""
    size = len(payload) if length is None else length
    return size.to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame of identifiers and values."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


SETTINGS_ACK = frame(SETTINGS, ACK)
HELLO = PREFACE + settings()
"""How a client begins."""


def block_frames(
    stream: int, block: bytes, *, sizes: Iterable[int] = (), flags: int = END_STREAM, before: bytes = b""
) -> bytes:
    """A header block as HEADERS and CONTINUATION. ``sizes``: bytes of the block in each but the last frame; ``before``: what
    stands before it in the first one.
    """
    pieces, at = [], 0
    for size in sizes:
        pieces.append(block[at : at + size])
        at += size
    pieces.append(block[at:])
    pieces[0] = before + pieces[0]
    kinds = [(HEADERS, flags), *([(CONTINUATION, 0)] * (len(pieces) - 1))]
    kinds[-1] = (kinds[-1][0], kinds[-1][1] | END_HEADERS)
    return b"".join(frame(kind, flag, stream, piece) for (kind, flag), piece in zip(kinds, pieces, strict=True))


def request_fields(path: str, *more: Field, method: str = "GET") -> list[Field]:
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "orders:80"), *more]


class Sender:
    """One direction's encoder: makes header blocks that follow each other."""

    def __init__(self, *, huffman: bool = True) -> None:
        self.encoder = hpack.Encoder()
        self._huffman = huffman

    def block(self, fields: Iterable[Field]) -> bytes:
        return bytes(self.encoder.encode(list(fields), huffman=self._huffman))

    def request(self, stream: int, path: str, *more: Field, method: str = "GET", flags: int = END_STREAM) -> bytes:
        return block_frames(stream, self.block(request_fields(path, *more, method=method)), flags=flags)

    def answer(self, stream: int, *more: Field, status: int = 200, flags: int = END_STREAM) -> bytes:
        return block_frames(stream, self.block([(":status", str(status)), *more]), flags=flags)

    def trailers(self, stream: int, *fields: Field) -> bytes:
        return block_frames(stream, self.block(fields))


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class Peer:
    """One end of a connection, what it has received, and how that ended (``eof``, ``reset``, ``timeout`` or not)."""

    sock: socket.socket
    is_server: bool
    received: bytearray = field(default_factory=bytearray)
    ended: str = ""
    frames: list[Frame] = field(default_factory=list)
    kinds: Counter[int] = field(default_factory=Counter)
    """How many frames of each have come."""
    streams_ended: int = 0
    """By the other end, with END_STREAM or a reset."""
    _at: int = 0
    _block_ends: bool = False

    def send(self, data: bytes) -> None:
        with suppress(OSError):  # a broken connection is seen by who reads
            self.sock.sendall(data)

    def take(self, enough: Callable[[], bool]) -> None:
        while not self.ended and not enough():
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionResetError:
                self.ended = "reset"
            except TimeoutError:
                self.ended = "timeout"
            else:
                self.received += data
                self._parse()
                if not data:
                    self.ended = "eof"

    def _parse(self) -> None:
        if self.is_server and not self._at:
            if len(self.received) < len(PREFACE):
                return
            self._at = len(PREFACE)
        while len(self.received) >= self._at + 9:
            head = self.received[self._at : self._at + 9]
            end = self._at + 9 + int.from_bytes(head[:3])
            if len(self.received) < end:
                return
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
            self.frames.append(Frame(kind, flags, stream, bytes(self.received[self._at + 9 : end])))
            self.kinds[kind] += 1
            if kind == HEADERS:
                self._block_ends = bool(flags & END_STREAM)
            ends_block = kind in {HEADERS, CONTINUATION} and flags & END_HEADERS and self._block_ends
            self.streams_ended += bool(ends_block or kind == RST_STREAM or (kind == DATA and flags & END_STREAM))
            self._at = end


Step = Callable[[Peer], None]


def send(*pieces: bytes) -> Step:
    data = b"".join(pieces)
    return lambda peer: peer.send(data)


def slowly(data: bytes, size: int = 1, seconds: float = 0.0005) -> Step:
    """A few bytes at a time, each in a segment of its own as far as the kernel sees to that."""

    def step(peer: Peer) -> None:
        for at in range(0, len(data), size):
            peer.send(data[at : at + size])
            time.sleep(seconds)

    return step


def pause(seconds: float) -> Step:
    return lambda _: time.sleep(seconds)


def until(condition: Callable[[list[Frame]], bool]) -> Step:
    """Until the frames so far are as wanted."""
    return lambda peer: peer.take(lambda: condition(peer.frames))


def until_ended(count: int = 1) -> Step:
    """Until so many streams have been ended by the other end."""
    return lambda peer: peer.take(lambda: peer.streams_ended >= count)


def until_kind(kind: int, count: int = 1) -> Step:
    return lambda peer: peer.take(lambda: peer.kinds[kind] >= count)


def until_bytes(count: int) -> Step:
    return lambda peer: peer.take(lambda: len(peer.received) >= count)


def rest(peer: Peer) -> None:
    """Everything up to the end."""
    peer.take(lambda: False)


def half_close(peer: Peer) -> None:
    with suppress(OSError):
        peer.sock.shutdown(socket.SHUT_WR)


def close(peer: Peer) -> None:
    peer.sock.close()


def reset(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


# ---- what stays the same


@dataclass(frozen=True)
class Block:
    """A header block: fields with whether they are never to be indexed, without those that the daemon adds or replaces."""

    kind: int
    stream: int
    ends: bool
    before: bytes
    fields: tuple[tuple[bytes, bytes, bool], ...]
    injected: bool


def transcript(data: bytes, *, to_server: bool) -> list[Block | bytes]:
    """What one end received, frame by frame; from where it cannot be read on, in one piece."""
    seen: list[Block | bytes] = []
    at = 0
    if to_server:
        if not data.startswith(PREFACE):
            return [_LINES.sub(b"", data)]
        seen.append(PREFACE)
        at = len(PREFACE)
    decoder = hpack.Decoder(max_header_list_size=1 << 28)
    decoder.max_allowed_table_size = 1 << 32
    while len(data) >= at + 9:
        kind = data[at + 3]
        end = at + 9 + int.from_bytes(data[at : at + 3])
        if kind == CONTINUATION or end > len(data):
            break
        if kind in {HEADERS, PUSH_PROMISE}:
            gathered = _block(data, at, decoder)
            if gathered is None:
                break
            block, end = gathered
            seen.append(block)
        else:
            seen.append(data[at:end])
        at = end
    return [*seen, data[at:]] if at < len(data) else seen


def _block(data: bytes, at: int, decoder: hpack.Decoder) -> tuple[Block, int] | None:
    kind, first_flags = data[at + 3], data[at + 4]
    stream = int.from_bytes(data[at + 5 : at + 9])
    end = at + 9 + int.from_bytes(data[at : at + 3])
    payload = data[at + 9 : end]
    if first_flags & PADDED:
        if not payload or payload[0] >= len(payload):
            return None
        payload = payload[1 : len(payload) - payload[0]]
    skipped = 4 if kind == PUSH_PROMISE else 5 if first_flags & PRIORITIZED else 0
    before, block, flags = payload[:skipped], payload[skipped:], first_flags
    while not flags & END_HEADERS:
        at = end
        end = at + 9 + int.from_bytes(data[at : at + 3])
        if (
            len(data) < max(at + 9, end)
            or data[at + 3] != CONTINUATION
            or int.from_bytes(data[at + 5 : at + 9]) != stream
        ):
            return None
        flags = data[at + 4]
        block += data[at + 9 : end]
    try:
        decoded = decoder.decode(block, raw=True)
    except hpack.HPACKError:
        return None
    never = [isinstance(each, hpack.NeverIndexedHeaderTuple) for each in decoded]
    fields = [(bytes(name), bytes(value)) for name, value in decoded]
    kept = tuple((*each, mark) for each, mark in zip(fields, never, strict=True) if each[0] not in OURS)
    ends = kind == HEADERS and bool(first_flags & END_STREAM)
    return Block(kind, stream, ends, before, kept, fields.count(SERVICE) == 1), end


def injected(seen: Sequence[Block | bytes]) -> int:
    """How many header blocks carry the service's name."""
    return sum(isinstance(each, Block) and each.injected for each in seen)


def same_or_cut_short(relayed: Sequence[Block | bytes], direct: Sequence[Block | bytes]) -> bool:
    """What came through is the beginning of what came directly."""
    plain = [_without_mark(each) for each in relayed]
    whole = [_without_mark(each) for each in direct]
    if plain == whole[: len(plain)]:
        return True
    *before, last = plain
    expected = whole[len(before)] if len(before) < len(whole) else b""
    return (
        before == whole[: len(before)]
        and isinstance(last, bytes)
        and isinstance(expected, bytes)
        and expected.startswith(last)
    )


def same(relayed: Sequence[Block | bytes], direct: Sequence[Block | bytes]) -> bool:
    return [_without_mark(each) for each in relayed] == [_without_mark(each) for each in direct]


def _without_mark(each: Block | bytes) -> object:
    return (each.kind, each.stream, each.ends, each.before, each.fields) if isinstance(each, Block) else each
