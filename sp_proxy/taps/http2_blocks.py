"""Header blocks of HTTP/2 (RFC 9113 section 4.3) between the wire and the policy, which reads and writes lines of HTTP/1."""

import re
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from struct import Struct

from sp_proxy.core.inject import Plan
from sp_proxy.taps.hpack import ENTRY_OVERHEAD, Block, Field, literal, string

_HEADERS, _CONTINUATION = 1, 9
_FRAME_HEADER = 9
_frame_header = Struct(">IBI").pack
"""Of length and type, flags, stream id (section 4.1)."""
_END_STREAM, _END_HEADERS, _PRIORITY = 0x1, 0x4, 0x20
_HTTP2_SETTINGS = re.compile(rb"\r\nhttp2-settings:[ \t]*+([A-Za-z0-9_-]*+)=*+[ \t]*+\r\n", re.IGNORECASE).search
PEER_FRAME_SIZE = 16384
"""What every receiver must accept (section 4.2); nothing larger is made here."""


def lines(fields: list[Field]) -> bytes | None:
    r"""The fields as ``name: value\r\n`` lines; None if a value cannot stand in such a line (section 8.2.1).

    gRPC's C core sends the values of ``-bin`` fields as bytes behind a NUL when its peer has allowed that (its setting 0xfe03).
    They stand here as everybody else sends them: in base64 without padding.
    """
    text = b"".join([b"%b: %b\r\n" % field for field in fields])
    count = len(fields)
    if text.count(b"\n") == count == text.count(b"\r") and b"\0" not in text:
        return text
    readable = [
        (name, b2a_base64(value[1:], newline=False).rstrip(b"="))
        if value[:1] == b"\0" and name.endswith(b"-bin")
        else (name, value)
        for name, value in fields
    ]
    return lines(readable) if readable != fields else None


def without(block: Block, names: tuple[bytes, ...]) -> Block:
    """The block less the fields of these names."""
    kept = [position for position, field in enumerate(block.fields) if field[0] not in names]
    fields = [block.fields[position] for position in kept]
    return Block(
        fields,
        frozenset(new for new, old in enumerate(kept) if old in block.sensitive),
        block.updates,
        sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in fields),
    )


def list_size(plan: Plan) -> int:
    """What the plan's fields add to a header list (section 6.5.2)."""
    return len(plan.lines) + plan.lines.count(b"\n") * (ENTRY_OVERHEAD - 4)  # ``: `` and CRLF do not count


_TRACESTATE, _HOPS, _TRACEPARENT = (b"\0" + string(name) for name in (b"tracestate", b"x-sp-num", b"traceparent"))
"""Beginnings of literals without indexing, whose names are in no table (RFC 7541 section 6.2.2)."""
_static_literals: dict[bytes, bytes] = {}


def additions(plan: Plan) -> bytes:
    """The plan's fields as literals without indexing."""
    static = _static_literals.get(plan.static)
    if static is None:
        static = _literals(plan.static)
        if len(_static_literals) >= 64:  # a name for each request can come from the requests themselves
            _static_literals.clear()
        _static_literals[plan.static] = static
    added = static + _TRACESTATE + string(plan.tracestate) + _HOPS + string(plan.hops)
    if plan.traceparent:
        added += _TRACEPARENT + string(plan.traceparent)
    return added + _literals(plan.extra) if plan.extra else added


def with_authority(block: Block, authority: bytes) -> Block:
    """The block with another ``:authority``, if it has one."""
    fields = [(name, authority if name == b":authority" else value) for name, value in block.fields]
    return Block(
        fields, block.sensitive, block.updates, sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in fields)
    )


def _literals(lines: bytes) -> bytes:
    return b"".join(
        literal(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    )


def upgrade_settings(fields: bytes) -> bytes:
    """What a client that asks for an upgrade says as settings (RFC 7540 section 3.2.1), as in a SETTINGS frame; empty if unreadable."""
    match = _HTTP2_SETTINGS(fields)
    text = match[1] if match is not None else b""
    payload = urlsafe_b64decode(text + b"=" * (-len(text) % 4)) if len(text) % 4 != 1 else b""
    return payload[: len(payload) // 6 * 6]


def header_frames(stream_id: int, flags: int, priority: bytes, block: bytes) -> bytes:
    """HEADERS and as many CONTINUATION as it takes, without padding."""
    payload = priority + block
    kept = flags & (_END_STREAM | _PRIORITY)
    if len(payload) <= PEER_FRAME_SIZE:
        return _frame_header(len(payload) << 8 | _HEADERS, kept | _END_HEADERS, stream_id) + payload
    stream = stream_id.to_bytes(4)
    frames = []
    for at in range(0, len(payload), PEER_FRAME_SIZE):
        piece = payload[at : at + PEER_FRAME_SIZE]
        last = _END_HEADERS if at + PEER_FRAME_SIZE >= len(payload) else 0
        head = bytes((_CONTINUATION, last)) if at else bytes((_HEADERS, kept | last))
        frames.append(len(piece).to_bytes(3) + head + stream + piece)
    return b"".join(frames)


def longer_frames(frames: bytes, last: bytes, added: bytes) -> bytes:
    """HEADERS and its CONTINUATION frames, the last of which has the payload ``last``, with more at the end of the block."""
    begin = len(frames) - len(last) - _FRAME_HEADER
    stream = frames[begin + 5 : begin + _FRAME_HEADER]
    rest = last + added
    size = max(len(last), PEER_FRAME_SIZE)
    pieces = [frames[:begin]]
    for at in range(0, len(rest) or 1, size):
        piece = rest[at : at + size]
        end = _END_HEADERS if at + size >= len(rest) else 0
        pieces.append(len(piece).to_bytes(3) + bytes((_CONTINUATION, end)) + stream + piece)
    return b"".join(pieces)
