"""What both sides of the HTTP/1.x tap share: where each side is, which exchanges are open, and how watching ends.

Watching ends early in one of two ways, each with a reason that is counted: *raw* (from here on every byte passes
unseen) or, with a strict context, *rejected* (from here on no byte passes). ``docs/protocol-decisions.md`` lists them.
"""

from collections import deque
from typing import Final

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps import partials
from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.http1_framing import ChunkReader
from sp_proxy.taps.open_exchange import OpenExchange

HEAD: Final = 0
FIXED: Final = 1
CHUNKED_BODY: Final = 2
UNTIL_CLOSE: Final = 3
BEHIND_UPGRADE: Final = 4
"""The client's bytes after a request which may turn the connection into a tunnel, until that is decided."""
RAW: Final = 5
REFUSED: Final = 6

BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
BAD_GATEWAY: Final = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

MAX_OPEN: Final = 4096
"""Requests without an answer on one connection. Browsers that pipelined stopped at 8, load generators at some hundreds."""
MAX_OPEN_BYTES: Final = 8 * 1024 * 1024
"""What exchanges that wait behind others may hold for capture, on one connection; beyond it they are not captured."""

NONE: Final = Signal.NONE
HOLDING: Final = Signal.HOLDING
REJECTING: Final = Signal.REJECTING
"""As names of this module: looking a member up in its class costs at every call."""


