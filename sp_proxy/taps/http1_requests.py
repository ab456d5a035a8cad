r"""The client's side of the HTTP/1.x tap: request heads, what is injected into them, and request bodies.

Only bytes which may still become a request head are held, and only until ``timeout``; a beginning with no method that is
in use (``hello``) not at all. A head that is completed later is still injected: at its end, which has not been forwarded
(the last CR of its empty line is never forwarded alone).
"""

import re

from sp_proxy.core.head_edits import HeadEdit, captured, joined
from sp_proxy.core.inject import RANDOM_BITS, Plan
from sp_proxy.taps import http1_framing as framing
from sp_proxy.taps.context import Signal
from sp_proxy.taps.http1_framing import CHUNKED, EMPTY_LINES, ChunkError, ChunkReader
from sp_proxy.taps.http1_heads import RequestHead
from sp_proxy.taps.http1_state import (
    BEHIND_UPGRADE,
    CHUNKED_BODY,
    FIXED,
    HEAD,
    HOLDING,
    MAX_OPEN,
    MAX_OPEN_BYTES,
    NONE,
    RAW,
    REFUSED,
    Http1State,
)
from sp_proxy.taps.open_exchange import OpenExchange

HTTP2_PREFACE_LINE = b"PRI * HTTP/2.0\r\n"
_CR = 13
_NOT_OURS = frozenset(("tls", "not_http", "server_first"))
"""Faults that say the connection does not speak HTTP/1: strict reading has nothing to say about it."""
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
_HELD = _METHODS | {b"PRI"}
_LONGEST_HELD = max(map(len, _HELD))
_BEGINNINGS = frozenset(method[:size] for method in _HELD for size in range(1, len(method) + 1))
_NOT_IN_A_TARGET = re.compile(rb"[\x00-\x20\x7f]").search
_LOOKED_AT_WHOLLY = 256
"""A longer first line is looked at again only where a byte comes that ends its target: else a slow sender of a long one
would make us read all of it at every byte.
"""
_BLANKS = b"\r\n\t "
"""What some servers forgive before a first line, one by one and not as the empty lines of RFC 9112 section 2.2."""


