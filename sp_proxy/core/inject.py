r"""What is injected into a request head, for every protocol version (contract section 3).

``Injector.plan`` reads a request's fields and says what to add and which fields to take away; the taps do it in their own
wire format. Fields come as one lower-cased block with a leading CRLF (``b"\r\nhost: a\r\n…"``), so that a header is found
with one ``bytes.find``, and in their original case at the same offsets.
"""

import re
from binascii import hexlify

from msgspec import Struct

from sp_proxy.core import session, trace_context

REPLACED = (b"x-sp-service-name", b"x-sp-num", b"tracestate")
"""Fields which are taken away before ours are added."""
COMPAT = (b"x-service-name", b"x-current-service")
UNKNOWN_SERVICE = b"unknown-service"
_MAX_HOPS_DIGITS = 20
"""Those of the largest 64-bit number. An ``x-sp-num`` with more counts as 0, like everything that is not a number."""

RANDOM_BITS = 320
"""What ``Injector.plan`` needs: 128 for a session id, 128 for a trace id, 64 for a span id."""
_NO_TRACE_ID = b"0" * 32
_NO_SPAN_ID = b"0" * 16

_has_telling_field = re.compile(rb"\n(?:trace(?:parent|state):|x-|sp_session_id:)").search
"""Finds whether a request carries anything that ``plan`` reads. One scan of the line beginnings (170 ns) settles most
requests of a first hop, where a ``find`` for each name costs 150 to 400 ns, growing with the block.
"""


class HeaderConfig(Struct, frozen=True, array_like=True):
    """The headers of contract section 3, as configured."""

    service_name: str
    """Detected name; empty when only the request's own header is left, then ``unknown-service``."""
    compat_headers: bool = True
    debug_headers: tuple[tuple[str, str], ...] = ()
    """Names and values of the ``x-debug-*`` headers to add; empty unless switched on."""


class Plan(Struct, gc=False):
    """What to do with one request head, and the identity of its exchange."""

    trace_id: bytes
    """32 hex digits."""
    span_id: bytes
    """16 hex digits."""
    parent_span_id: bytes
    """16 hex digits or empty."""
    session_id: bytes
    service_name: bytes
    remove: tuple[bytes, ...]
    """Lower-case names of fields to take away: only names that the request has."""
    static: bytes
    r"""Lines ``name: value\r\n`` which depend on the service name only (so a tap can cache their encoding)."""
    tracestate: bytes
    traceparent: bytes
    """To be added; empty if the request keeps its own."""
    hops: bytes
    lines: bytes
    r"""All fields to be added, as lines ``name: value\r\n``: what the four above and ``extra`` say."""
    extra: bytes = b""
    """Lines that request hooks have added."""


def values(lower: bytes, fields: bytes, name: bytes) -> list[bytes]:
    """Values of all fields of that lower-case name, in order, without surrounding blanks."""
    needle = b"\r\n" + name + b":"
    found = []
    at = lower.find(needle)
    while at >= 0:
        start = at + len(needle)
        end = lower.find(b"\r\n", start)
        found.append(fields[start:end].strip(b" \t"))
        at = lower.find(needle, end)
    return found


def value(lower: bytes, fields: bytes, name: bytes) -> bytes:
    """Value of the first field of that lower-case name, or empty."""
    needle = b"\r\n" + name + b":"
    at = lower.find(needle)
    if at < 0:
        return b""
    start = at + len(needle)
    return fields[start : lower.find(b"\r\n", start)].strip(b" \t")


def _ids(random_bits: int) -> tuple[bytes, bytes, bytes]:
    """80 random hex digits, of which the first 32 are for a session, and a trace id and a span id made of the others."""
    digits = hexlify(random_bits.to_bytes(40, "big"))
    trace_id, span_id = digits[32:64], digits[64:]
    if trace_id == _NO_TRACE_ID:
        trace_id = b"%032x" % 1
    if span_id == _NO_SPAN_ID:
        span_id = b"%016x" % 1
    return digits, trace_id, span_id


