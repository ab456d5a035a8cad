r"""The HTTP/2 tap (RFC 9113): watches one connection, appends fields to request blocks, and makes a record of each exchange.

Frames go on as they come. Only a header block is held, until its last frame is there: a block that is not complete means nothing
to its receiver. Injected fields are appended to a request's block as literals without indexing, which touches neither stream
ids, flow control nor a dynamic table. From the first block in which a field must be *replaced*, that block and all later
ones from the client are encoded anew without indexing: the origin's table no longer follows the client's, and no longer needs to.

Rules it keeps:

- Anything unexpected makes the connection raw from that byte on, counted by reason. Once blocks have been encoded anew that is
  no longer possible, since later blocks would mean other fields to the origin: then what is unexpected of the client's resets
  the connection, and what is of the server's ends the watching only.
- Memory is bounded: the header block, its number of frames, the tables, the open streams, what is kept of exchanges.
"""

from sp_proxy.core.exchange import ErrorType
from sp_proxy.core.grpc_messages import CallMessages, is_call
from sp_proxy.core.inject import RANDOM_BITS
from sp_proxy.taps import partials
from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.hpack import Block, Decoder, HpackError, encode_unindexed, literal
from sp_proxy.taps.http2_blocks import PEER_FRAME_SIZE, additions, header_frames, lines, list_size, without
from sp_proxy.taps.open_exchange import OpenExchange

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _CONTINUATION = 0, 1, 3, 4, 5, 9
_WHOLE = frozenset((_HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _CONTINUATION))
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_FRAME_HEADER = 9
_SETTINGS_HEADER_TABLE_SIZE, _SETTINGS_MAX_FRAME_SIZE, _SETTINGS_MAX_HEADER_LIST_SIZE = 1, 5, 6
MAX_BLOCK_BYTES = 1 << 20
"""Largest header block with its frames: what Go's server takes, and the most generous of those that set a limit."""
MAX_BLOCK_FRAMES = 4096
"""CONTINUATION frames may be empty (CVE-2024-27316 and its kin): their number is limited too."""
MAX_DECODED_BYTES = 8 * 1024 * 1024
"""Of the header lists in one read, which has at most 256 KiB: a byte may stand for 4,000 of them (RFC 7541 section 7.3), and
what is encoded anew would be sent. Requests of 5 KiB of fields each would have to come by 1,600 at a time."""
MAX_STREAMS = 4096
"""Streams watched at a time. More are forwarded and injected, not captured; servers allow 100 to 250 by default."""
MAX_OPEN_BYTES = 16 * 1024 * 1024
"""What the open exchanges of one connection may keep for capture: 128 with two whole bodies. Beyond it new ones are not
captured, and no more is kept of the others."""
_MAX_UNWATCHED = 65536

_GOAWAY = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0"
"""Section 6.8: last stream id 2^31-1 and NO_ERROR, with which a server begins a graceful end."""


class _UnexpectedError(Exception):
    """Carries the reason, which becomes a counter's label."""


class _Stream:
    """What is known of one stream that has not ended."""

    __slots__ = ("answered", "exchange", "kept")

    def __init__(self, exchange: OpenExchange, kept: int) -> None:
        self.exchange = exchange
        self.answered = False  # the final response's head has been seen
        self.kept = kept  # bytes that the exchange holds, nearly


