"""Undo content codings (RFC 9110 section 8.4) of captured bodies: gzip, deflate, br, zstd.

Captured bodies are hostile input and often incomplete, so two rules hold. No decoder ever makes more than the limit,
however small its input (a bomb costs the limit, no more). What can be decoded of a body that breaks off, or goes
wrong on the way, is kept; only when nothing can is the answer None, and the caller sends the coded bytes.
"""

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Final

import brotli
import zstandard

from sp_proxy.core.body import Content

MAX_CODINGS: Final = 4
"""Codings of one body, one inside another. More is an attack (curl, five)."""
MAX_CONTENT_ENCODING: Final = 256
"""A longer ``content-encoding`` is cut, and so unknown."""
MAX_GZIP_MEMBERS: Final = 64
"""A member costs a decoder, and twenty bytes make one."""
MAX_ZSTD_WINDOW: Final = 8 << 20
"""RFC 9659 section 3: no sender of ``zstd`` content may need more."""
_PIECE: Final = 4096
"""Coded bytes a step: when the input goes wrong, what earlier steps made is kept."""
_ZLIB: Final = 15
_RAW: Final = -15
_GZIP: Final = 31


class _BrokenError(Exception):
    """The coded bytes are wrong from here on."""


def _inflate(data: bytes, window_bits: int, limit: int) -> Iterator[bytes]:
    """The formats of zlib. Several gzip members in a row are one content (RFC 1952 section 2.2); padding ends it."""
    room = limit + 1
    at = 0
    for _ in range(MAX_GZIP_MEMBERS):
        decoder = zlib.decompressobj(window_bits)
        while not decoder.eof:
            if room <= 0:
                return
            pending = decoder.unconsumed_tail
            if not pending:
                pending = data[at : at + _PIECE]
                at += len(pending)
            if not pending:
                raise _BrokenError
            try:
                made = decoder.decompress(pending, room)
            except zlib.error as error:
                raise _BrokenError from error
            room -= len(made)
            yield made
        at -= len(decoder.unused_data)
        if window_bits != _GZIP or data[at : at + 2] != b"\x1f\x8b":
            return
    raise _BrokenError


def _gzip(data: bytes, limit: int) -> Iterator[bytes]:
    return _inflate(data, _GZIP, limit)


def _deflate(data: bytes, limit: int) -> Iterator[bytes]:
    """The zlib format, as RFC 9110 section 8.4.1.2 has it, or raw deflate, as some senders have it."""
    is_zlib = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflate(data, _ZLIB if is_zlib else _RAW, limit)


def _brotli(data: bytes, limit: int) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    room = limit + 1
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        while True:
            try:
                made = decoder.process(piece, output_buffer_limit=room)
            except brotli.error as error:
                raise _BrokenError from error
            room -= len(made)
            yield made
            if decoder.is_finished() or room <= 0:
                return
            if decoder.can_accept_more_data():
                break
            piece = b""
    raise _BrokenError


def _zstd(data: bytes, limit: int) -> Iterator[bytes]:
    """Read through the streaming reader, the only one here that takes a limit; it cannot tell a stream that broke off."""
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    room = limit + 1
    with decoder.stream_reader(BytesIO(data), read_size=_PIECE, read_across_frames=True) as reader:
        while room > 0:
            try:
                made = reader.read(min(room, 4 * _PIECE))
            except zstandard.ZstdError as error:
                raise _BrokenError from error
            if not made:
                return
            room -= len(made)
            yield made


_DECODERS: Final[dict[bytes, Callable[[bytes, int], Iterator[bytes]]]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _deflate,
    b"br": _brotli,
    b"zstd": _zstd,
}


def decode_body(body: bytes, content_encoding: bytes, limit: int) -> Content | None:
    """The content of a coded body, at most ``limit`` bytes of it.

    None when a coding is unknown or nothing could be decoded.
    """
    named = [coding.strip() for coding in content_encoding[:MAX_CONTENT_ENCODING].lower().split(b",")]
    codings = [coding for coding in named if coding not in {b"", b"identity"}]
    if len(codings) > MAX_CODINGS:
        return None
    complete = True
    for coding in reversed(codings):
        decoder = _DECODERS.get(coding)
        if decoder is None:
            return None
        made: list[bytes] = []
        try:
            for piece in decoder(body, limit):
                made.append(piece)  # noqa: PERF402 (extend would not promise to keep what came before an error)
        except _BrokenError:
            complete = False
        decoded = b"".join(made)
        if body and not decoded and not complete:
            return None
        if len(decoded) > limit:
            decoded = decoded[:limit]
            complete = False
        body = decoded
    return Content(data=body, complete=complete)
