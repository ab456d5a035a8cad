"""What a header list of HTTP/2 says, read once and remembered, as ``http1_heads`` does for HTTP/1.x.

The key is the decoded list: the same block means something else on another connection, or after a change of its table.
"""

import re
from typing import Final, Literal

from msgspec import Struct

from sp_proxy.core.exchange import Direction
from sp_proxy.core.grpc_messages import is_call
from sp_proxy.core.inject import Injector
from sp_proxy.core.memo import Memo
from sp_proxy.core.rules import Decision, Policy
from sp_proxy.taps.hpack import Block, Field
from sp_proxy.taps.http2_blocks import lines

MAX_KNOWN: Final = 512
MAX_KNOWN_SIZE: Final = 1024
"""Of a header list that is remembered (RFC 9113 section 6.5.2): with what was read from it, at most about 4 MiB for each listener."""
_ends_a_line: Final = re.compile(rb"[\r\n\0]").search


class Http2RequestHead(Struct, frozen=True, gc=False):
    """A request's header list that was read, and what is to be done with it."""

    method: bytes
    target: bytes
    """``:path``, or ``:authority`` where there is none."""
    authority: bytes
    """``:authority``, or else the ``host`` field."""
    named: bool
    """It has ``:authority``."""
    scheme: Literal["http", "https"]
    fields: bytes
    r"""All but the pseudo-header fields, as ``name: value\r\n`` lines with a leading CRLF."""
    lower: bytes
    decision: Decision
    counter: str
    """What counts it."""
    plain: bool
    """It has no field that ``Injector.plan`` reads."""
    call: bool
    """It begins a gRPC call."""


class Http2ResponseHead(Struct, frozen=True, gc=False):
    """A response's header list that was read."""

    status: int
    fields: bytes
    """Without a leading CRLF."""
    traced: bool
    """It carries ``traceparent``."""
    skipped: str
    """Why its exchange is not to be captured after all (``Policy.response``)."""


class Http2Heads:
    """Reads the heads of one listener's connections."""

    def __init__(self, direction: Direction, policy: Policy, injector: Injector) -> None:
        self._direction = direction
        self._policy = policy
        self._injector = injector
        self._requests: Memo[tuple[Field, ...], Http2RequestHead] = Memo(MAX_KNOWN, MAX_KNOWN_SIZE)
        self._responses: Memo[tuple[Field, ...], Http2ResponseHead] = Memo(MAX_KNOWN, MAX_KNOWN_SIZE)

    def request(self, block: Block) -> Http2RequestHead | None:
        """The head that this block is; None if it is malformed (section 8.1.1)."""
        key = tuple(block.fields)
        known = self._requests.get(key)
        if known is not None:
            return known
        pseudo, regular = parts(block.fields)
        fields = lines(regular) if len(regular) + len(pseudo) == len(block.fields) else None  # none of them twice
        method = pseudo.get(b":method", b"")
        authority = pseudo.get(b":authority", b"")
        target = pseudo.get(b":path", authority)
        if fields is None or not method or _ends_a_line(target + authority + method):
            return None
        fields = b"\r\n" + fields
        lower = fields.lower()
        if not authority and (at := lower.find(b"\r\nhost:")) >= 0:
            authority = fields[at + 7 : fields.find(b"\r\n", at + 7)].strip(b" \t")
        decision = self._policy.request(self._direction, method, target, authority, lower)
        plain = self._injector.is_plain(lower)
        read = Http2RequestHead(
            method,
            target,
            authority,
            b":authority" in pseudo,
            "https" if pseudo.get(b":scheme") == b"https" else "http",
            fields,
            lower,
            decision,
            decision.counter,
            plain,
            is_call(lower),
        )
        return self._requests.keep(key, read, block.size) if plain else read

    def response(self, block: Block) -> Http2ResponseHead | None:
        """Likewise, of a response."""
        key = tuple(block.fields)
        known = self._responses.get(key)
        if known is not None:
            return known
        pseudo, regular = parts(block.fields)
        status = pseudo.get(b":status", b"")
        fields = lines(regular)
        if len(status) != 3 or not status.isdigit() or fields is None:
            return None
        lower = b"\r\n" + fields.lower()
        traced = lower.find(b"\r\ntraceparent:") >= 0
        read = Http2ResponseHead(int(status), fields, traced, self._policy.response(lower))
        return read if traced else self._responses.keep(key, read, block.size)


def parts(fields: list[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    """Pseudo-header fields (section 8.3), and the others."""
    pseudo: dict[bytes, bytes] = {}
    regular = []
    for field in fields:
        name = field[0]
        if name[:1] == b":":
            pseudo[name] = field[1]
        else:
            regular.append(field)
    return pseudo, regular
