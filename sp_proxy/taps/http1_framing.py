r"""How HTTP/1.x messages are delimited (RFC 9112 sections 2 to 7), as regular expressions and small functions.

Two readings exist. The *relay's* reading accepts what every sane implementation reads in one way, and calls the rest
ambiguous: the connection then goes raw. The *strict* one, for ``strict: reject``, refuses all that RFC 9112 lets or makes
a recipient refuse. Strict is a subset: what it accepts, the relay's reading accepts.
"""

import re
from collections.abc import Callable
from typing import Final

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

REQUEST_HEAD = re.compile(
    rb"(" + _TOKEN + rb"{1,64}) ([^\x00-\x20\x7f]++) HTTP/1\.([01])(\r\n(?:" + _TOKEN + rb"++:[^\r\n\x00]*+\r\n)*+)\r\n"
).match
"""Method, target, minor version, field block with a leading CRLF. No bare CR or LF, no NUL, no line folding, no blank before a colon."""

RESPONSE_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [^\r\n\x00]*+)?(\r\n(?:" + _TOKEN + rb"++:[^\r\n\x00]*+\r\n)*+)\r\n"
).match
"""Minor version, status, field block with a leading CRLF. The reason phrase may be absent with or without its space (section 4)."""

_STRICT_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_STRICT_REQUEST = re.compile(
    rb"(?:" + _TOKEN + rb"++) [\x21-\x7e]++ HTTP/1\.[01]\r\n(?:" + _TOKEN + rb"++:" + _STRICT_VALUE + rb"\r\n)*+\r\n"
).fullmatch
_STRICT_RESPONSE = re.compile(
    rb"HTTP/1\.[01] [1-5][0-9][0-9] " + _STRICT_VALUE + rb"\r\n(?:" + _TOKEN + rb"++:" + _STRICT_VALUE + rb"\r\n)*+\r\n"
).fullmatch
_TARGET_FORMS = {b"CONNECT": re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[^:/?#\[\]@]+):[0-9]{1,5}").fullmatch}
_TARGET_FORM = re.compile(rb"/.*|[A-Za-z][A-Za-z0-9+.\-]*:.+", re.DOTALL).fullmatch
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.%\-~_A-Za-z]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(?::[0-9]*)?").fullmatch

FIELD_LINE = re.compile(_TOKEN + rb"++:[^\r\n\x00]*+\r\n").fullmatch
"""A line of a trailer section (section 7.1.2)."""

REQUEST_LINE_PREFIX = re.compile(
    rb""
    + _TOKEN
    + rb"{1,64}(?: (?:[^\x00-\x20\x7f]++(?: (?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01]\r?)?)?)?)?)?)?)?)?)?)?)?\Z"
).match
"""What may still become a request line."""
REQUEST_LINE = re.compile(_TOKEN + rb"{1,64} [^\x00-\x20\x7f]++ HTTP/1\.[01]\r\n").match
RESPONSE_LINE_PREFIX = re.compile(rb"H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01](?: [^\n]*)?)?)?)?)?)?)?)?\Z").match
EMPTY_LINES = re.compile(rb"(?:\r\n)*+").match
RESPONSE_LINE = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9](?: [^\r\n\x00]*+)?\r\n").match

CHUNKED: Final = -1
ABSENT: Final = -2
AMBIGUOUS: Final = -3
MAX_LENGTH_DIGITS = 18
"""A Content-Length with more digits might not fit into 63 bits somewhere, so two readers might disagree."""
MAX_CHUNK_LINE = 16384
"""Bytes of a chunk-size line with its extensions (section 7.1.1 demands a limit; llhttp's default head limit)."""
_LENGTHS = re.compile(rb"\n(content-length|transfer-encoding):([^\r]*+)").findall
"""One pass in C for both (450 ns for eight fields; a ``find`` for each, and for a second of each, 1.3 µs)."""
_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"))


def body_length(lower: bytes, http10: bool) -> int:
    r"""Length that the fields announce: 0 or more, CHUNKED, ABSENT, or AMBIGUOUS (RFC 9112 section 6.3).

    ``lower`` is the lower-cased field block with a leading CRLF. Ambiguous: both framings, a repeated one (even with equal
    values: section 6.3 lets a recipient accept or refuse that), a transfer coding whose last is not ``chunked`` or that is
    not registered, any transfer coding in HTTP/1.0 (section 6.1), a length that is not plain digits.
    """
    lengths = _LENGTHS(lower)
    if not lengths:
        return ABSENT
    if len(lengths) > 1:
        return AMBIGUOUS
    name, text = lengths[0]
    if name == b"content-length":
        text = text.strip(b" \t")
        return int(text) if text.isdigit() and len(text) <= MAX_LENGTH_DIGITS else AMBIGUOUS
    if http10:
        return AMBIGUOUS
    codings = [coding.strip(b" \t") for coding in text.split(b",")]
    return CHUNKED if codings.pop() == b"chunked" and _CODINGS.issuperset(codings) else AMBIGUOUS


