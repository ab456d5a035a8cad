"""What the head of an HTTP/1.x message says, read once and remembered.

A client sends the same head again and again, but for its trace: a read head is a value of its bytes alone, so it is kept
by them, in a bounded memory (reading costs 5 µs, finding it again 0.3). Heads with fields that are hardly ever the same
twice (``traceparent``, ``x-request-id``) are not kept, since they would only push out what repeats.
"""

import re
from typing import Final

from msgspec import Struct

from sp_proxy.core.exchange import Direction
from sp_proxy.core.head_edits import HeadEdit, HeadHooks
from sp_proxy.core.inject import Injector
from sp_proxy.core.memo import Memo
from sp_proxy.core.rules import Decision, Policy
from sp_proxy.taps import http1_framing as framing
from sp_proxy.taps.http1_framing import ABSENT, AMBIGUOUS, REQUEST_HEAD, RESPONSE_HEAD

MAX_KNOWN: Final = 512
MAX_KNOWN_SIZE: Final = 1024
"""Bytes of a head that is remembered: at most about 2 MiB for each listener, of which a read head takes three times its size."""
_VERSIONS: Final = {b"0": "1.0", b"1": "1.1"}
_NO_CONTENT: Final = frozenset((b"204", b"304"))
_UPGRADE_TO_HTTP2: Final = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*\r\n", re.IGNORECASE)


def asks_for_http2(fields: bytes) -> bool:
    """Whether a block of fields with a leading CRLF names HTTP/2 in clear text as what to upgrade to, and nothing else."""
    return _UPGRADE_TO_HTTP2.search(fields) is not None


class RequestHead(Struct, frozen=True, gc=False):
    """A request's head that was read, and what is to be done with it."""

    method: bytes
    target: bytes
    authority: bytes
    """The ``Host`` field; empty when there is none."""
    version: str
    fields: bytes
    """With a leading CRLF."""
    lower: bytes
    fields_at: int
    """Offset of ``fields`` in the head."""
    length: int
    """Of the body: 0 or more, or ``CHUNKED``."""
    may_tunnel: bool
    """It asks for a tunnel: CONNECT or an upgrade."""
    fault: str
    """Why it is not read in one way, or not let through; empty when it is."""
    decision: Decision
    counter: str
    """What counts it."""
    plain: bool
    """It has no field that ``Injector.plan`` reads."""
    edit: HeadEdit | None = None
    """What request hooks want, if they are pure."""


class ResponseHead(Struct, frozen=True, gc=False):
    """A response's head that was read."""

    status: int
    fields: bytes
    """Without a leading CRLF."""
    length: int
    """Of the body, unless the request or the status say that there is none: 0 or more, ``CHUNKED``, ``ABSENT``, or ``AMBIGUOUS``."""
    interim: bool
    no_content: bool
    traced: bool
    """It carries ``traceparent``."""
    skipped: str
    """Why its exchange is not to be captured after all (``Policy.response``)."""
    fault: str
    """As in ``RequestHead``, but for its framing."""


class Heads:
    """Reads the heads of one listener's connections."""

    def __init__(
        self,
        direction: Direction,
        policy: Policy,
        injector: Injector,
        *,
        strict: bool,
        hooks: HeadHooks | None = None,
    ) -> None:
        self._direction = direction
        self._policy = policy
        self._injector = injector
        self._strict = strict
        self._pure_hooks = hooks if hooks is not None and hooks.pure else None
        self._requests: Memo[bytes, RequestHead] = Memo(MAX_KNOWN, MAX_KNOWN_SIZE)
        self._responses: Memo[bytes, ResponseHead] = Memo(MAX_KNOWN, MAX_KNOWN_SIZE)

    def request(self, head: bytes) -> RequestHead | None:
        """The head that these bytes are, up to their first empty line; None if they are none."""
        known = self._requests.get(head)
        if known is not None:
            return known
        match = REQUEST_HEAD(head)
        if match is None:
            return None
        method, target, minor, fields = match.groups()
        http10 = minor == b"0"
        lower = fields.lower()
        length = framing.body_length(lower, http10)
        authority = b""
        fault = ""
        host_at = lower.find(b"\r\nhost:")
        if host_at >= 0:
            host_end = lower.find(b"\r\n", host_at + 7)
            authority = fields[host_at + 7 : host_end].strip(b" \t")
            if lower.find(b"\r\nhost:", host_end) >= 0:
                fault = "repeated_host"
        if length == AMBIGUOUS or (method == b"CONNECT" and length != ABSENT):
            fault = "ambiguous_framing"
        elif not fault and self._strict:
            fault = framing.strict_request_fault(method, target, head, host_at >= 0, authority, http10)
        decision = self._policy.request(self._direction, method, target, authority, lower)
        plain = kept = self._injector.is_plain(lower)
        edit = None
        if self._pure_hooks is not None and decision.inject and not fault:
            edit = self._pure_hooks.edit(self._direction, method, target, authority, fields)
            kept = plain and self._pure_hooks.whole
        read = RequestHead(
            method,
            target,
            authority,
            _VERSIONS[minor],
            fields,
            lower,
            match.start(4),
            0 if length == ABSENT else length,
            method == b"CONNECT" or lower.find(b"\r\nupgrade:") >= 0,
            fault,
            decision,
            decision.counter,
            plain,
            edit,
        )
        weight = len(head) + len(edit.lines) if edit is not None else len(head)
        return self._requests.keep(head, read, weight) if kept else read

    def response(self, head: bytes) -> ResponseHead | None:
        """Likewise, of a response."""
        known = self._responses.get(head)
        if known is not None:
            return known
        match = RESPONSE_HEAD(head)
        if match is None:
            return None
        minor, digits, fields = match.groups()
        lower = fields.lower()
        traced = lower.find(b"\r\ntraceparent:") >= 0
        read = ResponseHead(
            int(digits),
            fields[2:],
            framing.body_length(lower, minor == b"0"),
            digits[:1] == b"1" and digits != b"101",
            digits in _NO_CONTENT,
            traced,
            self._policy.response(lower),
            framing.strict_response_fault(head) if self._strict else "",
        )
        return read if traced else self._responses.keep(head, read, len(head))
