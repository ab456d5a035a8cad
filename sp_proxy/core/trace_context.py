"""Trace identity: W3C Trace Context (https://www.w3.org/TR/trace-context/) and Softprobe's members in ``tracestate``.

Read: trace id and parent span from ``x-sp-traceparent`` in ``tracestate``, else from ``traceparent``, else a new trace.
Written: ``tracestate`` rebuilt with our two members first (contract section 3). Malformed input is absent input.
Identifiers stay in lower-case hex here, since they are only ever copied from one header into another.
"""

import re

from msgspec import Struct

_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:\Z|(-))"
).match
# section 3.3.1.3.1 and .2: key and value of a list member
_MEMBER = re.compile(
    rb"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
).fullmatch
_SESSION_VALUE = re.compile(rb"[\x21-\x2b\x2d-\x3c\x3e-\x7e]{1,256}").fullmatch

MAX_MEMBERS = 32
"""Section 3.3.1.1."""
MAX_TRACESTATE_BYTES = 512
"""Section 3.3.1.5: what must be propagated at least; nothing longer is written."""
_LARGE_MEMBER_BYTES = 128
"""Section 3.3.1.5: members longer than this are removed first."""

TRACEPARENT_MEMBER = b"x-sp-traceparent="
SESSION_MEMBER = b"x-sp-session-id="


class ParentContext(Struct, frozen=True):
    """What a request said about the trace it belongs to. Empty: it said nothing usable."""

    trace_id: bytes = b""
    """32 hex digits."""
    span_id: bytes = b""
    """16 hex digits."""
    session_id: bytes = b""
    """From ``x-sp-session-id`` in ``tracestate``."""
    others: tuple[bytes, ...] = ()
    """The members of ``tracestate`` which are kept, in their order, the session member included."""


NOTHING = ParentContext()


def parse_traceparent(value: bytes) -> tuple[bytes, bytes] | None:
    """Trace id and span id (hex) of a ``traceparent``, or None if it is not one (section 3.2.2).

    Version ``ff`` and all-zero ids are invalid; version ``00`` ends after the flags, later ones may go on with ``-``.
    """
    match = _TRACEPARENT(value)
    if match is None or (match[4] and match[1] == b"00"):
        return None
    return match[2], match[3]


def read(traceparent: bytes, tracestate: bytes) -> ParentContext:
    """Extract. ``tracestate`` is the value of all its fields joined with commas; either may be empty."""
    trace_id = span_id = session = b""
    others: tuple[bytes, ...] = ()
    if tracestate:
        members = [member.strip(b" \t") for member in tracestate.split(b",")]
        members = [member for member in members if member]
        kept = []
        valid = True
        for member in members:
            if member.startswith(TRACEPARENT_MEMBER):
                if not trace_id and (ids := parse_traceparent(member[len(TRACEPARENT_MEMBER) :])):
                    trace_id, span_id = ids
                continue
            if not _MEMBER(member):
                valid = False  # section 3.3.1: one malformed member discards the whole header
                break
            if not session and member.startswith(SESSION_MEMBER):
                session = member[len(SESSION_MEMBER) :]
            kept.append(member)
        if valid:
            others = tuple(kept)
        else:
            trace_id = span_id = session = b""
    if not trace_id and traceparent and (ids := parse_traceparent(traceparent)):
        trace_id, span_id = ids
    return ParentContext(trace_id, span_id, session, others)


def write_tracestate(trace_id: bytes, span_id: bytes, session_id: bytes, parent: ParentContext) -> bytes:
    """The rebuilt ``tracestate``: our two members first, then the kept ones, within the limits of the specification.

    The session member is left out where the request already carries one, or where its id cannot stand in a
    ``tracestate`` (a comma, an equals sign, a control character, more than 256 bytes).
    """
    head = TRACEPARENT_MEMBER + b"00-" + trace_id + b"-" + span_id + b"-01"
    if not parent.session_id and _SESSION_VALUE(session_id):
        head += b"," + SESSION_MEMBER + session_id
    if not parent.others:
        return head
    others = list(parent.others)
    room = MAX_TRACESTATE_BYTES - len(head)
    size = sum(map(len, others)) + len(others)
    if size > room:
        for member in [member for member in reversed(others) if len(member) > _LARGE_MEMBER_BYTES]:
            others.remove(member)
            size -= len(member) + 1
            if size <= room:
                break
    spare = MAX_MEMBERS - 1 - head.count(b",")
    while others and (size > room or len(others) > spare):
        size -= len(others.pop()) + 1
    return b",".join([head, *others])
