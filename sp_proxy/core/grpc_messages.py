"""Counts the messages of a gRPC call while they pass (gRPC over HTTP/2, *Length-Prefixed-Message*).

Each message has five bytes before it: flags, and its length. Nothing of it is kept, so a message of any size costs the
same, and bytes that are no messages cost a wrong count and nothing else.
"""

from typing import Final

from sp_proxy.core.exchange import MessageCounts

_PREFIX: Final = 5
_TRAILERS: Final = 0x80
"""A flag of gRPC-Web: this is no message, but the trailers (gRPC-Web, *Protocol differences*)."""
_TEXT: Final = b"application/grpc-web-text"
_CONTENT_TYPE: Final = b"\r\ncontent-type: application/grpc"


def is_call(lower: bytes) -> bool:
    """Whether a request has countable messages, by its lower-cased fields with a leading CRLF, as an HTTP/2 tap has them.

    gRPC-Web's text form is base64, and not counted.
    """
    at = lower.find(_CONTENT_TYPE)
    return at >= 0 and not lower.startswith(_TEXT, at + len(_CONTENT_TYPE) - len(b"application/grpc"))


class MessageCounter:
    """One direction of a call."""

    __slots__ = ("_left", "_prefix", "messages")

    def __init__(self) -> None:
        self.messages = 0
        """Those of which the first byte has passed."""
        self._left = 0  # bytes of the message that passes
        self._prefix = b""  # of the next one, as far as it is there

    def feed(self, data: bytes, at: int, end: int) -> None:
        """Content ``data[at:end]`` passed by."""
        if self._prefix:
            at = self._continue_prefix(data, at, end)
        elif self._left:
            if self._left >= end - at:
                self._left -= end - at
                return
            at += self._left
            self._left = 0
        while at < end:
            if end - at < _PREFIX:
                self._begin(data[at])
                self._prefix = data[at:end]
                return
            self._begin(data[at])
            at += _PREFIX + int.from_bytes(data[at + 1 : at + _PREFIX])
        self._left = at - end if at > end else 0

    def _continue_prefix(self, data: bytes, at: int, end: int) -> int:
        """Read on in a prefix of which a part has come; where the next message begins, which may be behind ``end``."""
        missing = _PREFIX - len(self._prefix)
        self._prefix += data[at : min(end, at + missing)]
        if len(self._prefix) < _PREFIX:
            return end
        size = int.from_bytes(self._prefix[1:])
        self._prefix = b""
        return at + missing + size

    def _begin(self, flags: int) -> None:
        self.messages += not flags & _TRAILERS


def count(body: bytes) -> int:
    """Messages of a whole body."""
    counter = MessageCounter()
    counter.feed(body, 0, len(body))
    return counter.messages


class CallMessages:
    """Both directions of a call."""

    __slots__ = ("request", "response")

    def __init__(self) -> None:
        self.request = MessageCounter()
        self.response = MessageCounter()

    @property
    def counts(self) -> MessageCounts:
        """As they are now."""
        return MessageCounts(self.request.messages, self.response.messages)
