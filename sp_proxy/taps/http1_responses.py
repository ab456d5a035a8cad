"""The server's side of the HTTP/1.x tap: responses, matched with the open exchanges in their order.

Response bytes are forwarded as they come, incomplete heads too. One exception: the last CR of the head of a response with
``traceparent``, or of any response during a drain, is not forwarded alone, for a field is added before it.
"""

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps import http1_framing as framing
from sp_proxy.taps.context import Signal
from sp_proxy.taps.http1_framing import ABSENT, AMBIGUOUS, CHUNKED, ChunkError, ChunkReader
from sp_proxy.taps.http1_heads import ResponseHead, asks_for_http2
from sp_proxy.taps.http1_state import (
    BEHIND_UPGRADE,
    CHUNKED_BODY,
    FIXED,
    HEAD,
    RAW,
    REFUSED,
    REJECTING,
    UNTIL_CLOSE,
    Http1State,
)
from sp_proxy.taps.open_exchange import OpenExchange

_MAX_SERVER_SAID = 65536
"""SETTINGS and WINDOW_UPDATE of a server that does not wait are below 100 bytes."""


class ResponseSide(Http1State):
    """``Tap.server`` and ``Tap.server_eof``."""

    __slots__ = ()

    def server(self, data: bytes) -> bytes:
        """See ``Tap``."""
        if self._response_head:
            return self._continue_response(data)
        return self._server(data, 0, 0)

    def _server(self, data: bytes, done: int, since: int) -> bytes:
        """Read ``data``, of which ``done`` bytes have been forwarded and which began to come at ``since`` (0: now)."""
        out: list[bytes] = []
        at = 0
        size = len(data)
        now = 0
        while at < size:
            state = self._server_state
            if state == HEAD:
                now = now or self._context.unix_ns()
                if not self._open:
                    if self._spoke_http:
                        self._response_fault("unsolicited_response", done > at)
                    elif _may_be_http2_settings(self.server_said, data):
                        self.server_said += data
                        break
                    else:
                        self._response_fault("server_first", done > at)
                    continue
                end = data.find(b"\r\n\r\n", at) + 4
                head = self._context.heads.response(data[at:end]) if end > 3 else None
                if head is None:
                    if self._no_response_head(data, at, done, now):
                        size -= len(self._response_head) - self._response_passed
                        break
                    continue
                added = self._read_response_head(head, end - at, since or now, done > at)
                if self._server_state == REFUSED:
                    continue
                at = end
                since = 0
                if added and done <= at - 2:
                    out += (data[done : at - 2], added)
                    done = at - 2
            elif state == FIXED:
                end = at + self._server_left
                exchange = self._response
                assert exchange is not None
                if end > size:
                    exchange.tee_response(data, at, size)
                    self._server_left = end - size
                    break
                exchange.tee_response(data, at, end)
                self._response_ended(exchange, now)
                at = end
            elif state == CHUNKED_BODY:
                at = self._read_response_chunks(data, at, size)
            elif state == UNTIL_CLOSE:
                assert self._response is not None
                self._response.tee_response(data, at, size)
                break
            elif state == REFUSED:
                size = max(at, done)
                break
            else:
                if self.upgraded is not None:
                    self.server_said += data[at:]
                break
        if not out:
            return data[done:size]
        out.append(data[done:size])
        return b"".join(out)

    # ---- heads

    def _no_response_head(self, data: bytes, at: int, done: int, now: int) -> bool:
        """No whole head stands at ``at``: whether it may still become one."""
        head = self._response_head
        head += data[at:]
        self._response_since = now
        self._response_passed = 0
        whole = head.find(b"\r\n\r\n") >= 0
        fault = self._incomplete_response_fault(0)
        if fault or whole:
            head.clear()
            self._response_fault(fault or "malformed_response_head", done > at)
            return False
        self._pass_response_head()
        return True

    def _continue_response(self, data: bytes) -> bytes:
        """More of a response head of which a part has come, and most of that gone."""
        head = self._response_head
        searched = max(0, len(head) - 3)
        head += data
        if head.find(b"\r\n\r\n", searched) >= 0 or not self._open:
            whole, passed, since = bytes(head), self._response_passed, self._response_since
            head.clear()
            self._response_passed = 0
            return self._server(whole, passed, since)
        fault = self._incomplete_response_fault(searched)
        if not fault:
            return self._pass_response_head()
        rest = self.take_kept()
        self._response_fault(fault, begun=True)
        return rest if self._server_state == RAW else b""

    def _pass_response_head(self) -> bytes:
        head = self._response_head
        end = len(head)
        if head.endswith(b"\r\n\r") and (self._draining or b"\r\ntraceparent:" in head.lower()):
            end -= 1
        data = bytes(head[self._response_passed : end])
        self._response_passed = end
        return data

    def _incomplete_response_fault(self, searched: int) -> str:
        """Why the head in ``_response_head`` cannot become right any more; ``searched`` bytes have been looked at."""
        head = self._response_head
        if len(head) > self._context.max_head_size:
            return "response_head_too_long"
        newline = head.find(b"\n")
        if newline < 0:
            # Behind the status code anything may stand up to the end of the line.
            return "" if searched > 16 or framing.RESPONSE_LINE_PREFIX(head) else "malformed_status_line"
        if searched <= newline and not framing.RESPONSE_LINE(head):
            return "malformed_status_line"
        if head.count(b"\n", searched) != head.count(b"\r\n", max(0, searched - 1)):
            return "malformed_response_head"
        return ""

    def _read_response_head(self, head: ResponseHead, size: int, since: int, begun: bool) -> bytes:
        """Take note of a whole head of so many bytes; what to add before its final CRLF."""
        context = self._context
        if size > context.max_head_size or head.fault:
            self._response_fault(head.fault or "response_head_too_long", begun)
            return b""
        exchange = self._open[0]
        tunnel = head.status == 101 or (exchange.method == b"CONNECT" and 200 <= head.status < 300)
        if tunnel:
            if not exchange.may_tunnel:
                self._response_fault("unasked_upgrade", begun)
                return b""
        elif head.interim:
            return b""  # RFC 9110 section 15.2: an interim response, any number of them
        length = head.length
        if tunnel or head.no_content or exchange.method == b"HEAD":
            length = 0  # RFC 9112 section 6.3
        elif length == AMBIGUOUS:
            self._response_fault("ambiguous_response_framing", begun)
            return b""
        exchange.begin_response(since, head.status, head.fields, head.skipped)
        plan = exchange.plan
        added = b""
        if head.traced and plan is not None:
            added = b"traceparent: 00-%b-%016x-01\r\n" % (plan.trace_id, context.random_bits(64) or 1)
        if tunnel:
            if head.status == 101 and self._client_state == BEHIND_UPGRADE and not self._behind_upgrade:
                self._upgrade_to_http2(exchange, head.fields)
            if self.upgraded is None:
                self._tunnel(exchange)
            return added
        if exchange.may_tunnel:
            self._upgrade_declined(exchange)
            if self._server_state == RAW:
                return added
        if self._draining and len(self._open) == 1 and exchange.request_ended and self._client_state != RAW:
            added += b"connection: close\r\n"
        if length > 0:
            self._response = exchange
            self._server_state = FIXED
            self._server_left = length
        elif length == 0:
            self._response_ended(exchange, since)
        else:
            self._response = exchange
            if length == ABSENT:
                self._server_state = UNTIL_CLOSE
            elif length == CHUNKED:
                self._server_state = CHUNKED_BODY
                self._server_chunks = ChunkReader(exchange.tee_response, context.max_head_size, context.strict)
        return added

    def _upgrade_declined(self, exchange: OpenExchange) -> None:
        exchange.may_tunnel = False
        if self._client_state == BEHIND_UPGRADE:
            if self._behind_upgrade:
                self._go_raw("behind_upgrade")
            else:
                self._client_state = HEAD

    def _upgrade_to_http2(self, exchange: OpenExchange, fields: bytes) -> None:
        """If that is what was agreed upon (RFC 7540 section 3.2), another tap goes on with what either side says from here on."""
        if asks_for_http2(self.upgrading) and asks_for_http2(b"\r\n" + fields):
            self._open.popleft()
            self.upgraded = exchange
            self._client_state = self._server_state = RAW
            self.signal = Signal.HTTP2

    def _tunnel(self, exchange: OpenExchange) -> None:
        """The connection speaks something else from here on (RFC 9110 sections 7.8 and 9.3.6)."""
        self._context.counters["tunnels:" + ("connect" if exchange.method == b"CONNECT" else "upgrade")] += 1
        self._open.popleft()
        exchange.finish("")
        if self.signal is REJECTING:
            self._refuse(Signal.ABORT, b"")  # the client was refused for what it sent into the tunnel
        else:
            self._stop_watching()

    # ---- bodies

    def _read_response_chunks(self, data: bytes, at: int, size: int) -> int:
        chunks, exchange = self._server_chunks, self._response
        assert chunks is not None
        assert exchange is not None
        try:
            end = chunks.feed(data, at)
        except ChunkError as error:
            self._response_fault(error.reason, begun=True)
            return error.position
        if end < 0:
            return size
        exchange.response_trailers = chunks.trailers
        self._server_chunks = None
        self._response_ended(exchange, 0)
        return end

    # ---- ends

    def _response_ended(self, exchange: OpenExchange, now: int) -> None:
        self._server_state = HEAD
        self._response = None
        self._open.popleft()
        self._open_bytes -= exchange.weight
        exchange.response_ended = True
        exchange.end_ns = now or self._context.unix_ns()
        if exchange.request_ended:
            exchange.finish("")
        if self.signal is REJECTING:
            self._try_answer()
        elif self._client_state == RAW and not self._open:
            self._stop_watching()

    def server_eof(self) -> bytes:
        """See ``Tap``."""
        kept = self.take_kept()
        rejecting = self.signal is REJECTING
        if self._server_state == UNTIL_CLOSE and self._response is not None:
            exchange = self._response
            self.signal = Signal.NONE if rejecting else self.signal
            self._response_ended(exchange, 0)
        error: ErrorType = "upstream_aborted"
        for exchange in self._open:
            exchange.finish(error)
        self._open.clear()
        if rejecting:
            self._refuse(Signal.ANSWER, b"")  # behind a body that ends with the connection no answer can be given
        return kept


def _may_be_http2_settings(before: bytearray, data: bytes) -> bool:
    """Whether a server's first bytes begin with a SETTINGS frame (RFC 9113 section 3.4): it need not wait for the client's."""
    said = bytes(before[:9]) + data[:9]
    beginning = said[2:9]
    return (
        len(before) + len(data) <= _MAX_SERVER_SAID
        and not said[0]
        and (beginning[1:] == b"\x04\x00\x00\x00\x00\x00"[: max(0, len(beginning) - 1)])
    )