class _Direction:
    """One direction of the connection."""

    __slots__ = (
        "ahead",
        "block_flags",
        "block_id",
        "block_priority",
        "block_promise",
        "buffer",
        "decoded",
        "decoder",
        "ends_stream",
        "fragments",
        "frames",
        "held",
        "largest_frame",
        "left",
        "needed",
        "pad",
        "pad_unknown",
        "spoke",
        "stream_id",
    )

    def __init__(self, *, spoke: bool) -> None:
        self.spoke = spoke  # its first frame has been seen, which must be SETTINGS (section 3.4)
        self.decoder = Decoder()
        self.decoded = 0  # bytes of header lists in this read
        self.buffer = bytearray()  # an incomplete frame which must be seen whole
        self.ahead = 0  # so many of the bytes that are held were forwarded before they came here
        self.needed = 0  # bytes of it, before looking again is of use
        self.largest_frame = PEER_FRAME_SIZE  # that its receiver has allowed so far
        # the payload that is passing by
        self.left = 0
        self.stream_id = 0  # of a DATA frame, else 0
        self.pad = 0  # its last bytes are padding
        self.pad_unknown = False
        self.ends_stream = False
        # the header block that is being gathered
        self.block_id = 0
        self.block_flags = 0
        self.block_priority = b""
        self.block_promise = False
        self.fragments: list[bytes] = []
        self.held = bytearray()
        self.frames = 0

    def take(self) -> bytes:
        """All bytes that have not been forwarded."""
        data = bytes(self.held + self.buffer)
        self.held.clear()
        self.buffer.clear()
        return self.yet(data)

    def yet(self, data: bytes) -> bytes:
        """What of the bytes to forward has not been."""
        ahead = self.ahead
        if ahead:
            self.ahead = max(0, ahead - len(data))
            return data[ahead:]
        return data


