r"""What is injected into a request head, for every protocol version (contract section 3).

``Injector.plan`` reads a request's fields and says what to add and which fields to take away; the taps do it in their own
wire format. Fields come as one lower-cased block with a leading CRLF (``b"\r\nhost: a\r\n…"``), so that a header is found
with one ``bytes.find``, and in their original case at the same offsets.
"""

from msgspec import Struct

from sp_proxy.core import session, trace_context

REPLACED = (b"x-sp-service-name", b"x-sp-num", b"tracestate")
"""Fields which are taken away before ours are added."""
COMPAT = (b"x-service-name", b"x-current-service")
UNKNOWN_SERVICE = b"unknown-service"
_MAX_HOPS_DIGITS = 9
"""An ``x-sp-num`` with more digits is not a number of hops; it counts as 0, like everything that is not a number."""


class HeaderConfig(Struct, frozen=True, array_like=True):
    """The headers of contract section 3, as configured."""

    service_name: str
    """Detected name; empty when only the request's own header is left, then ``unknown-service``."""
    compat_headers: bool = True
    debug_headers: tuple[tuple[str, str], ...] = ()
    """Names and values of the ``x-debug-*`` headers to add; empty unless switched on."""


class Plan(Struct):
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


class Injector:
    """Prepares at configuration time what does not depend on the request."""

    def __init__(self, config: HeaderConfig) -> None:
        self._service_name = config.service_name.encode()
        self._compat = config.compat_headers
        self._replaced = REPLACED + (COMPAT if config.compat_headers else ())
        self._debug_names = tuple(name.lower().encode() for name, _ in config.debug_headers)
        self._debug = b"".join(f"{name}: {text}\r\n".encode() for name, text in config.debug_headers)
        self._static = self._lines(self._service_name) if self._service_name else b""

    def _lines(self, name: bytes) -> bytes:
        lines = b"x-sp-service-name: %b\r\n" % name
        if self._compat:
            lines += b"x-service-name: %b\r\nx-current-service: %b-workload\r\n" % (name, name)
        return lines + self._debug

    def plan(self, lower: bytes, fields: bytes, random_bits: int) -> Plan:
        """Decide on one request. ``random_bits`` are 314 fresh random bits: trace id, span id, session id."""
        span_id = b"%016x" % (random_bits & 0xFFFFFFFFFFFFFFFF or 1)
        remove: tuple[bytes, ...] = ()
        parent = trace_context.NOTHING
        session_id = b""
        name, static = self._service_name, self._static
        hops = b"1"
        keeps_traceparent = False
        # One look for each family keeps the usual first-hop request at a few finds.
        if lower.find(b"\r\ntrace") >= 0:
            traceparents = values(lower, fields, b"traceparent")
            tracestate = b",".join(values(lower, fields, b"tracestate"))
            traceparent = traceparents[0] if len(traceparents) == 1 else b""
            keeps_traceparent = trace_context.parse_traceparent(traceparent) is not None
            if traceparents and not keeps_traceparent:
                remove += (b"traceparent",)  # section 3.2.2.5: a malformed one is not propagated
            parent = trace_context.read(traceparent, tracestate)
        if lower.find(b"session") >= 0:
            for header in session.SESSION_HEADERS:
                session_id = value(lower, fields, header)
                if session_id:
                    break
        session_id = session_id or parent.session_id or session.new_session_id(random_bits >> 192)
        if lower.find(b"\r\nx-") >= 0 or parent is not trace_context.NOTHING:
            remove += tuple(header for header in self._replaced if lower.find(b"\r\n" + header + b":") >= 0)
            if b"x-sp-num" in remove:
                number = value(lower, fields, b"x-sp-num")
                if number.isdigit() and len(number) <= _MAX_HOPS_DIGITS:
                    hops = b"%d" % (int(number) + 1)
            if self._debug_names:
                remove += tuple(header for header in self._debug_names if lower.find(b"\r\n" + header + b":") >= 0)
        if not name:
            name = value(lower, fields, b"x-sp-service-name") or UNKNOWN_SERVICE
            static = self._lines(name)
        trace_id = parent.trace_id or b"%032x" % (random_bits >> 64 & 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF or 1)
        return Plan(
            trace_id,
            span_id,
            parent.span_id,
            session_id,
            name,
            remove,
            static,
            trace_context.write_tracestate(trace_id, span_id, session_id, parent),
            b"" if keeps_traceparent else b"00-%b-%b-01" % (trace_id, span_id),
            hops,
        )
