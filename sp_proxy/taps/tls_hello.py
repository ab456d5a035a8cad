"""Reads server name and ALPN of a TLS ClientHello which may arrive in pieces (RFC 8446 section 4.1.2, RFC 6066 section 3).

Nothing is decrypted and nothing is checked beyond what is needed to find the two: a hello that the peers understand and
this reader does not is the peers' own business.
"""

from typing import Final

from msgspec import Struct

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_RECORD_HEADER: Final = 5
_MAX_RECORD_BYTES: Final = 16384 + 256
MAX_HELLO_BYTES: Final = 32768
"""With post-quantum key shares a hello has 2 KiB, with session tickets some more."""


class ClientHello(Struct, frozen=True):
    """What a client says before anything is encrypted."""

    server_name: str = ""
    """Lower case; empty when none was sent."""
    alpn: tuple[str, ...] = ()
    """Protocols that the client offers, in its order."""


class ClientHelloReader:
    """``feed`` it until ``done``; ``hello`` is then what was read, or None if this is no ClientHello."""

    __slots__ = ("_buffer", "_needed", "done", "hello")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 1
        self.done = False
        self.hello: ClientHello | None = None

    def feed(self, data: bytes) -> None:
        """More bytes of the client. Whatever comes after the end is ignored."""
        if self.done:
            return
        self._buffer += data
        if len(self._buffer) < self._needed:
            return
        try:
            message = self._message()
        except (ValueError, IndexError):
            self._finish(None)
            return
        if message is not None:
            try:
                hello = _parse(message)
            except (ValueError, IndexError):
                hello = None
            self._finish(hello)

    def _finish(self, hello: ClientHello | None) -> None:
        self.done = True
        self.hello = hello
        self._buffer.clear()

    def _message(self) -> bytes | None:
        """The handshake message, out of its records; None while it is not complete. Raises ValueError."""
        buffer = self._buffer
        message = bytearray()
        at = 0
        while True:
            if not _PREFIX.startswith(buffer[at : at + 2]):
                raise ValueError("not a handshake record")
            if len(buffer) < at + _RECORD_HEADER:
                self._needed = at + _RECORD_HEADER
                return None
            length = int.from_bytes(buffer[at + 3 : at + 5])
            if not 0 < length <= _MAX_RECORD_BYTES:
                raise ValueError("a record of that length")
            at += _RECORD_HEADER
            message += buffer[at : at + length]
            if message and message[0] != _CLIENT_HELLO:
                raise ValueError("not a ClientHello")
            if len(message) >= 4:
                end = 4 + int.from_bytes(message[1:4])
                if end > MAX_HELLO_BYTES:
                    raise ValueError("too long")
                if len(message) >= end:
                    return bytes(message[4:end])
            at += length
            if len(buffer) < at:
                self._needed = at
                return None


_PREFIX: Final = bytes((_HANDSHAKE, 3))


class _Cursor:
    """Reads vectors with a length before them (RFC 8446 section 3.4). Raises ValueError beyond the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int) -> int:
        end = self._at + size
        if end > len(self._data):
            raise ValueError("truncated")
        value = int.from_bytes(self._data[self._at : end])
        self._at = end
        return value

    def vector(self, size: int) -> bytes:
        length = self.number(size)
        end = self._at + length
        if end > len(self._data):
            raise ValueError("truncated")
        value = self._data[self._at : end]
        self._at = end
        return value


def _parse(message: bytes) -> ClientHello:
    cursor = _Cursor(message, 2 + 32)  # legacy_version, random
    cursor.vector(1)  # legacy_session_id
    cursor.vector(2)  # cipher_suites
    cursor.vector(1)  # legacy_compression_methods
    if not cursor:
        return ClientHello()
    server_name = ""
    alpn: tuple[str, ...] = ()
    extensions = _Cursor(cursor.vector(2))
    while extensions:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == _SERVER_NAME:
            server_name = _server_name(content)
        elif kind == _ALPN:
            alpn = _alpn(content)
    return ClientHello(server_name, alpn)


def _server_name(content: bytes) -> str:
    names = _Cursor(_Cursor(content).vector(2))
    while names:
        kind = names.number(1)
        name = names.vector(2)
        if kind == 0:  # host_name
            text = name.decode("ascii").lower().rstrip(".")
            if not text.isprintable() or " " in text:
                raise ValueError("not a host name")
            return text
    return ""


def _alpn(content: bytes) -> tuple[str, ...]:
    protocols = _Cursor(_Cursor(content).vector(2))
    found = []
    while protocols:
        found.append(protocols.vector(1).decode("latin-1"))
    return tuple(found)
