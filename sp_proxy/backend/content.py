"""Content codings of request bodies (RFC 9110 section 8.4.1), with a limit on what comes out.

A decompressor is fed as the body arrives and never holds more than the limit: a bomb costs no more than an honest body
of the largest size. Decoding is done in the caller's thread.
"""

import zlib
from typing import IO, Protocol, cast

import zstandard

_STEP = 1 << 18
"""Bytes asked of a decompressor at a time."""


class TooLargeError(ValueError):
    """More came out than the limit allows."""


class CorruptError(ValueError):
    """The bytes are not of the coding that was named."""


class Decoder(Protocol):
    """An incremental decompressor."""

    def feed(self, data: bytes) -> bytes:
        """What these bytes decode to, no more than the remaining limit. Raises TooLargeError, CorruptError."""

    def finish(self) -> None:
        """The body has ended. Raises CorruptError when the coding has not."""


class Identity:
    """No coding."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def feed(self, data: bytes) -> bytes:
        """The bytes themselves."""
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError
        return data

    def finish(self) -> None:
        """Any body will do."""


class Zlib:
    """gzip (RFC 1952, several members too), and deflate, which is the zlib format (RFC 1950)."""

    def __init__(self, limit: int, window_bits: int) -> None:
        self._left = limit
        self._window_bits = window_bits
        self._stream = zlib.decompressobj(window_bits)
        self._fed = False

    def feed(self, data: bytes) -> bytes:
        """Decode, starting a new member where one ended."""
        out = bytearray()
        while data:
            if self._stream.eof:
                self._stream = zlib.decompressobj(self._window_bits)
            self._fed = True
            try:
                piece = self._stream.decompress(data, min(_STEP, self._left + 1))
            except zlib.error as error:
                raise CorruptError(str(error)) from error
            self._left -= len(piece)
            if self._left < 0:
                raise TooLargeError
            out += piece
            data = self._stream.unconsumed_tail or self._stream.unused_data
        return bytes(out)

    def finish(self) -> None:
        """A stream must have ended, and there must have been one."""
        if self._fed and not self._stream.eof:
            raise CorruptError("the compressed data ends early")


class Zstandard:
    """zstd (RFC 8878). The window, which is memory too, has the limit of RFC 9659: 8 MiB."""

    def __init__(self, limit: int) -> None:
        self._output = _Bounded(limit)
        self._writer = zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_writer(
            cast("IO[bytes]", self._output), closefd=False, write_return_read=True
        )

    def feed(self, data: bytes) -> bytes:
        """Decode; the writer hands out pieces of 128 KiB, so the limit is met within one of them."""
        try:
            self._writer.write(data)
        except zstandard.ZstdError as error:
            raise CorruptError(str(error)) from error
        return self._output.take()

    def finish(self) -> None:
        """The library does not tell whether a frame is whole; a cut one shows as an unreadable message."""


class _Bounded:
    def __init__(self, limit: int) -> None:
        self._left = limit
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError
        self._buffer += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken


CODINGS = ("gzip", "deflate", "zstd")


def decoder_for(content_encoding: str, limit: int) -> Decoder | None:
    """The decoder for a ``content-encoding``; None for a coding that is not known (or for several on top of another)."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return Identity(limit)
        case "gzip" | "x-gzip":
            return Zlib(limit, 16 + zlib.MAX_WBITS)
        case "deflate":
            return Zlib(limit, zlib.MAX_WBITS)
        case "zstd":
            return Zstandard(limit)
        case _:
            return None
