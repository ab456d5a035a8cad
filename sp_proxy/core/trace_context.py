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
# Key and value of a list member (section 3.3.1.3.1 and .2 of level 2, whose keys include all those of level 1).
_MEMBER = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
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
_SESSION_KEY = b"x-sp-session-id"


class ParentContext(Struct, frozen=True, gc=False):
    """What a request said about the trace it belongs to. Empty: it said nothing usable."""

    trace_id: bytes = b""
    """32 hex digits."""
    span_id: bytes = b""
    """16 hex digits."""
    session_id: bytes = b""
    """From ``x-sp-session-id`` in ``tracestate``."""
    others: tuple[bytes, ...] = ()
    """The members of ``tracestate`` which are kept, in their order, the session member included, one for each key."""


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
        kept: dict[bytes, bytes] = {}
        for member in tracestate.split(b","):
            member = member.strip(b" \t")
            if not member:
                continue  # section 3.3.1.2: empty members are allowed
            if member.startswith(TRACEPARENT_MEMBER):
                if not trace_id and (ids := parse_traceparent(member[len(TRACEPARENT_MEMBER) :])):
                    trace_id, span_id = ids
                continue
            match = _MEMBER(member)
            if match is None:  # section 3.3.1: one malformed member discards the whole header
                trace_id = span_id = b""
                kept.clear()
                break
            # Section 3.3.1.3: one entry a key; the leftmost is the newest.
            kept.setdefault(match[1], member)
        session = kept.get(_SESSION_KEY, b"")[len(SESSION_MEMBER) :]
        others = tuple(kept.values())
    if not trace_id and traceparent and (ids := parse_traceparent(traceparent)):
        trace_id, span_id = ids
    if not trace_id and not others:
        return NOTHING
    return ParentContext(trace_id, span_id, session, others)


def write_tracestate(trace_id: bytes, span_id: bytes, session_id: bytes, parent: ParentContext) -> bytes:
    """The rebuilt ``tracestate``: our two members first, then the kept ones, within the limits of the specification.

    The session member is left out where the request already carries one (which then is never removed), or where its id
    cannot stand in a ``tracestate`` (a comma, an equals sign, a control character, more than 256 bytes).
    """
    head = b"x-sp-traceparent=00-" + trace_id + b"-" + span_id + b"-01"
    if not parent.session_id and _SESSION_VALUE(session_id):
        head += b",x-sp-session-id=" + session_id
    if not parent.others:
        return head
    others = list(parent.others)
    room = MAX_TRACESTATE_BYTES - len(head)
    spare = MAX_MEMBERS - 1 - head.count(b",")
    size = sum(map(len, others)) + len(others)
    if size > room or len(others) > spare:
        removable = [member for member in reversed(others) if not member.startswith(SESSION_MEMBER)]
        if size > room:
            removable.sort(key=lambda member: len(member) <= _LARGE_MEMBER_BYTES)  # stable: the large ones first
        for member in removable:
            if size <= room and len(others) <= spare:
                break
            others.remove(member)
            size -= len(member) + 1
    return b",".join([head, *others])
