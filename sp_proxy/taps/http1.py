r"""The HTTP/1.x tap: watches one connection, edits request heads, and makes a record of each exchange.

Rules it keeps:

- What it returns differs from what it got only in request heads (fields of ``core.inject`` added and replaced) and in a
  response head that carries ``traceparent`` (one more is added).
- Whatever it does not read as every sane implementation would makes the connection *raw* from that byte on: forwarded
  untouched, neither injected nor captured. With a strict context it is refused instead (``Signal.ANSWER``).
- Only bytes which may still become a request head are held, and only until ``timeout``. A head that is completed later is
  still injected: at its end, which has not been forwarded (the last CR of an empty line is never forwarded alone).
- It neither raises nor buffers beyond ``max_head_size``, whatever it is fed.
"""

import re
from collections import deque

from sp_proxy.core.exchange import ErrorType
from sp_proxy.core.inject import value
from sp_proxy.taps import http1_framing as framing
from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.http1_framing import ABSENT, AMBIGUOUS, CHUNKED, ChunkError, ChunkReader
from sp_proxy.taps.open_exchange import OpenExchange

_HEAD, _FIXED, _CHUNKED, _UNTIL_CLOSE, _BEHIND_UPGRADE, _RAW, _REFUSED = range(7)
_VERSIONS = {b"0": "1.0", b"1": "1.1"}
HTTP2_PREFACE_LINE = b"PRI * HTTP/2.0\r\n"
_MAX_SERVER_SAID = 4096
"""SETTINGS and WINDOW_UPDATE of a server that does not wait are below 100 bytes."""
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def _may_be_http2_settings(before: bytearray, data: bytes) -> bool:
    """Whether a server's first bytes begin with a SETTINGS frame (RFC 9113 section 3.4): it need not wait for the client's."""
    said = bytes(before[:9]) + data[:9]
    beginning = said[2:9]
    return (
        len(before) + len(data) <= _MAX_SERVER_SAID
        and said[:2] == bytes(min(2, len(said)))
        and (beginning[1:] == b"\x04\x00\x00\x00\x00\x00"[: max(0, len(beginning) - 1)])
    )


