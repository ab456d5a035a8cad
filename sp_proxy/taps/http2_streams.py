"""The streams of one HTTP/2 connection and their exchanges: what a request's block becomes, and what is kept for its record.

Memory is bounded: the open streams, and what their exchanges keep.
"""

from sp_proxy.core.exchange import ErrorType
from sp_proxy.core.grpc_messages import CallMessages
from sp_proxy.core.head_edits import captured, joined
from sp_proxy.core.inject import RANDOM_BITS
from sp_proxy.taps import partials
from sp_proxy.taps.context import Endpoints, TapContext
from sp_proxy.taps.hpack import Block, encode_unindexed, literal
from sp_proxy.taps.http2_blocks import additions, lines, list_size, with_authority, without
from sp_proxy.taps.http2_heads import parts
from sp_proxy.taps.http2_sides import UnexpectedError
from sp_proxy.taps.open_exchange import OpenExchange

MAX_STREAMS = 4096
"""Streams watched at a time. More are forwarded and injected, not captured; servers allow 100 to 250 by default."""
MAX_OPEN_BYTES = 16 * 1024 * 1024
"""What the open exchanges of one connection may keep for capture: 128 with two whole bodies. Beyond it new ones are not
captured, and no more is kept of the others."""
_MAX_UNWATCHED = 65536


class Stream:
    """What is known of one stream that has not ended."""

    __slots__ = ("answered", "exchange", "kept")

    def __init__(self, exchange: OpenExchange, kept: int) -> None:
        self.exchange = exchange
        self.answered = False  # the final response's head has been seen
        self.kept = kept  # bytes that the exchange holds, nearly