class Http1State:
    """The state of one connection. Its two sides, ``RequestSide`` and ``ResponseSide``, only add functions."""

    __slots__ = (
        "_behind_upgrade",
        "_client_chunks",
        "_client_left",
        "_client_state",
        "_context",
        "_draining",
        "_endpoints",
        "_fresh",
        "_head",
        "_head_passed",
        "_head_since",
        "_open",
        "_open_bytes",
        "_rejected",
        "_request",
        "_response",
        "_response_head",
        "_response_passed",
        "_response_since",
        "_server_chunks",
        "_server_left",
        "_server_state",
        "_spoke_http",
        "answer",
        "preface_passed",
        "server_said",
        "signal",
        "upgraded",
        "upgrading",
    )

    def __init__(self, context: TapContext, endpoints: Endpoints) -> None:
        self._context = context
        self._endpoints = endpoints
        self.signal = NONE
        self.answer = b""
        self.server_said = bytearray()
        """What a server said before the client did, as long as that may be HTTP/2; it has been forwarded."""
        self.preface_passed = 0
        """So many bytes of an HTTP/2 preface have been forwarded when the signal is HTTP2."""
        self.upgraded: OpenExchange | None = None
        """The signal is HTTP2 because of this request's upgrade (RFC 7540 section 3.2): its answer is that of stream 1."""
        self.upgrading = b""
        """The fields of the latest request that asks for an upgrade."""
        self._fresh = True  # nothing has come from the client
        self._draining = False
        self._spoke_http = False  # a whole request head has
        self._rejected: OpenExchange | None = None  # in whose request the client was refused
        self._open: deque[OpenExchange] = deque()  # without a complete response, in the order of their requests
        self._open_bytes = 0
        # client side
        self._client_state = HEAD
        self._client_left = 0
        self._client_chunks: ChunkReader | None = None
        self._request: OpenExchange | None = None  # whose request body is being read
        self._head = bytearray()  # an incomplete head
        self._head_passed = 0  # so many bytes of it have been forwarded
        self._head_since = 0
        self._behind_upgrade = False  # bytes have passed unread: if the upgrade is declined, the place is lost
        # server side
        self._server_state = HEAD
        self._server_left = 0
        self._server_chunks: ChunkReader | None = None
        self._response: OpenExchange | None = None  # whose response body is being read
        self._response_head = bytearray()
        self._response_passed = 0
        self._response_since = 0

    @property
    def idle(self) -> bool:
        """See ``Tap``."""
        return not self._open and self._request is None and not self._head and self._client_state == HEAD

    @property
    def held(self) -> int:
        """Bytes in its buffers, open exchanges not counted."""
        chunks = (self._client_chunks, self._server_chunks)
        return len(self._head) + len(self._response_head) + sum(each.held for each in chunks if each is not None)

    def drain(self, *, patient: bool) -> bytes:  # noqa: ARG002  # it never disturbs
        """See ``Tap``. The next response on which no other is queued carries ``connection: close`` (RFC 9112 section 9.6)."""
        self._draining = True
        return b""

    def bulk(self, *, client: bool) -> int:
        """See ``Tap``. What is left of a body with a length, once enough of it was kept."""
        if client:
            exchange = self._request
            if self._client_state == FIXED and exchange is not None and not exchange.wants_request:
                return self._client_left
        else:
            exchange = self._response
            if self._server_state == FIXED and exchange is not None and not exchange.wants_response:
                return self._server_left
        return 0

    def take_held(self) -> bytes:
        """See ``Tap``."""
        data = bytes(self._head[self._head_passed :])
        self._head.clear()
        self._head_passed = 0
        return data

    def take_kept(self) -> bytes:
        """See ``Tap``."""
        data = bytes(self._response_head[self._response_passed :])
        self._response_head.clear()
        self._response_passed = 0
        return data

    def record_open(self, before_ns: int) -> None:
        """See ``Tap``."""
        request = self._request
        if request is not None and request.response_ended:
            partials.record_open((request,), before_ns)
        if self._open:
            partials.record_open(self._open, before_ns)

    def close(self, error: ErrorType) -> None:
        """See ``Tap``."""
        request = self._request
        if request is not None and request.response_ended:
            # Answered before its body was complete, and complete it never became: usual for a refused upload.
            request.finish("")
        for exchange in self._open:
            exchange.finish(error)
        self._open.clear()
        self._request = self._response = None

    def _stop_watching(self) -> None:
        request = self._request
        self._context.counters["abandoned"] += len(self._open) + (request is not None and request.response_ended)
        for exchange in self._open:
            exchange.abandon("protocol_error")
        if request is not None:
            request.abandon("protocol_error")
        self._client_state = self._server_state = RAW
        self._request = self._response = None
        self._client_chunks = self._server_chunks = None
        self._open.clear()
        self.signal = Signal.RAW

    def _go_raw(self, reason: str) -> None:
        if self._client_state != RAW:
            self._context.went_raw(reason, self._endpoints.server_port)
        self._stop_watching()

    def _client_goes_raw(self, reason: str) -> None:
        """The client's bytes are read no more; the answers to what was asked before them still are, for that has happened."""
        broken = self._request
        if len(self._open) <= (broken is not None):
            self._go_raw(reason)
            return
        self._context.went_raw(reason, self._endpoints.server_port)
        if broken is not None:
            self._context.counters["abandoned"] += 1
            self._open.pop().abandon("protocol_error")
        self._request = None
        self._client_chunks = None
        self._client_state = RAW
        self.signal = NONE

    def _refuse(self, signal: Signal, answer: bytes) -> None:
        """Strict reading: nothing passes any more, in either direction."""
        self.answer = answer
        self.signal = signal
        self._client_state = self._server_state = REFUSED
        self._client_chunks = self._server_chunks = None
        self._head.clear()
        self._head_passed = 0
        self.close("protocol_error")

    def _reject(self, reason: str, exchange: OpenExchange | None) -> None:
        """Strict reading of the client's bytes: refuse them, behind the answers that are still to come.

        ``exchange`` is the one in whose body they stand; None if they are no part of a request that was let through.
        """
        self._context.counters["rejected:" + reason] += 1
        self._client_state = REFUSED
        self._client_chunks = None
        self._head.clear()
        self._head_passed = 0
        if exchange is not None and exchange.response_ended:
            exchange.finish("protocol_error")
        self._rejected = exchange
        self._request = None
        self.signal = REJECTING
        self._try_answer()

    def _try_answer(self) -> None:
        """Refuse the client now, unless answers to earlier requests are still to come."""
        exchange = self._rejected
        if self._open and self._open[0] is not exchange:
            return
        if self._server_state != HEAD or self._response_head:
            self._refuse(Signal.ABORT, b"")  # its response has begun: no other can be given
        else:
            self._refuse(Signal.ANSWER, b"" if exchange is not None and exchange.response_ended else BAD_REQUEST)

    def _response_fault(self, reason: str, begun: bool) -> None:
        """The bytes from upstream are not a response that is read in one way. ``begun``: some of them have passed."""
        if not self._context.strict or reason == "server_first":
            self._go_raw(reason)
            return
        self._context.counters["rejected:" + reason] += 1
        if self._open and self._server_state == HEAD and not begun:
            self._refuse(Signal.ANSWER, BAD_GATEWAY)
        else:
            self._refuse(Signal.ABORT, b"")
