"""The first tap of a connection to the explicit proxy: reads where its client wants to go (RFC 9112 sections 3.2.2 and 3.2.3).

A request in absolute form or a CONNECT names an origin, to which the relay then connects; what else is said there is answered with
an error. Nothing passes before that: a proxy has nobody to pass it to.
"""

import re
from collections import defaultdict
from typing import Final

from msgspec import Struct

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps import http1_framing as framing
from sp_proxy.taps.claims import Claims
from sp_proxy.taps.context import Signal
from sp_proxy.taps.sniff import HandOverRules, asks_for_websocket

ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
BAD_REQUEST: Final = _ANSWER % b"400 Bad Request"
UNREACHABLE: Final = _ANSWER % b"502 Bad Gateway"
NOT_IMPLEMENTED: Final = _ANSWER % b"501 Not Implemented"

_HOST_AND_PORT: Final = re.compile(
    rb"(\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f-\xff:/?#\[\]@\\]+)(?::([0-9]{1,5})?)?"
).fullmatch
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://(?:[^/?#]*@)?([^/?#]*)([^#]*)").match
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*+").match
_BEGINNING: Final = framing.REQUEST_LINE_PREFIX


class Origin(Struct, frozen=True):
    """Where a request goes."""

    host: str
    """A name or an address, without brackets."""
    port: int


class Absolute(Struct, frozen=True):
    """A target in absolute form, taken apart."""

    scheme: bytes
    """In lower case."""
    authority: bytes
    """As it belongs into ``Host``: without user information."""
    origin: Origin
    path: bytes
    """With its query, as it belongs into a request to the origin; empty if the target has none."""


def parse_authority(authority: bytes, default_port: int) -> Origin | None:
    """``host:port``; None for what is none, or has no port where none is assumed (0)."""
    match = _HOST_AND_PORT(authority)
    if match is None:
        return None
    port = int(match[2] or default_port)
    return Origin(match[1].strip(b"[]").decode("ascii").lower(), port) if 0 < port < 65536 else None


def parse_absolute(target: bytes) -> Absolute | None:
    """A request target in absolute form; None if it is in another, or names no origin."""
    match = _ABSOLUTE(target)
    if match is None:
        return None
    scheme, authority, path = match[1].lower(), match[2], match[3]
    origin = parse_authority(authority, 443 if scheme in {b"https", b"wss"} else 80)
    if origin is None:
        return None
    return Absolute(scheme, authority, origin, b"/" + path if path[:1] == b"?" else path)


class ProxyFront:
    """See ``context.Tap``. ``signal`` becomes NAMED, HAND_OVER, or ANSWER; then ``take_held`` gives what is to be served.

    After NAMED it passes on what comes: the bytes wait until the origin is connected.
    """

    __slots__ = (
        "_buffer",
        "_claims",
        "_counters",
        "_engine",
        "_max_head_size",
        "_rules",
        "answer",
        "named",
        "signal",
        "tunnel",
    )

    def __init__(
        self,
        rules: HandOverRules,
        counters: defaultdict[str, int],
        max_head_size: int,
        *,
        engine: bool,
        claims: Claims | None = None,
    ) -> None:
        """``engine``: a mitm worker may be handed what needs one."""
        self._rules = rules
        self._claims = claims or Claims(())
        self._counters = counters
        self._max_head_size = max_head_size
        self._engine = engine
        self._buffer = bytearray()
        self.signal = Signal.NONE
        self.answer = b""
        self.named: Origin | None = None
        """Where its client wants to go."""
        self.tunnel = False
        """By CONNECT: the client waits for an answer, and then speaks to the origin."""

    @property
    def idle(self) -> bool:
        """See ``Tap``."""
        return not self._buffer and self.named is None

    @property
    def destination(self) -> tuple[str, int]:
        """The same as an address, once it is known."""
        named = self.named
        return (named.host, named.port) if named is not None else ("", 0)

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        if self.named is not None:
            return data
        buffer = self._buffer
        searched = max(0, len(buffer) - 3)
        buffer += data
        if buffer[:1] == b"\r" and (empty := _EMPTY_LINES(buffer)):
            del buffer[: empty.end()]
            searched = 0
        end = buffer.find(b"\r\n\r\n", searched) + 4
        if end > 3:
            self._read(bytes(buffer[:end]))
        elif len(buffer) > self._max_head_size:
            self._refuse("head_too_long", BAD_REQUEST)
        elif b"\n" not in buffer and buffer not in b"\r" and not _BEGINNING(buffer):
            self._refuse("not_http", BAD_REQUEST)
        return b""

    def _read(self, head: bytes) -> None:
        match = framing.REQUEST_HEAD(head)
        if match is None or len(head) > self._max_head_size:
            self._refuse("malformed_head" if match is None else "head_too_long", BAD_REQUEST)
            return
        method, target, _, fields = match.groups()
        if method == b"CONNECT":
            self._connect(target, fields)
            return
        asked = parse_absolute(target)
        if asked is None:
            self._refuse("invalid_target", BAD_REQUEST)
        elif self._engine and (
            self._rules.http
            or (self._rules.websocket and asks_for_websocket(fields))
            or self._claims.covers(asked.origin.host)
        ):
            self.signal = Signal.HAND_OVER
        elif asked.scheme in {b"http", b"ws"}:
            self.named = asked.origin
            self.signal = Signal.NAMED
        elif self._engine and asked.scheme == b"https":
            self.signal = Signal.HAND_OVER
        else:
            self._refuse("scheme", NOT_IMPLEMENTED)

    def _connect(self, target: bytes, fields: bytes) -> None:
        origin = parse_authority(target, 0)
        if origin is None:
            self._refuse("invalid_target", BAD_REQUEST)
        elif framing.body_length(fields.lower(), http10=False) not in {0, framing.ABSENT}:
            self._refuse("ambiguous_framing", BAD_REQUEST)  # RFC 9110 section 9.3.6
        else:
            del self._buffer[: self._buffer.find(b"\r\n\r\n") + 4]
            self.named = origin
            self.tunnel = True
            self.signal = Signal.NAMED

    def _refuse(self, reason: str, answer: bytes) -> None:
        self._counters["rejected:" + reason] += 1
        self._buffer.clear()
        self.answer = answer
        self.signal = Signal.ANSWER

    def take_held(self) -> bytes:
        """See ``Tap``."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def client_eof(self) -> bytes:
        """See ``Tap``: who has not said where to go by now never will."""
        if self.named is None and self.signal is Signal.NONE:
            self._buffer.clear()
            self.signal = Signal.ANSWER
        return b""

    def server(self, data: bytes) -> bytes:
        """See ``Tap``: there is no server yet."""
        return data

    def bulk(self, *, client: bool) -> int:  # noqa: ARG002
        """None: all of it is looked at."""
        return 0

    def passed(self, size: int, *, client: bool) -> None:
        """Nothing passes unseen."""

    def timeout(self) -> bytes:
        """Nothing is held that could pass."""
        return b""

    def take_kept(self) -> bytes:
        """Nothing is kept."""
        return b""

    def server_eof(self) -> bytes:
        """Nothing is kept."""
        return b""

    def drain(self, *, patient: bool) -> bytes:  # noqa: ARG002
        """There is nothing to say yet."""
        return b""

    def record_open(self, before_ns: int) -> None:
        """Nothing is open."""

    def close(self, error: ErrorType) -> None:
        """Nothing is open."""