class RequestSide(Http1State):
    """``Tap.client``, ``Tap.timeout`` and ``Tap.client_eof``."""

    __slots__ = ()

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        if self._head:
            return self._continue_head(data)
        return self._client(data, 0, 0)

    def _client(self, data: bytes, done: int, since: int) -> bytes:
        """Read ``data``, of which ``done`` bytes have been forwarded and which began to come at ``since`` (0: now).

        What it returns is to be forwarded of the rest.
        """
        out: list[bytes] = []
        at = 0
        size = len(data)
        while at < size:
            state = self._client_state
            if state == HEAD:
                if data[at] == _CR and (empty := EMPTY_LINES(data, at)):  # RFC 9112 section 2.2
                    self._fresh = False
                    at = empty.end()
                    if at == size:
                        break
                end = data.find(b"\r\n\r\n", at) + 4
                head = (
                    self._context.heads.request(data if end == size and not at else data[at:end]) if end > 3 else None
                )
                if head is None:
                    if self._no_head(data, at, done):
                        size = at + self._head_passed
                        break
                    continue
                self._head_since = (since if not at else 0) or self._context.unix_ns()
                edited = self._read_head(data, at, end, done, head, out)
                if edited < 0:
                    continue
                done = edited
                at = end
            elif state == FIXED:
                at = self._read_fixed(data, at, size)
            elif state == CHUNKED_BODY:
                at = self._read_chunked(data, at, size)
            elif state == REFUSED:
                size = max(at, done)
                break
            elif state == BEHIND_UPGRADE and self._context.strict:
                # What an upgrade that is declined hides would have been let through unread.
                self._reject("behind_upgrade", None)
            else:
                self._behind_upgrade = True
                break
        if not out:
            return data[done:size]
        out.append(data[done:size])
        return b"".join(out)

    # ---- heads

    def _read_head(self, data: bytes, at: int, end: int, done: int, head: RequestHead, out: list[bytes]) -> int:
        """The head ``data[at:end]`` is there. Puts what is to be forwarded of it into ``out``, but for its final CRLF.

        The position up to which ``data`` is then done with; -1 if the head was refused.
        """
        context = self._context
        fault = head.fault
        if self.server_said:
            fault = "server_first"
        elif end - at > context.max_head_size:
            fault = "head_too_long"
        elif len(self._open) >= MAX_OPEN:
            fault = fault or "too_many_open"
        if fault:
            self._refuse_head(fault)
            return -1
        self._spoke_http = True
        decision = head.decision
        capture = decision.capture
        context.counters[head.counter] += 1
        exchange = OpenExchange(
            context,
            self._endpoints,
            self._head_since,
            head.method,
            head.target,
            head.authority,
            head.version,
            capture,
            decision.rule,
        )
        fields = head.fields
        if decision.inject:
            random_bits = context.random_bits(RANDOM_BITS)
            injector = context.injector
            plan = injector.fresh_plan(random_bits) if head.plain else injector.plan(head.lower, fields, random_bits)
            if context.hooks is not None and (edit := self._edit(head, passed=done > at)) is not None:
                plan = joined(plan, edit, head.lower, host=True)
                capture = exchange.capture = captured(decision, edit)
                exchange.authority = edit.authority or head.authority
                exchange.tags = edit.tags
            exchange.plan = plan
            if plan.remove:
                fields = self._replace(plan, data, at + head.fields_at, done, out, fields, head.lower)
            else:
                out += (data[done : end - 2], plan.lines)
                fields += plan.lines
            done = end - 2
        if capture:
            exchange.request_fields = fields[2:]
        if self._open:
            self._wait(exchange, len(fields))
        self._open.append(exchange)
        length = head.length
        if head.may_tunnel:
            exchange.may_tunnel = True
            self.upgrading = head.fields
        if not length:
            exchange.request_ended = True
            if head.may_tunnel:
                self._client_state = BEHIND_UPGRADE
        else:
            self._request = exchange
            if length == CHUNKED:
                self._client_state = CHUNKED_BODY
                self._client_chunks = ChunkReader(exchange.tee_request, context.max_head_size, context.strict)
            else:
                self._client_state = FIXED
                self._client_left = length
        return done

    def _edit(self, head: RequestHead, *, passed: bool) -> HeadEdit | None:
        """What request hooks want of a head, of which nothing may have ``passed``: a field that has cannot be replaced."""
        context = self._context
        hooks = context.hooks
        if hooks is None or passed:
            context.counters["addon_heads_passed"] += 1
            return None
        if hooks.pure:
            return head.edit
        return hooks.edit(context.direction, head.method, head.target, head.authority, head.fields)

    def _replace(
        self, plan: Plan, data: bytes, fields_at: int, done: int, out: list[bytes], fields: bytes, lower: bytes
    ) -> bytes:
        """Forward a head from which fields are taken away; its field block as forwarded, with its leading CRLF."""
        kept, gone = _without(fields, lower, plan.remove, done - fields_at)
        if gone:
            self._context.counters["headers_not_replaced"] += gone
        fields = kept + plan.lines
        if done <= fields_at:
            out += (data[done:fields_at], fields)
        else:
            out.append(fields[done - fields_at :])  # up to there, nothing was taken away
        return fields

    def _wait(self, exchange: OpenExchange, size: int) -> None:
        """The exchange waits behind others. Bound what all of them hold."""
        if self._open_bytes + size > MAX_OPEN_BYTES and exchange.capture:
            exchange.give_up()
            self._context.counters["requests_skipped:too_many_open"] += 1
        if exchange.capture:
            exchange.weight = size
            self._open_bytes += size

    def _no_head(self, data: bytes, at: int, done: int) -> bool:
        """No whole head stands at ``at``: whether the bytes from there on are held, as they may still become one."""
        head = self._head
        head += data[at:]
        self._head_passed = max(0, done - at)
        self._head_since = self._context.unix_ns()
        if data.find(b"\r\n\r\n", at) < 0:
            fault = self._incomplete_fault(0)
            if not fault:
                if self._worth_holding():
                    self.signal = HOLDING
                else:
                    self._head_passed = len(head)
                return True
        elif head.startswith(HTTP2_PREFACE_LINE) and self._fresh and not self._spoke_http:
            self.signal = Signal.HTTP2
            self.preface_passed = self._head_passed
            return True
        else:
            fault = "malformed_head" if framing.REQUEST_LINE(head) else self._first_line_fault(head)
        self._refuse_head(fault)
        return False

    def _continue_head(self, data: bytes) -> bytes:
        """More of a head of which a part is held."""
        head = self._head
        searched = max(0, len(head) - 3)
        head += data
        if head[0] == _CR or head.find(b"\r\n\r\n", searched) >= 0:
            whole, passed, since = bytes(head), self._head_passed, self._head_since
            head.clear()
            self._head_passed = 0
            self.signal = NONE
            return self._client(whole, passed, since)
        fault = self._incomplete_fault(searched)
        if fault:
            rest = bytes(head[self._head_passed :])
            self._refuse_head(fault)
            return rest if self._client_state == RAW else b""
        if self._head_passed or not self._worth_holding():
            self.signal = NONE
            return self._pass_head()
        self.signal = HOLDING
        return b""

    def _worth_holding(self) -> bool:
        """Whether the beginning of a first line is more likely a request's than what some other protocol says and then waits.

        Read strictly, all is held that may become a head: of one that is refused, nothing should have passed.
        """
        head = self._head
        if self._context.strict or b"\n" in head:
            return True
        word, blank, _ = bytes(head[: _LONGEST_HELD + 1]).partition(b" ")
        return word in (_HELD if blank else _BEGINNINGS)

    def _incomplete_fault(self, searched: int) -> str:
        """Why the incomplete head in ``_head`` cannot become right any more; ``searched`` bytes have been looked at."""
        head = self._head
        if len(head) > self._context.max_head_size:
            return "head_too_long"
        if self._context.strict and head[0] in _BLANKS and head != b"\r":
            return self._behind_blanks_fault(head)
        newline = head.find(b"\n")
        if newline < 0:
            if searched > _LOOKED_AT_WHOLLY and not _NOT_IN_A_TARGET(head, searched):
                return ""
            if head == b"\r" or framing.REQUEST_LINE_PREFIX(head) or HTTP2_PREFACE_LINE.startswith(head):
                return ""
            return self._first_line_fault(head)
        if searched <= newline and not framing.REQUEST_LINE(head) and not head.startswith(HTTP2_PREFACE_LINE):
            return self._first_line_fault(head)
        if head.count(b"\n", searched) != head.count(b"\r\n", max(0, searched - 1)):
            return "bare_lf"
        return ""

    def _behind_blanks_fault(self, head: bytearray) -> str:
        """Why an incomplete head that begins with blanks is none, read strictly; empty as long as a request line may follow.

        There are servers that skip the blanks, and would find a request where we saw another protocol.
        """
        line = head[:_LOOKED_AT_WHOLLY].lstrip(_BLANKS)
        if len(head) <= _LOOKED_AT_WHOLLY and (not line or framing.REQUEST_LINE_PREFIX(line)):
            return ""
        return self._first_line_fault(head)

    def _first_line_fault(self, head: bytes | bytearray) -> str:
        if not self._spoke_http and head[:2] == b"\x16\x03":
            return "tls"
        said = head.lstrip(_BLANKS)
        line = said[: said.find(b"\n") + 1] or said
        blank = not said and self._context.strict
        if self._spoke_http or blank or b"HTTP/" in line or bytes(said[:16]).split(b" ", 1)[0] in _METHODS:
            return "malformed_request_line"
        return "not_http"

    def _refuse_head(self, fault: str) -> None:
        """What stands in a head's place is none, or none that is read in one way only."""
        if self._context.strict and fault not in _NOT_OURS:
            self._reject(fault, None)
            return
        self._client_goes_raw(fault)
        self._head.clear()
        self._head_passed = 0

    def _pass_head(self) -> bytes:
        """The part of the incomplete head that may go on its way.

        A CR behind CRLF stays: what it ends is injected into.
        """
        head = self._head
        end = len(head) - head.endswith(b"\r\n\r")
        data = bytes(head[self._head_passed : end])
        self._head_passed = end
        return data

    def timeout(self) -> bytes:
        """See ``Tap``."""
        if self.signal is not HOLDING:
            return b""
        self.signal = NONE
        return self._pass_head()

    def client_eof(self) -> bytes:
        """See ``Tap``."""
        if self.signal is HOLDING:
            self.signal = NONE
        return self.take_held()

    # ---- bodies

    def _read_fixed(self, data: bytes, at: int, size: int) -> int:
        exchange = self._request
        assert exchange is not None
        end = at + self._client_left
        if end > size:
            exchange.tee_request(data, at, size)
            self._client_left = end - size
            return size
        exchange.tee_request(data, at, end)
        self._request_ended(exchange)
        return end

    def _read_chunked(self, data: bytes, at: int, size: int) -> int:
        chunks, exchange = self._client_chunks, self._request
        assert chunks is not None
        assert exchange is not None
        try:
            end = chunks.feed(data, at)
        except ChunkError as error:
            if self._context.strict:
                self._reject(error.reason, exchange)
            else:
                self._client_goes_raw(error.reason)
            return error.position
        if end < 0:
            return size
        exchange.request_trailers = chunks.trailers
        self._client_chunks = None
        self._request_ended(exchange)
        return end

    def _request_ended(self, exchange: OpenExchange) -> None:
        self._request = None
        exchange.request_ended = True
        self._client_state = BEHIND_UPGRADE if exchange.may_tunnel else HEAD
        if exchange.response_ended:
            exchange.finish("")
        elif exchange.weight:
            size = len(exchange.request_body) + len(exchange.request_trailers)
            exchange.weight += size
            self._open_bytes += size


def _without(fields: bytes, lower: bytes, names: tuple[bytes, ...], passed: int) -> tuple[bytes, int]:
    """The field block without the fields of these names, and how many of them have already been forwarded."""
    cuts = []
    gone = 0
    for name in names:
        needle = b"\r\n" + name + b":"
        at = lower.find(needle)
        while at >= 0:
            end = lower.find(b"\r\n", at + len(needle))
            if at + 2 >= passed:
                cuts.append((at + 2, end + 2))
            else:
                gone += 1
            at = lower.find(needle, end)
    cuts.sort()
    pieces = []
    begin = 0
    for at, end in cuts:
        pieces.append(fields[begin:at])
        begin = end
    pieces.append(fields[begin:])
    return b"".join(pieces), gone
