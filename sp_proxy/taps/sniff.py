"""The first tap of a connection which may have to be handed over: looks at its first bytes until it knows.

It holds only what may still become something to hand over, so where only TLS is of interest an HTTP request is let go at
its first byte. A server that speaks first ends the looking.
"""

import re
from typing import Final

from msgspec import Struct

from sp_proxy.core.exchange import ErrorType
from sp_proxy.core.memo import Memo
from sp_proxy.core.rules import Compile, Patterns, standard
from sp_proxy.taps.claims import Claims
from sp_proxy.taps.context import Signal
from sp_proxy.taps.tls_hello import ClientHello, ClientHelloReader

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FIRST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} \S{1,65536} HTTP/1\.[01]\r\n")
_FIRST_LINE_PREFIX: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}(?: \S{0,65536}(?: [HTP/1.]{0,8}\r?)?)?")
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)


class HandOverRules(Struct, frozen=True, array_like=True):
    """Which connections are the mitm worker's. Patterns are searched anywhere, without regard to case."""

    tls_intercept: tuple[str, ...] = ()
    tls_never: tuple[str, ...] = ()
    http: bool = False
    """All HTTP."""
    websocket: bool = False
    """A connection whose first request asks for WebSocket."""
    hosts: tuple[str, ...] = ()
    """A connection whose first request, in HTTP/1, is for one of these hosts."""

    def __bool__(self) -> bool:
        return bool(self.tls_intercept or self.http or self.websocket or self.hosts)


class Interception:
    """Whose TLS is opened: compiled ``tls.intercept`` and ``tls.never``. Raises ValueError for a bad pattern."""

    def __init__(self, intercept: tuple[str, ...], never: tuple[str, ...], engine: Compile = standard) -> None:
        self._intercept = _compile(engine, intercept)
        self._never = _compile(engine, never)
        self._known: Memo[str, bool] = Memo(1024, 256)

    def __bool__(self) -> bool:
        return bool(self._intercept)

    def applies(self, hello: ClientHello, address: str) -> bool:
        """Whether to intercept; without a server name the destination's address stands for it."""
        name = hello.server_name or address
        known = self._known.get(name)
        if known is not None:
            return known
        applies = any(search(name) for search in self._intercept) and not any(search(name) for search in self._never)
        return self._known.keep(name, applies, len(name))


def _compile(engine: Compile, patterns: tuple[str, ...]) -> Patterns:
    try:
        return tuple(engine(f"(?i){pattern}") for pattern in patterns)
    except ValueError as error:
        raise ValueError(f"not a regular expression: {error}") from error


def looks_like_http(data: bytes) -> bool | None:
    """Whether a client that begins with these bytes speaks HTTP/1 or HTTP/2; None: cannot be told yet."""
    if _FIRST_LINE.match(data):
        return True
    if PREFACE.startswith(data[: len(PREFACE)]):
        return True if len(data) >= len(PREFACE) else None
    return None if _FIRST_LINE_PREFIX.fullmatch(data) else False


def asks_for_websocket(fields: bytes) -> bool:
    """Whether a block of fields with a leading CRLF asks for WebSocket."""
    return _UPGRADE.search(fields) is not None


def _is_settings(data: bytes) -> bool:
    """Whether these bytes begin with a SETTINGS frame, as an HTTP/2 server's must (RFC 9113 section 3.4)."""
    return (
        len(data) >= 9 and data[3] == 4 and not data[4] & 1 and not any(data[5:9]) and not int.from_bytes(data[:3]) % 6
    )