class Http1Tap:
    """One per connection. See ``context.Tap`` for the calls."""

    __slots__ = (
        "_behind_upgrade",
        "_client_chunks",
        "_client_left",
        "_client_state",
        "_context",
        "_endpoints",
        "_head",
        "_head_passed",
        "_head_since",
        "_open",
        "_rejected",
        "_request",
        "_response",
        "_response_head",
        "_response_kept",
        "_response_known",
        "_response_since",
        "_server_chunks",
        "_server_left",
        "_server_state",
        "_spoke_http",
        "answer",
        "server_said",
        "signal",
    )

    def __init__(self, context: TapContext, endpoints: Endpoints) -> None:
        self._context = context
        self._endpoints = endpoints
        self.signal = Signal.NONE
        self.answer = b""
        self.server_said = bytearray()
        """What a server said before the client did, as long as that may be HTTP/2; it has been forwarded."""
        self._spoke_http = False
        self._rejected: OpenExchange | None = None
        self._open: deque[OpenExchange] = deque()  # without a complete response, in the order of their requests
        # client side
        self._client_state = _HEAD
        self._client_left = 0
        self._client_chunks: ChunkReader | None = None
        self._request: OpenExchange | None = None  # whose request body is being read
        self._head = bytearray()  # an incomplete head
        self._head_passed = 0  # of it, so many bytes have been forwarded
        self._head_since = 0
        self._behind_upgrade = False  # bytes have passed unread: if the upgrade is declined, the place is lost
        # server side
        self._server_state = _HEAD
        self._server_left = 0
        self._server_chunks: ChunkReader | None = None
        self._response: OpenExchange | None = None
        self._response_head = bytearray()
        self._response_known = 0  # bytes of the present response head which had been forwarded before this call
        self._response_kept = b""
        self._response_since = 0

    @property
    def idle(self) -> bool:
        """See ``Tap``."""
        return not self._open and self._request is None and not self._head and self._client_state == _HEAD

    # ---- from the client

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        out: list[bytes] = []
        while True:
            state = self._client_state
            if state == _HEAD:
                rest = self._client_head(data, out)
            elif state == _FIXED:
                rest = self._client_fixed(data, out)
            elif state == _CHUNKED:
                rest = self._client_chunked(data, out)
            else:
                if state != _REFUSED:
                    self._behind_upgrade = state == _BEHIND_UPGRADE
                    out.append(data)
                break
            if not rest:
                break
            data = rest
        return out[0] if len(out) == 1 else b"".join(out)

    def _client_fixed(self, data: bytes, out: list[bytes]) -> bytes:
        left = self._client_left
        exchange = self._request
        assert exchange is not None
        if len(data) < left:
            exchange.tee_request(data, 0, len(data))
            self._client_left = left - len(data)
            out.append(data)
            return b""
        exchange.tee_request(data, 0, left)
        self._request_ended(exchange)
        if len(data) == left:
            out.append(data)
            return b""
        out.append(data[:left])
        return data[left:]

    def _client_chunked(self, data: bytes, out: list[bytes]) -> bytes:
        chunks, exchange = self._client_chunks, self._request
        assert chunks is not None
        assert exchange is not None
        try:
            end = chunks.feed(data, 0)
        except ChunkError as error:
            if self._context.strict:
                out.append(data[: error.position])
                self._reject(error.reason, exchange)
            else:
                self._go_raw(error.reason)
                out.append(data)
            return b""
        if end < 0:
            out.append(data)
            return b""
        exchange.request_trailers = chunks.trailers
        self._client_chunks = None
        self._request_ended(exchange)
        if end == len(data):
            out.append(data)
            return b""
        out.append(data[:end])
        return data[end:]

    def _request_ended(self, exchange: OpenExchange) -> None:
        self._request = None
        exchange.request_ended = True
        self._client_state = _BEHIND_UPGRADE if exchange.may_tunnel else _HEAD
        if exchange.response_ended:
            exchange.finish("")

    def _client_head(self, data: bytes, out: list[bytes]) -> bytes:
        head = self._head
        if head == b"\r":
            data = b"\r" + data
            head.clear()
        if head:
            searched = max(0, len(head) - 3)
            head += data
            if head.find(b"\r\n\r\n", searched) < 0:
                self._incomplete_head(searched, out)
                return b""
            data = bytes(head)
        else:
            while data[:2] == b"\r\n":  # RFC 9112 section 2.2: empty lines before a request line
                out.append(b"\r\n")
                data = data[2:]
            if not data:
                return b""
            self._head_since = self._context.unix_ns()
        match = framing.REQUEST_HEAD(data)
        if match is None:
            if not head:
                head += data
                if data.find(b"\r\n\r\n") < 0:
                    self._incomplete_head(0, out)
                    return b""
            if data.startswith(HTTP2_PREFACE_LINE) and not self._spoke_http:
                self.signal = Signal.HTTP2
                return b""
            self._refuse_head("malformed_head" if framing.REQUEST_LINE(data) else self._first_line_fault(data), out)
            return b""
        return self._complete_head(data, match, out)

    def _complete_head(self, data: bytes, match: re.Match[bytes], out: list[bytes]) -> bytes:
        context = self._context
        method, target, minor, _ = match.groups()
        end = match.end()
        fields_at = match.start(4) - 2
        fields = data[fields_at : end - 2]  # with a leading CRLF
        lower = fields.lower()
        http10 = minor == b"0"
        length = framing.body_length(lower, http10)
        fault = ""
        if self.server_said:
            fault = "server_first"
        elif end > context.max_head_size:
            fault = "head_too_long"
        elif length == AMBIGUOUS or (method == b"CONNECT" and length != ABSENT):
            fault = "ambiguous_framing"
        elif context.strict:
            fault = framing.strict_request_fault(data[:end], lower, http10)
        elif lower.count(b"\r\nhost:") > 1:
            fault = "repeated_host"
        if fault:
            if not self._head:
                self._head += data
            self._refuse_head(fault, out)
            return b""
        self._spoke_http = True
        passed = self._head_passed
        if self._head:
            self._head.clear()
            self._head_passed = 0
            self.signal = Signal.NONE
        authority = value(lower, fields, b"host")
        decision = context.policy.request(context.direction, method, target, authority, lower)
        context.counters["requests:" + decision.reason] += 1
        exchange = OpenExchange(
            context, self._endpoints, self._head_since, method, target, authority, _VERSIONS[minor], decision
        )
        if decision.inject:
            plan = context.injector.plan(lower, fields, context.random_bits(314))
            exchange.plan = plan
            kept, gone = (
                (fields, 0) if not plan.remove else self._without(fields, lower, plan.remove, passed - fields_at)
            )
            if gone:
                context.counters["headers_not_replaced"] += gone
            added = b"%btracestate: %b\r\nx-sp-num: %b\r\n" % (plan.static, plan.tracestate, plan.hops)
            if plan.traceparent:
                added += b"traceparent: %b\r\n" % plan.traceparent
            fields = kept + added
            if passed <= fields_at:
                out += (data[passed:fields_at], fields, b"\r\n")
            else:
                # what has gone stays as it was; kept differs from it only behind that point
                out += (kept[passed - fields_at :], added, b"\r\n")
        else:
            out.append(data[passed:end])
        exchange.request_fields = fields[2:]
        self._open.append(exchange)
        exchange.may_tunnel = method == b"CONNECT" or lower.find(b"\r\nupgrade:") >= 0
        if length == CHUNKED:
            self._client_state = _CHUNKED
            self._client_chunks = ChunkReader(exchange.tee_request, context.max_head_size)
            self._request = exchange
        elif length > 0:
            self._client_state = _FIXED
            self._client_left = length
            self._request = exchange
        else:
            exchange.request_ended = True
            if exchange.may_tunnel:
                self._client_state = _BEHIND_UPGRADE
        return data[end:] if len(data) > end else b""

    @staticmethod
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

    def _incomplete_head(self, searched: int, out: list[bytes]) -> None:
        """The head in ``_head`` is not complete. Hold it, pass it on, or give up on it."""
        head = self._head
        if len(head) > self._context.max_head_size:
            self._refuse_head("head_too_long", out)
            return
        newline = head.find(b"\n")
        if newline < 0:
            if head != b"\r" and not framing.REQUEST_LINE_PREFIX(head) and not HTTP2_PREFACE_LINE.startswith(head):
                self._refuse_head(self._first_line_fault(head), out)
                return
        elif searched <= newline and not framing.REQUEST_LINE(head) and not head.startswith(HTTP2_PREFACE_LINE):
            self._refuse_head(self._first_line_fault(head), out)
            return
        elif head.count(b"\n", searched) != head.count(b"\r\n", max(0, searched - 1)):
            self._refuse_head("bare_lf", out)
            return
        if self._head_passed:
            out.append(self._pass_head())
        else:
            self.signal = Signal.HOLDING

    def _pass_head(self) -> bytes:
        """The part of the incomplete head that may go on its way. A CR behind CRLF stays: what it ends is injected into."""
        head = self._head
        end = len(head) - (head.endswith(b"\r\n\r") or head == b"\r")
        data = bytes(head[self._head_passed : end])
        self._head_passed = end
        return data

    def timeout(self) -> bytes:
        """See ``Tap``."""
        if self.signal is not Signal.HOLDING:
            return b""
        self.signal = Signal.NONE
        return self._pass_head()

    def _first_line_fault(self, head: bytes | bytearray) -> str:
        if not self._spoke_http and head[:2] == b"\x16\x03":
            return "tls"
        line = head[: head.find(b"\n") + 1] or head
        if self._spoke_http or b"HTTP/" in line or bytes(head).split(b" ", 1)[0] in _METHODS:
            return "malformed_request_line"
        return "not_http"

    def _refuse_head(self, fault: str, out: list[bytes]) -> None:
        """The bytes in ``_head`` are not a request head that is read in one way."""
        if self._context.strict and fault not in {"tls", "not_http"}:
            self._head.clear()
            self._reject(fault, None)
            return
        self._go_raw(fault)
        out.append(self.take_held())

    def take_held(self) -> bytes:
        """See ``Tap``."""
        data = bytes(self._head[self._head_passed :])
        self._head.clear()
        self._head_passed = 0
        return data

    def take_kept(self) -> bytes:
        """See ``Tap``."""
        kept, self._response_kept = self._response_kept, b""
        return kept

    def client_eof(self) -> bytes:
        """See ``Tap``."""
        if self._client_state == _HEAD and self._head:
            self.signal = Signal.NONE
            return self.take_held()
        return b""

    # ---- from the server

    def server(self, data: bytes) -> bytes:
        """See ``Tap``."""
        if self._response_kept:
            data = self._response_kept + data
            self._response_kept = b""
        out: list[bytes] = []
        done = 0  # data[:done] is in ``out``, changed or not
        at = 0
        size = len(data)
        while at < size:
            state = self._server_state
            if state == _HEAD:
                end, inserted = self._server_head(data, at)
                if end < 0:
                    if self.signal is not Signal.ANSWER:
                        at = size - len(self._response_kept)
                    break
                if inserted:
                    out += (data[done : end - 2], inserted)
                    done = end - 2
                at = end
            elif state == _FIXED:
                at = self._server_fixed(data, at, size)
            elif state == _CHUNKED:
                at = self._server_chunked(data, at, size)
            elif state == _REFUSED:
                break
            else:
                if state == _UNTIL_CLOSE:
                    assert self._response is not None
                    self._response.tee_response(data, at, size)
                at = size
        if not out and at == size:
            return data
        out.append(data[done:at])
        return b"".join(out)

    def _server_head(self, data: bytes, at: int) -> tuple[int, bytes]:
        """Read a response head at ``at``: the position behind it (-1: there is none), and what to insert at its end."""
        partial = self._response_head
        known = self._response_known = len(partial)
        if known:
            partial += data
            match = framing.RESPONSE_HEAD(bytes(partial))
        else:
            self._response_since = self._context.unix_ns()
            match = framing.RESPONSE_HEAD(data, at)
        if not self._open:
            if not self._spoke_http and _may_be_http2_settings(self.server_said, data):
                self.server_said += data
            else:
                self._response_fault("unsolicited_response" if self._spoke_http else "server_first")
            return -1, b""
        if match is None:
            self._incomplete_response(data, at, known)
            return -1, b""
        if match.end() - match.start() > self._context.max_head_size:
            self._response_fault("response_head_too_long")
            return -1, b""
        fields = match.string[match.start(3) - 2 : match.end() - 2]
        partial.clear()
        inserted = self._complete_response(match, fields)
        return (-1 if self._server_state == _REFUSED else match.end() - known), inserted

    def _incomplete_response(self, data: bytes, at: int, known: int) -> None:
        partial = self._response_head
        if not known:
            partial += data[at:]
        head = bytes(partial)
        fault = ""
        newline = head.find(b"\n")
        if len(head) > self._context.max_head_size:
            fault = "response_head_too_long"
        elif newline < 0:
            fault = "" if framing.RESPONSE_LINE_PREFIX(head) else "malformed_status_line"
        elif not framing.RESPONSE_LINE(head):
            fault = "malformed_status_line"
        elif head.find(b"\r\n\r\n", max(0, known - 3)) >= 0 or head.count(b"\n", known) != head.count(
            b"\r\n", max(0, known - 1)
        ):
            fault = "malformed_response_head"
        if fault:
            self._response_fault(fault)
        elif head.endswith(b"\r\n\r"):
            # what this CR ends may have to be injected into; everything else of the head goes on its way
            self._response_kept = b"\r"
            del partial[-1:]

    def _complete_response(self, match: re.Match[bytes], fields: bytes) -> bytes:
        """Take note of a whole response head; what to insert before its final CRLF."""
        status = int(match[2])
        if 100 <= status < 200 and status != 101:
            return b""  # RFC 9110 section 15.2: an interim response, any number of them
        context = self._context
        exchange = self._open[0]
        lower = fields.lower()
        http10 = match[1] == b"0"
        tunnel = status == 101 or (exchange.method == b"CONNECT" and status < 300)
        if tunnel or status in {204, 304} or exchange.method == b"HEAD":
            length = 0  # RFC 9112 section 6.3
        else:
            length = framing.body_length(lower, http10)
        if length == AMBIGUOUS:
            self._response_fault("ambiguous_response_framing")
            return b""
        if context.strict and (fault := framing.strict_response_fault(match[0])):
            self._response_fault(fault)
            return b""
        exchange.begin_response(self._response_since, status, fields[2:], lower)
        if tunnel:
            self._tunnel(exchange)
        else:
            self._upgrade_declined(exchange)
            if length == 0:
                self._response_ended(exchange)
            else:
                self._response = exchange
                if length == CHUNKED:
                    self._server_state = _CHUNKED
                    self._server_chunks = ChunkReader(exchange.tee_response, context.max_head_size)
                elif length == ABSENT:
                    self._server_state = _UNTIL_CLOSE
                else:
                    self._server_state = _FIXED
                    self._server_left = length
        if exchange.plan is not None and lower.find(b"\r\ntraceparent:") >= 0:
            span_id = context.random_bits(64) or 1
            return b"traceparent: 00-%b-%016x-01\r\n" % (exchange.plan.trace_id, span_id)
        return b""

    def _upgrade_declined(self, exchange: OpenExchange) -> None:
        if not exchange.may_tunnel:
            return
        exchange.may_tunnel = False
        if self._client_state == _BEHIND_UPGRADE:
            if self._behind_upgrade:
                self._go_raw("pipelined_behind_upgrade")
            else:
                self._client_state = _HEAD

    def _tunnel(self, exchange: OpenExchange) -> None:
        """The connection speaks something else from here on (RFC 9110 sections 7.8 and 9.3.6)."""
        self._context.counters["tunnels:" + ("connect" if exchange.method == b"CONNECT" else "upgrade")] += 1
        self._open.popleft()
        exchange.finish("")
        self._stop_watching()  # whatever else was open was a mistake of the client's

    def _server_fixed(self, data: bytes, at: int, size: int) -> int:
        exchange = self._response
        assert exchange is not None
        end = at + self._server_left
        if end > size:
            exchange.tee_response(data, at, size)
            self._server_left = end - size
            return size
        exchange.tee_response(data, at, end)
        self._response_ended(exchange)
        return end

    def _server_chunked(self, data: bytes, at: int, size: int) -> int:
        chunks, exchange = self._server_chunks, self._response
        assert chunks is not None
        assert exchange is not None
        try:
            end = chunks.feed(data, at)
        except ChunkError as error:
            self._response_fault(error.reason)
            return size
        if end < 0:
            return size
        exchange.response_trailers = chunks.trailers
        self._server_chunks = None
        self._response_ended(exchange)
        return end

    def _response_ended(self, exchange: OpenExchange) -> None:
        if self._server_state == _RAW:
            return
        self._server_state = _HEAD
        self._response = None
        self._open.popleft()
        exchange.response_ended = True
        exchange.end_ns = self._context.unix_ns()
        if exchange.request_ended:
            exchange.finish("")
        if self.signal is Signal.REJECTING:
            self._try_answer()

    def server_eof(self) -> bytes:
        """See ``Tap``."""
        kept = self._response_kept
        self._response_kept = b""
        if self._server_state == _UNTIL_CLOSE and self._response is not None:
            self._response_ended(self._response)
        for exchange in self._open:
            exchange.finish("upstream_aborted")
        self._open.clear()
        return kept

    # ---- ends

    def close(self, error: ErrorType) -> None:
        """See ``Tap``."""
        if self._request is not None and self._request.response_ended:
            # answered before its body was complete, and complete it never became
            self._request.finish("")
        for exchange in self._open:
            exchange.finish(error)
        self._open.clear()

    def _stop_watching(self) -> None:
        self._client_state = self._server_state = _RAW
        self._request = self._response = None
        self.signal = Signal.RAW
        self._context.counters["abandoned"] += len(self._open)
        self._open.clear()

    def _go_raw(self, reason: str) -> None:
        self._context.counters["raw:" + reason] += 1
        self._stop_watching()

    def _response_fault(self, reason: str) -> None:
        """The bytes from upstream are not a response that is read in one way."""
        if not self._context.strict or reason == "server_first":
            self._go_raw(reason)
            return
        self._context.counters["rejected:" + reason] += 1
        if self._server_state == _HEAD and self._open and not self._response_known:
            self.answer = BAD_GATEWAY
            self.signal = Signal.ANSWER
        else:
            self.signal = Signal.ABORT
        self._client_state = self._server_state = _REFUSED
        self.close("protocol_error")

    def _reject(self, reason: str, exchange: OpenExchange | None) -> None:
        """Strict reading of the client's bytes: refuse them, behind the answers that are still to come."""
        self._context.counters["rejected:" + reason] += 1
        self._client_state = _REFUSED
        self._rejected = exchange
        self._request = None
        self.signal = Signal.REJECTING
        self._try_answer()

    def _try_answer(self) -> None:
        first = self._open[0] if self._open else None
        if first is not None and first is not self._rejected:
            return
        if self._server_state != _HEAD or self._response_head:
            self.signal = Signal.ABORT
        else:
            already = self._rejected is not None and self._rejected.response_ended
            self.answer = b"" if already else BAD_REQUEST
            self.signal = Signal.ANSWER
        self._client_state = self._server_state = _REFUSED
        self.close("protocol_error")