class Streams:
    """Those of one connection. ``client``, where it is asked for: whether it is the client who did it, or else the server."""

    __slots__ = (
        "_context",
        "_endpoints",
        "_kept",
        "_last_id",
        "_unwatched",
        "_watched",
        "anew",
        "blind",
        "largest_list",
    )

    def __init__(self, context: TapContext, endpoints: Endpoints) -> None:
        self._context = context
        self._endpoints = endpoints
        self.anew = False
        """The client's blocks are encoded anew."""
        self.blind = False
        """The server's bytes are no longer read: nothing that begins now can be watched to its end."""
        self.largest_list = 1 << 32
        """The header list that the server says it takes."""
        self._watched: dict[int, Stream] = {}
        self._unwatched: dict[int, int] = {}  # open, but no record is made of them: which sides have ended
        self._kept = 0  # by the open exchanges
        self._last_id = 0

    def __bool__(self) -> bool:
        """Whether any is open."""
        return bool(self._watched or self._unwatched)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._watched or stream_id in self._unwatched

    def record_open(self, before_ns: int) -> None:
        """See ``Tap``."""
        if self._watched:
            partials.record_open([stream.exchange for stream in self._watched.values()], before_ns)

    def close(self, error: ErrorType) -> None:
        """See ``Tap``."""
        for stream in self._watched.values():
            stream.exchange.finish("" if stream.exchange.response_ended else error)
        self._watched.clear()
        self._kept = 0

    def abandon(self) -> None:
        """No more is heard of those that are open now."""
        self._context.counters["abandoned"] += len(self._watched)
        for stream in self._watched.values():
            stream.exchange.abandon("protocol_error")
        if self.blind:
            self._unwatched.update((stream_id, 0) for stream_id in self._watched)
        self._watched.clear()
        self._kept = 0

    def content(self, stream_id: int, data: bytes, at: int, end: int, *, client: bool) -> None:
        """A piece of content passed by. What is kept is the beginning: behind a piece that was not kept nothing is."""
        stream = self._watched.get(stream_id)
        if stream is None:
            return
        exchange = stream.exchange
        messages = exchange.messages
        if messages is not None:
            (messages.request if client else messages.response).feed(data, at, end)
        full = self._kept >= MAX_OPEN_BYTES
        if client:
            have = len(exchange.request_body)
            if full or have < exchange.request_size:
                self._context.counters["bodies_cut:too_many_open"] += (
                    exchange.wants_request and have == exchange.request_size
                )
                exchange.request_size += end - at
                return
            exchange.tee_request(data, at, end)
            kept = len(exchange.request_body) - have
        else:
            have = len(exchange.response_body)
            if full or have < exchange.response_size:
                self._context.counters["bodies_cut:too_many_open"] += (
                    exchange.wants_response and have == exchange.response_size
                )
                exchange.response_size += end - at
                return
            exchange.tee_response(data, at, end)
            kept = len(exchange.response_body) - have
        stream.kept += kept
        self._kept += kept

    def reset(self, stream_id: int, *, client: bool) -> None:
        """It was reset."""
        self._unwatched.pop(stream_id, None)
        stream = self._watched.pop(stream_id, None)
        if stream is not None:
            self._kept -= stream.kept
            # section 8.1: a server may reset with NO_ERROR what it has answered early
            error: ErrorType = "client_aborted" if client else "upstream_aborted"
            stream.exchange.finish("" if stream.exchange.response_ended else error)

    def end(self, stream_id: int, *, client: bool) -> None:
        """One side has finished it."""
        stream = self._watched.get(stream_id)
        if stream is None:
            if stream_id in self._unwatched:
                self._unwatched[stream_id] |= 1 if client else 2
                if self._unwatched[stream_id] == 3:
                    del self._unwatched[stream_id]
            return
        exchange = stream.exchange
        if client:
            exchange.request_ended = True
        else:
            exchange.response_ended = True
            exchange.end_ns = self._context.unix_ns()
        if exchange.request_ended and exchange.response_ended:
            del self._watched[stream_id]
            self._kept -= stream.kept
            exchange.finish("")

    def request(self, stream_id: int, block: Block, encoded: bytes) -> bytes | None:
        """A request's head or trailers: the block to forward instead, or None for the same."""
        if stream_id <= self._last_id:
            stream = self._watched.get(stream_id)
            if stream is not None:
                stream.exchange.request_trailers = self._keep_trailers(stream, block)
            return encode_unindexed(block) if self.anew else None
        if not stream_id & 1:
            raise UnexpectedError("h2_stream_id")  # section 5.1.1
        self._last_id = stream_id
        context = self._context
        head = context.http2_heads.request(block)
        if head is None:
            context.counters["h2_malformed_requests"] += 1  # section 8.1.1: a matter between the two ends
            return encode_unindexed(block) if self.anew else None
        decision, fields = head.decision, head.fields
        context.counters[head.counter] += 1
        exchange = OpenExchange(
            context,
            self._endpoints,
            context.unix_ns(),
            head.method,
            head.target,
            head.authority,
            "2",
            decision.capture,
            decision.rule,
            head.scheme,
        )
        exchange.may_tunnel = head.method == b"CONNECT"
        if decision.capture and head.call:
            exchange.messages = CallMessages()
        result = None
        if decision.inject:
            random_bits = context.random_bits(RANDOM_BITS)
            injector = context.injector
            plan = injector.fresh_plan(random_bits) if head.plain else injector.plan(head.lower, fields, random_bits)
            kept = block
            if context.hooks is not None:
                edit = context.hooks.edit(context.direction, head.method, head.target, head.authority, fields)
                if edit is not None:
                    plan = joined(plan, edit, head.lower, host=not head.named)
                    exchange.capture, exchange.tags = captured(decision, edit), edit.tags
                    if edit.authority:
                        exchange.authority = edit.authority
                        kept = with_authority(block, edit.authority)
            exchange.plan = plan
            if plan.remove:
                kept = without(kept, plan.remove)
            if block.size <= self.largest_list < kept.size + list_size(plan):
                # The origin would refuse with our fields what it accepts without.
                context.counters["h2_not_injected"] += 1
                if self.anew:
                    result = encode_unindexed(block)
            else:
                if kept is not block or self.anew:
                    self.anew = True
                    result = encode_unindexed(kept) + additions(plan)
                    fields = b"\r\n" + (lines(parts(kept.fields)[1]) or b"")
                else:
                    result = encoded + additions(plan)
                fields += plan.lines
        elif self.anew:
            result = encode_unindexed(block)
        if exchange.capture:
            exchange.request_fields = fields[2:]
        self._watch(stream_id, exchange)
        return result

    def upgraded(self, exchange: OpenExchange) -> None:
        """The request with which the connection was upgraded is that of stream 1 (RFC 7540 section 3.2)."""
        exchange.may_tunnel = False
        exchange.protocol_version = "2"
        self._last_id = 1
        self._watch(1, exchange)

    def _watch(self, stream_id: int, exchange: OpenExchange) -> None:
        """A request has begun: look at what comes of it, if there is room for that."""
        counters = self._context.counters
        if self.blind or len(self._watched) >= MAX_STREAMS:
            counters["h2_unwatched_streams"] += 1
            if len(self._unwatched) < _MAX_UNWATCHED:
                self._unwatched[stream_id] = 0
            return
        kept = len(exchange.request_fields)
        if exchange.capture and kept > self._context.max_head_size:
            exchange.give_up()
            counters["requests_skipped:head_too_long"] += 1
        elif exchange.capture and self._kept + kept > MAX_OPEN_BYTES:
            exchange.give_up()
            counters["requests_skipped:too_many_open"] += 1
        kept = len(exchange.request_fields)
        self._kept += kept
        self._watched[stream_id] = Stream(exchange, kept)

    def _keep_trailers(self, stream: Stream, block: Block) -> bytes:
        """The trailers as they go into the record."""
        if not stream.exchange.capture:
            return b""
        trailers = lines(block.fields) or b""
        if len(trailers) > self._context.max_head_size:
            self._context.counters["h2_trailers_too_long"] += 1
            return b""
        stream.kept += len(trailers)
        self._kept += len(trailers)
        return trailers

    def response(self, stream_id: int, block: Block, encoded: bytes) -> bytes | None:
        """A response's head or trailers: the block to forward instead, or None for the same."""
        stream = self._watched.get(stream_id)
        if stream is None:
            return None
        exchange = stream.exchange
        if stream.answered:
            exchange.response_trailers = self._keep_trailers(stream, block)
            return None
        head = self._context.http2_heads.response(block)
        if head is None:
            self._context.counters["h2_malformed_responses"] += 1
            exchange.abandon("protocol_error")
            self._stop_watching(stream_id)
            return None
        if 100 <= head.status < 200:
            return None  # section 8.1: an interim response
        stream.answered = True
        fields = head.fields
        exchange.begin_response(self._context.unix_ns(), head.status, fields, head.skipped)
        if exchange.capture:
            if len(fields) > self._context.max_head_size:
                exchange.give_up()
                self._context.counters["responses_skipped:head_too_long"] += 1
            else:
                stream.kept += len(fields)
                self._kept += len(fields)
        if exchange.may_tunnel and 200 <= head.status < 300:
            # section 8.5 and RFC 8441: a tunnel; what passes in it is not content
            self._context.counters["tunnels:connect"] += 1
            self._stop_watching(stream_id)
            exchange.finish("")
        plan = exchange.plan
        if plan is not None and head.traced:
            span_id = self._context.random_bits(64) or 1
            return encoded + literal(b"traceparent", b"00-%b-%016x-01" % (plan.trace_id, span_id))
        return None

    def _stop_watching(self, stream_id: int) -> None:
        """No record is made of it from here on; it is still open."""
        stream = self._watched.pop(stream_id)
        self._kept -= stream.kept
        self._unwatched[stream_id] = 1 if stream.exchange.request_ended else 0