class SniffTap:
    """See ``context.Tap``. ``signal`` becomes HAND_OVER or KEEP; then ``take_held`` gives the client's bytes so far."""

    __slots__ = (
        "_address",
        "_buffer",
        "_claims",
        "_hello",
        "_interception",
        "_kept",
        "_max_head_size",
        "_rules",
        "answer",
        "signal",
    )

    def __init__(
        self,
        rules: HandOverRules,
        interception: Interception,
        address: str,
        max_head_size: int,
        claims: Claims | None = None,
    ) -> None:
        self._rules = rules
        self._claims = claims or Claims(())
        self._interception = interception
        self._address = address
        self._max_head_size = max_head_size
        self._buffer = bytearray()
        self._hello: ClientHelloReader | None = None
        self.signal = Signal.NONE
        self.answer = b""
        self._kept = b""

    @property
    def idle(self) -> bool:
        """See ``Tap``."""
        return not self._buffer

    def client(self, data: bytes) -> bytes:
        """See ``Tap``: everything is held while it is not known."""
        self._buffer += data
        self.signal = self._look(data)
        return b""

    def server(self, data: bytes) -> bytes:
        """A server that speaks first, or before the client has said enough: another tap sees its bytes at once.

        But for an HTTP/2 server (gRPC's do not wait for the client's preface), whose client does not wait for it either:
        where HTTP is handed over, its bytes are held until the client speaks, for they belong to a connection which will
        then not be used.
        """
        first = not self._kept
        self._kept += data
        waits = self._rules.http and self.signal is not Signal.KEEP and (not first or _is_settings(data))
        self.signal = Signal.HOLDING if waits else Signal.KEEP
        return b""

    def timeout(self) -> bytes:
        """The relay goes on with what there is."""
        self.signal = Signal.KEEP
        return b""

    def take_held(self) -> bytes:
        """See ``Tap``."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def take_kept(self) -> bytes:
        """See ``Tap``."""
        data, self._kept = self._kept, b""
        return data

    def client_eof(self) -> bytes:
        """See ``Tap``: it will say no more, so nothing can be told of it any more."""
        return self.take_held()

    def server_eof(self) -> bytes:
        """See ``Tap``."""
        return b""

    def bulk(self, *, client: bool) -> int:  # noqa: ARG002
        """None: all of it is looked at."""
        return 0

    def passed(self, size: int, *, client: bool) -> None:
        """Nothing passes unseen."""

    def drain(self, *, patient: bool) -> bytes:  # noqa: ARG002
        """Nothing to say."""
        return b""

    def record_open(self, before_ns: int) -> None:
        """Nothing is open."""

    def close(self, error: ErrorType) -> None:
        """Nothing is open."""

    def _look(self, data: bytes) -> Signal:
        buffer = self._buffer
        if buffer[0] == 0x16:
            return self._look_at_tls(data) if self._interception else Signal.KEEP
        if not self._rules.http and not self._rules.websocket and not self._claims:
            return Signal.KEEP
        start = bytes(buffer[:66000])
        is_http = looks_like_http(start)
        # A tunnel through somebody else's proxy: mitmproxy would not let it pass in transparent mode.
        if is_http is False or start.startswith(b"CONNECT "):
            return Signal.KEEP
        if is_http and self._rules.http:
            return Signal.HAND_OVER
        if is_http and start.startswith(b"PRI "):
            return Signal.KEEP
        end = buffer.find(b"\r\n\r\n", max(0, len(buffer) - len(data) - 3)) if is_http else -1
        if end >= 0:
            if self._rules.websocket and _UPGRADE.search(buffer, 0, end + 4):
                return Signal.HAND_OVER
            return Signal.HAND_OVER if self._claims.covers_fields(bytes(buffer[: end + 4])) else Signal.KEEP
        return Signal.KEEP if len(buffer) > self._max_head_size else Signal.HOLDING

    def _look_at_tls(self, data: bytes) -> Signal:
        reader = self._hello
        if reader is None:
            reader = self._hello = ClientHelloReader()
        reader.feed(data)
        if not reader.done:
            return Signal.HOLDING
        if reader.hello is None or not self._interception.applies(reader.hello, self._address):
            return Signal.KEEP
        return Signal.HAND_OVER