def strict_request_fault(
    method: bytes, target: bytes, head: bytes, has_host: bool, authority: bytes, http10: bool
) -> str:
    """Why a strict reader refuses this request head which REQUEST_HEAD accepts, or an empty string.

    Of the target, its form is looked at (RFC 9112 section 3.2) and not the grammar of URIs: no reader finds another end
    of it, and half of the world sends ``[]`` and ``|`` in queries.
    """
    if not _STRICT_REQUEST(head):
        return "control_character"
    if not _TARGET_FORMS.get(method, _TARGET_FORM)(target) and (method, target) != (b"OPTIONS", b"*"):
        return "invalid_target"
    if not has_host:
        return "" if http10 else "missing_host"  # RFC 9112 section 3.2
    return "" if _HOST(authority) else "invalid_host"


def strict_response_fault(head: bytes) -> str:
    """Why a strict reader refuses this response head which RESPONSE_HEAD accepts, or an empty string."""
    return "" if _STRICT_RESPONSE(head) else "malformed_response_head"


class ChunkError(Exception):
    """The chunked coding is broken at ``position`` of the bytes fed; what stands before it is sound."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;[^\r\n\x00]*+)?").fullmatch
_QUOTED = rb"\"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+\""
_STRICT_CHUNK_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[ \t]*+"
    + _TOKEN
    + rb"++(?:[ \t]*+=[ \t]*+(?:"
    + _TOKEN
    + rb"++|"
    + _QUOTED
    + rb"))?)*+"
).fullmatch
_STRICT_FIELD = re.compile(_TOKEN + rb"++:" + _STRICT_VALUE + rb"\r\n").fullmatch
_SIZE_LINE, _DATA, _DATA_END, _TRAILERS = range(4)


class ChunkReader:
    """Incremental reader of the chunked coding (section 7.1). It only finds the end and tees the payload.

    Strictly read, chunk extensions and trailer fields must follow their grammar (sections 7.1.1 and 7.1.2); otherwise
    they may be anything that does not look like the end of a line to somebody.
    """

    __slots__ = ("_field", "_left", "_line", "_sink", "_size_line", "_state", "_trailer_limit", "_trailers")

    def __init__(self, sink: Callable[[bytes, int, int], None], trailer_limit: int, strict: bool = False) -> None:
        self._sink = sink
        self._size_line = _STRICT_CHUNK_SIZE if strict else _CHUNK_SIZE
        self._field = _STRICT_FIELD if strict else FIELD_LINE
        self._state = _SIZE_LINE
        self._left = 0
        self._line = bytearray()
        self._trailer_limit = trailer_limit
        self._trailers = bytearray()

    @property
    def trailers(self) -> bytes:
        """The trailer section, once the end was found."""
        return bytes(self._trailers)

    @property
    def held(self) -> int:
        """Bytes in its buffers."""
        return len(self._line) + len(self._trailers)

    def feed(self, data: bytes, at: int) -> int:
        """Read from ``at``; the position behind the coding's end, or -1 if it has not ended. Raises ChunkError.

        ``sink(data, start, end)`` is called for each piece of payload.
        """
        size = len(data)
        while at < size:
            state = self._state
            if state == _DATA:
                end = at + self._left
                if end > size:
                    self._sink(data, at, size)
                    self._left = end - size
                    return -1
                self._sink(data, at, end)
                at = end
                self._state = _DATA_END
                continue
            newline = data.find(b"\n", at)
            line = self._line
            if newline < 0:
                self._check_partial(data, at, size)
                line += data[at:size]
                return -1
            if line:
                line += data[at : newline + 1]
                text = bytes(line)
                line.clear()
            else:
                text = data[at : newline + 1]
            if text[-2:-1] != b"\r":
                raise ChunkError("bare_lf", at)
            if state == _SIZE_LINE:
                match = self._size_line(text, 0, len(text) - 2)
                if match is None or len(text) > MAX_CHUNK_LINE:
                    raise ChunkError("chunk_size", at)
                self._left = int(match[1], 16)
                self._state = _DATA if self._left else _TRAILERS
            elif state == _DATA_END:
                if text != b"\r\n":
                    raise ChunkError("chunk_end", at)
                self._state = _SIZE_LINE
            elif text == b"\r\n":
                return newline + 1
            else:
                if len(self._trailers) + len(text) > self._trailer_limit:
                    raise ChunkError("trailers_too_long", at)
                if not self._field(text):
                    raise ChunkError("malformed_trailer", at)
                self._trailers += text
            at = newline + 1
        return -1

    def _check_partial(self, data: bytes, at: int, size: int) -> None:
        """A line without its end yet: notice early what can no longer become right, and what is too long."""
        line = self._line
        length = len(line) + size - at
        if self._state == _DATA_END:
            if length > 1 or data[at:size] != b"\r":
                raise ChunkError("chunk_end", at)
        elif self._state == _SIZE_LINE:
            if length > MAX_CHUNK_LINE:
                raise ChunkError("chunk_size", at)
            if not line and data[at] not in b"0123456789abcdefABCDEF":
                raise ChunkError("chunk_size", at)
        elif len(self._trailers) + length > self._trailer_limit:
            raise ChunkError("trailers_too_long", at)