class Http2Tap:
    """One per connection that begins with the preface. See ``context.Tap`` for the calls."""

    __slots__ = (
        "_anew",
        "_blind",
        "_client",
        "_context",
        "_endpoints",
        "_goaway_due",
        "_goaway_patient",
        "_goaway_sent",
        "_kept",
        "_largest_list",
        "_last_id",
        "_preface",
        "_server",
        "_streams",
        "_unwatched",
        "answer",
        "signal",
    )

    def __init__(self, context: TapContext, endpoints: Endpoints) -> None:
        self._context = context
        self._endpoints = endpoints
        self.signal = Signal.NONE
        self.answer = b""
        self._preface = True  # not complete yet
        self._anew = False  # the client's blocks are encoded anew
        self._blind = False  # the server's bytes pass unread
        self._client = _Direction(spoke=True)
        self._server = _Direction(spoke=False)
        self._streams: dict[int, _Stream] = {}
        self._unwatched: dict[int, int] = {}  # open streams of which no record is made: which sides have ended
        self._kept = 0  # by the open exchanges
        self._largest_list = 1 << 32  # the header list that the server says it takes
        self._last_id = 0
        self._goaway_due = False  # a drain has begun
        self._goaway_patient = False
        self._goaway_sent = False

    @property
    def encodes_anew(self) -> bool:
        """Whether the client's blocks mean something else to the origin than they say: they cannot pass without this tap."""
        return self._anew

    @property
    def idle(self) -> bool:
        """See ``Tap``."""
        return (
            not self._streams
            and not self._unwatched
            and not self._client.left
            and not self._client.buffer
            and not self._client.held
        )

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        side = self._client
        if self._preface:
            buffer = side.buffer
            buffer += data
            if len(buffer) < len(PREFACE):
                return b""
            data = bytes(buffer)
            buffer.clear()
            self._preface = False
            if not data.startswith(PREFACE):
                self._give_up("h2_preface", side)
                return side.yet(data)
            return side.yet(PREFACE + self._frames(side, data[len(PREFACE) :]))
        return self._frames(side, data)

    def server(self, data: bytes) -> bytes:
        """See ``Tap``."""
        if self._blind:
            return data
        return self._server.yet(self._frames(self._server, data))

    def begin(self, server_said: bytes, preface_passed: int) -> None:
        """Before this tap there was another. What the server has said, and so many bytes of the client's preface, have been
        forwarded, which cannot be taken back.
        """
        self._client.buffer += PREFACE[:preface_passed]
        self._client.ahead = preface_passed
        self._frames(self._server, server_said)
        self._server.ahead = len(self._server.buffer) + len(self._server.held)

    def bulk(self, *, client: bool) -> int:  # noqa: ARG002
        """See ``Tap``. Every frame is looked at."""
        return 0

    def passed(self, size: int, *, client: bool) -> None:
        """See ``Tap``."""

    def timeout(self) -> bytes:
        """See ``Tap``. Nothing is held that could decide differently later."""
        return b""

    def take_held(self) -> bytes:
        """See ``Tap``."""
        return self._client.take()

    def take_kept(self) -> bytes:
        """See ``Tap``."""
        return self._server.take()

    def client_eof(self) -> bytes:
        """See ``Tap``."""
        return self._client.take()

    def server_eof(self) -> bytes:
        """See ``Tap``."""
        self.close("upstream_aborted")
        return self._server.take()

    def drain(self, *, patient: bool) -> bytes:
        """See ``Tap``. A GOAWAY of ours goes between two frames of the server's: no new streams, the open ones finish.

        Patient: once no stream is open, for some clients take a GOAWAY for the end of their open streams too (``h2``, and so httpx).
        """
        if self._goaway_sent:
            return b""
        self._goaway_due = True
        self._goaway_patient = patient
        return self._goaway()

    def _goaway(self) -> bytes:
        """GOAWAY if it is due and this is the place for it."""
        server = self._server
        if not server.spoke or self._blind or server.left or server.buffer or server.block_id:
            return b""
        if self._goaway_patient and (self._streams or self._unwatched):
            return b""
        self._goaway_due = False
        self._goaway_sent = True
        return _GOAWAY

    def record_open(self, before_ns: int) -> None:
        """See ``Tap``."""
        if self._streams:
            partials.record_open([stream.exchange for stream in self._streams.values()], before_ns)

    def close(self, error: ErrorType) -> None:
        """See ``Tap``."""
        for stream in self._streams.values():
            stream.exchange.finish("" if stream.exchange.response_ended else error)
        self._streams.clear()
        self._kept = 0

    # ---- frames

    def _frames(self, side: _Direction, data: bytes) -> bytes:
        buffer = side.buffer
        if buffer:
            buffer += data
            if len(buffer) < side.needed:
                return b""
            data = bytes(buffer)
            buffer.clear()
        out: list[bytes] = []
        side.decoded = 0
        done = at = 0  # data[:done] is in ``out`` or held
        size = len(data)
        try:
            while at < size:
                if side.left:
                    at = self._payload(side, data, at, size)
                    continue
                if self._goaway_due and side is self._server and (goaway := self._goaway()):
                    out += (data[done:at], goaway)
                    done = at
                if not side.spoke and (data[at] or (size - at > 3 and data[at + 3] != _SETTINGS)):
                    self.close("protocol_error")
                    raise _UnexpectedError("h2_server_preface")
                if size - at < _FRAME_HEADER:
                    side.needed = _FRAME_HEADER
                    break
                length = int.from_bytes(data[at : at + 3])
                kind, flags = data[at + 3], data[at + 4]
                stream_id = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
                if side.block_id and (kind != _CONTINUATION or stream_id != side.block_id):
                    raise _UnexpectedError("h2_interrupted_block")  # section 4.3
                if kind not in _WHOLE:
                    at += _FRAME_HEADER
                    self._begin_payload(side, kind, flags, stream_id, length)
                    continue
                end = at + _FRAME_HEADER + length
                # What is an error by its length alone is not held: its receiver may say so before all of it is there.
                if length > side.largest_frame or length > MAX_BLOCK_BYTES or (kind == _RST_STREAM and length != 4):
                    raise _UnexpectedError("h2_frame_size")
                if kind == _SETTINGS and length % 6:
                    raise _UnexpectedError("h2_settings")
                if end > size:
                    side.needed = _FRAME_HEADER + length
                    break
                payload = data[at + _FRAME_HEADER : end]
                if kind == _SETTINGS:
                    self._settings(side, flags, payload)
                elif kind == _RST_STREAM:
                    self._reset(side, stream_id)
                else:
                    out.append(data[done:at])
                    done = end
                    side.held += data[at:end]
                    self._block_frame(side, kind, flags, stream_id, payload)
                    if flags & _END_HEADERS:
                        out.append(self._block(side))
                at = end
        except (_UnexpectedError, HpackError) as error:
            self._give_up(str(error), side)
            held = bytes(side.held)
            side.held.clear()
            if self.signal is Signal.ABORT:  # nothing of what the origin would read in another way
                return b"".join((*out, data[done:at]))
            return b"".join((*out, held, data[done:]))
        except Exception:  # a fault of ours: who takes what is held shall miss nothing
            buffer += b"".join((*out, bytes(side.held), data[done:]))
            side.held.clear()
            raise
        out.append(data[done:at])
        if at < size:
            buffer += data[at:]
        elif self._goaway_due and side is self._server:
            out.append(self._goaway())
        return out[0] if len(out) == 1 else b"".join(out)

    def _begin_payload(self, side: _Direction, kind: int, flags: int, stream_id: int, length: int) -> None:
        side.left = length
        side.pad = 0
        side.pad_unknown = False
        side.ends_stream = False
        side.stream_id = 0
        if kind == _DATA and (stream_id in self._streams or stream_id in self._unwatched):
            side.stream_id = stream_id
            side.pad_unknown = bool(flags & _PADDED)
            side.ends_stream = bool(flags & _END_STREAM)
            if not length and side.ends_stream:
                self._end_stream(side, stream_id)

    def _payload(self, side: _Direction, data: bytes, at: int, size: int) -> int:
        """Let a piece of payload pass; the position behind it."""
        stream = self._streams.get(side.stream_id) if side.stream_id else None
        if side.pad_unknown:  # section 6.1: the first byte of a padded frame
            side.pad_unknown = False
            side.pad = data[at]
            side.left -= 1
            at += 1
            if side.pad > side.left:
                raise _UnexpectedError("h2_padding")
        end = min(size, at + side.left)
        side.left -= end - at
        if stream is not None:
            content_end = end - max(0, side.pad - side.left)
            if content_end > at:
                self._tee(side, stream, data, at, content_end)
        if not side.left and side.ends_stream:
            self._end_stream(side, side.stream_id)
        return end

    def _tee(self, side: _Direction, stream: _Stream, data: bytes, at: int, end: int) -> None:
        """A piece of content passed by. What is kept is the beginning: behind a piece that was not kept nothing is."""
        exchange = stream.exchange
        messages = exchange.messages
        if messages is not None:
            (messages.request if side is self._client else messages.response).feed(data, at, end)
        if side is self._client:
            have = len(exchange.request_body)
            if have < exchange.request_size or self._kept >= MAX_OPEN_BYTES:
                exchange.request_size += end - at
                return
            exchange.tee_request(data, at, end)
            kept = len(exchange.request_body) - have
        else:
            have = len(exchange.response_body)
            if have < exchange.response_size or self._kept >= MAX_OPEN_BYTES:
                exchange.response_size += end - at
                return
            exchange.tee_response(data, at, end)
            kept = len(exchange.response_body) - have
        stream.kept += kept
        self._kept += kept

    def _settings(self, side: _Direction, flags: int, payload: bytes) -> None:
        side.spoke = True
        if flags & _ACK:
            return
        other = self._server if side is self._client else self._client
        for at in range(0, len(payload), 6):
            setting, value = int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6])
            if setting == _SETTINGS_HEADER_TABLE_SIZE:
                other.decoder.allow(value)
            elif setting == _SETTINGS_MAX_FRAME_SIZE:
                # The largest so far: frames that were sent before a smaller one was seen may be on their way.
                other.largest_frame = max(other.largest_frame, value)
            elif setting == _SETTINGS_MAX_HEADER_LIST_SIZE and other is self._client:
                self._largest_list = value

    def _reset(self, side: _Direction, stream_id: int) -> None:
        self._unwatched.pop(stream_id, None)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._kept -= stream.kept
            # section 8.1: a server may reset with NO_ERROR what it has answered early
            error: ErrorType = "client_aborted" if side is self._client else "upstream_aborted"
            stream.exchange.finish("" if stream.exchange.response_ended else error)

    def _end_stream(self, side: _Direction, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id in self._unwatched:
                self._unwatched[stream_id] |= 1 if side is self._client else 2
                if self._unwatched[stream_id] == 3:
                    del self._unwatched[stream_id]
            return
        exchange = stream.exchange
        if side is self._client:
            exchange.request_ended = True
        else:
            exchange.response_ended = True
            exchange.end_ns = self._context.unix_ns()
        if exchange.request_ended and exchange.response_ended:
            del self._streams[stream_id]
            self._kept -= stream.kept
            exchange.finish("")

    # ---- header blocks

    def _block_frame(self, side: _Direction, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Gather one frame of a block."""
        if kind == _CONTINUATION:
            if not side.block_id:
                raise _UnexpectedError("h2_continuation")
            side.frames += 1
            if side.frames > MAX_BLOCK_FRAMES or len(side.held) > MAX_BLOCK_BYTES:
                raise _UnexpectedError("h2_block_too_large")
            side.fragments.append(payload)
            return
        at, end = 0, len(payload)
        if flags & _PADDED:
            if not payload:
                raise _UnexpectedError("h2_padding")
            at, end = 1, end - payload[0]
        priority = b""
        if kind == _PUSH_PROMISE:
            if side is self._client:
                raise _UnexpectedError("h2_push_promise")
            at += 4
        elif flags & _PRIORITY:
            priority = payload[at : at + 5]
            at += 5
        if at > end or not stream_id:
            raise _UnexpectedError("h2_padding" if stream_id else "h2_stream_id")
        side.block_id = stream_id
        side.block_flags = flags
        side.block_priority = priority
        side.block_promise = kind == _PUSH_PROMISE
        side.fragments = [payload[at:end]]
        side.frames = 1

    def _block(self, side: _Direction) -> bytes:
        """The block is complete: what goes on in its place."""
        encoded = side.fragments[0] if len(side.fragments) == 1 else b"".join(side.fragments)
        block = side.decoder.decode(encoded)
        side.decoded += block.size
        if side.decoded > MAX_DECODED_BYTES:
            raise _UnexpectedError("header_lists_too_large")
        stream_id = side.block_id
        if side.block_promise:
            self._context.counters["h2_pushes"] += 1
            changed = None
        elif side is self._client:
            changed = self._client_block(stream_id, block, encoded)
        else:
            changed = self._server_block(stream_id, block, encoded)
        side.block_id = 0
        if side.block_flags & _END_STREAM and not side.block_promise:
            self._end_stream(side, stream_id)
        if changed is None:
            frames = bytes(side.held)
        else:
            frames = header_frames(stream_id, side.block_flags, side.block_priority, changed)
        side.held.clear()
        return frames

    def _client_block(self, stream_id: int, block: Block, encoded: bytes) -> bytes | None:
        """A request's head or trailers: the block to forward instead, or None for the same."""
        if stream_id <= self._last_id:
            stream = self._streams.get(stream_id)
            if stream is not None:
                stream.exchange.request_trailers = self._keep_trailers(stream, block)
            return encode_unindexed(block) if self._anew else None
        if not stream_id & 1:
            raise _UnexpectedError("h2_stream_id")  # section 5.1.1
        self._last_id = stream_id
        context = self._context
        pseudo = {name: value for name, value in block.fields if name[:1] == b":"}
        regular = [field for field in block.fields if field[0][:1] != b":"]
        fields = lines(regular) if len(regular) + len(pseudo) == len(block.fields) else None  # none of them twice
        method = pseudo.get(b":method", b"")
        authority = pseudo.get(b":authority", b"")
        target = pseudo.get(b":path", authority)
        if fields is None or not method or any(byte in target + authority + method for byte in b"\r\n\0"):
            context.counters["h2_malformed_requests"] += 1  # section 8.1.1: a matter between the two ends
            return encode_unindexed(block) if self._anew else None
        fields = b"\r\n" + fields
        lower = fields.lower()
        if not authority and (at := lower.find(b"\r\nhost:")) >= 0:
            authority = fields[at + 7 : fields.find(b"\r\n", at + 7)].strip(b" \t")
        decision = context.policy.request(context.direction, method, target, authority, lower)
        context.counters["requests:" + decision.reason] += 1
        exchange = OpenExchange(
            context,
            self._endpoints,
            context.unix_ns(),
            method,
            target,
            authority,
            "2",
            decision.capture,
            decision.rule,
        )
        if pseudo.get(b":scheme") == b"https":
            exchange.scheme = "https"
        exchange.may_tunnel = method == b"CONNECT"
        if decision.capture and is_call(lower):
            exchange.messages = CallMessages()
        result = None
        if decision.inject:
            plan = exchange.plan = context.injector.plan(lower, fields, context.random_bits(RANDOM_BITS))
            kept = without(block, plan.remove) if plan.remove else block
            if kept.size + list_size(plan) > self._largest_list:
                # The origin would refuse with our fields what it accepts without.
                context.counters["h2_not_injected"] += 1
                if self._anew:
                    result = encode_unindexed(block)
            else:
                if plan.remove or self._anew:
                    self._anew = True
                    result = encode_unindexed(kept) + additions(plan)
                    fields = b"\r\n" + (lines([field for field in kept.fields if field[0][:1] != b":"]) or b"")
                else:
                    result = encoded + additions(plan)
                fields += plan.lines
        elif self._anew:
            result = encode_unindexed(block)
        if exchange.capture:
            exchange.request_fields = fields[2:]
        self._watch(stream_id, exchange)
        return result

    def _watch(self, stream_id: int, exchange: OpenExchange) -> None:
        """A request has begun: look at what comes of it, if there is room for that."""
        counters = self._context.counters
        if self._blind or len(self._streams) >= MAX_STREAMS:
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
        self._streams[stream_id] = _Stream(exchange, kept)

    def _keep_trailers(self, stream: _Stream, block: Block) -> bytes:
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

    def _server_block(self, stream_id: int, block: Block, encoded: bytes) -> bytes | None:
        """A response's head or trailers: the block to forward instead, or None for the same."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return None
        exchange = stream.exchange
        if stream.answered:
            exchange.response_trailers = self._keep_trailers(stream, block)
            return None
        status = next((value for name, value in block.fields if name == b":status"), b"")
        fields = lines([field for field in block.fields if field[0][:1] != b":"])
        if len(status) != 3 or not status.isdigit() or fields is None:
            self._context.counters["h2_malformed_responses"] += 1
            exchange.abandon("protocol_error")
            self._stop_watching(stream_id)
            return None
        if status[:1] == b"1":
            return None  # section 8.1: an interim response
        stream.answered = True
        lower = b"\r\n" + fields.lower()
        exchange.begin_response(self._context.unix_ns(), int(status), fields, self._context.policy.response(lower))
        if exchange.capture:
            if len(fields) > self._context.max_head_size:
                exchange.give_up()
                self._context.counters["responses_skipped:head_too_long"] += 1
            else:
                stream.kept += len(fields)
                self._kept += len(fields)
        if exchange.may_tunnel and status[:1] == b"2":
            # section 8.5 and RFC 8441: a tunnel; what passes in it is not content
            self._context.counters["tunnels:connect"] += 1
            self._stop_watching(stream_id)
            exchange.finish("")
        plan = exchange.plan
        if plan is not None and lower.find(b"\r\ntraceparent:") >= 0:
            span_id = self._context.random_bits(64) or 1
            return encoded + literal(b"traceparent", b"00-%b-%016x-01" % (plan.trace_id, span_id))
        return None

    def _stop_watching(self, stream_id: int) -> None:
        """No record is made of it from here on; it is still open."""
        stream = self._streams.pop(stream_id)
        self._kept -= stream.kept
        self._unwatched[stream_id] = 1 if stream.exchange.request_ended else 0

    def _give_up(self, reason: str, side: _Direction) -> None:
        """``side`` can no longer be read."""
        self._context.went_raw(reason, self._endpoints.server_port)
        self._context.counters["abandoned"] += len(self._streams)
        for stream in self._streams.values():
            stream.exchange.abandon("protocol_error")
        if self._anew and side is self._server:
            self._blind = True
            self._unwatched.update((stream_id, 0) for stream_id in self._streams)
        else:
            self.signal = Signal.ABORT if self._anew else Signal.RAW
        self._streams.clear()
        self._kept = 0