class Injector:
    """Prepares at configuration time what does not depend on the request."""

    def __init__(self, config: HeaderConfig) -> None:
        self._service_name = config.service_name.encode()
        self._compat = config.compat_headers
        debug_names = tuple(name.lower().encode() for name, _ in config.debug_headers)
        self._replaced = REPLACED + (COMPAT if config.compat_headers else ()) + debug_names
        self._debug = b"".join(f"{name}: {text}\r\n".encode() for name, text in config.debug_headers)
        self._static = self._lines(self._service_name) if self._service_name else b""

    def _lines(self, name: bytes) -> bytes:
        lines = b"x-sp-service-name: %b\r\n" % name
        if self._compat:
            lines += b"x-service-name: %b\r\nx-current-service: %b-workload\r\n" % (name, name)
        return lines + self._debug

    def is_plain(self, lower: bytes) -> bool:
        """Whether a request has nothing that ``plan`` would read: then ``fresh_plan`` is its plan."""
        return bool(self._service_name) and _has_telling_field(lower) is None

    def fresh_plan(self, random_bits: int) -> Plan:
        """Decide on a request that begins a trace and a session. ``random_bits`` as for ``plan``."""
        digits, trace_id, span_id = _ids(random_bits)
        session_id = session.new_session_id(digits)
        ids = b"00-%b-%b-01" % (trace_id, span_id)
        tracestate = b"x-sp-traceparent=%b,x-sp-session-id=%b" % (ids, session_id)
        static = self._static
        lines = b"%btracestate: %b\r\nx-sp-num: 1\r\ntraceparent: %b\r\n" % (static, tracestate, ids)
        return Plan(trace_id, span_id, b"", session_id, self._service_name, (), static, tracestate, ids, b"1", lines)

    def plan(self, lower: bytes, fields: bytes, random_bits: int) -> Plan:
        """Decide on one request. ``random_bits`` are RANDOM_BITS fresh random bits."""
        if self.is_plain(lower):
            return self.fresh_plan(random_bits)
        digits, trace_id, span_id = _ids(random_bits)
        traceparents = values(lower, fields, b"traceparent")
        traceparent = traceparents[0] if len(traceparents) == 1 else b""
        keeps_traceparent = trace_context.parse_traceparent(traceparent) is not None
        parent = trace_context.read(traceparent, b",".join(values(lower, fields, b"tracestate")))
        trace_id = parent.trace_id or trace_id
        session_id = b""
        for header in session.SESSION_HEADERS:
            session_id = value(lower, fields, header)
            if session_id:
                break
        session_id = session_id or parent.session_id or session.new_session_id(digits)
        remove = tuple(header for header in self._replaced if lower.find(b"\r\n" + header + b":") >= 0)
        if traceparents and not keeps_traceparent:
            remove += (b"traceparent",)  # section 3.2.2.5: a malformed one is not propagated
        hops = b"1"
        number = value(lower, fields, b"x-sp-num")
        if number.isdigit() and len(number) <= _MAX_HOPS_DIGITS:
            hops = b"%d" % (int(number) + 1)
        name, static = self._service_name, self._static
        if not name:
            name = value(lower, fields, b"x-sp-service-name") or UNKNOWN_SERVICE
            static = self._lines(name)
        tracestate = trace_context.write_tracestate(trace_id, span_id, session_id, parent)
        added = b"" if keeps_traceparent else b"00-%b-%b-01" % (trace_id, span_id)
        lines = b"%btracestate: %b\r\nx-sp-num: %b\r\n" % (static, tracestate, hops)
        if added:
            lines += b"traceparent: %b\r\n" % added
        return Plan(trace_id, span_id, parent.span_id, session_id, name, remove, static, tracestate, added, hops, lines)
