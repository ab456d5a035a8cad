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

from struct import Struct

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.hpack import Block, HpackError
from sp_proxy.taps.http2_blocks import header_frames, longer_frames, upgrade_settings
from sp_proxy.taps.http2_sides import MAX_BLOCK_BYTES, Side, UnexpectedError
from sp_proxy.taps.http2_streams import Streams
from sp_proxy.taps.open_exchange import OpenExchange

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _CONTINUATION = 0, 1, 3, 4, 5, 9
_WHOLE = frozenset((_HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _CONTINUATION))
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_PLAIN_MASK = _PRIORITY | _PADDED | _END_HEADERS
_FRAME_HEADER = 9
_frame_header = Struct(">IBI").unpack_from
"""Length and type, flags, stream id with a reserved bit (section 4.1)."""
_SETTINGS_HEADER_TABLE_SIZE, _SETTINGS_MAX_FRAME_SIZE, _SETTINGS_MAX_HEADER_LIST_SIZE = 1, 5, 6
MAX_DECODED_BYTES = 8 * 1024 * 1024
"""Of the header lists in one read, which has at most 256 KiB: a byte may stand for 4,000 of them (RFC 7541 section 7.3), and
what is encoded anew would be sent. Requests of 5 KiB of fields each would have to come by 1,600 at a time."""
_GOAWAY = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0"
"""Section 6.8: last stream id 2^31-1 and NO_ERROR, with which a server begins a graceful end."""


class Http2Tap:
    """One per connection that begins with the preface, or is upgraded to HTTP/2. See ``context.Tap`` for the calls."""

    __slots__ = (
        "_client",
        "_context",
        "_endpoints",
        "_goaway_due",
        "_goaway_patient",
        "_goaway_sent",
        "_preface",
        "_server",
        "_streams",
        "answer",
        "signal",
    )

    def __init__(self, context: TapContext, endpoints: Endpoints) -> None:
        self._context = context
        self._endpoints = endpoints
        self.signal = Signal.NONE
        self.answer = b""
        self._preface = True  # not complete yet
        self._client = Side(client=True)
        self._server = Side(client=False)
        self._streams = Streams(context, endpoints)
        self._goaway_due = False  # a drain has begun
        self._goaway_patient = False
        self._goaway_sent = False

    @property
    def encodes_anew(self) -> bool:
        """Whether the client's blocks mean something else to the origin than they say: they cannot pass without this tap."""
        return self._streams.anew

    @property
    def idle(self) -> bool:
        """See ``Tap``."""
        return not self._streams and not self._client.left and not self._client.buffer and not self._client.held

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        side = self._client
        if self._preface:
            buffer = side.buffer
            buffer += data
            if self.signal is Signal.RAW:  # for what the server had said before
                return b""
            if len(buffer) < len(PREFACE) and PREFACE.startswith(buffer):
                self.signal = Signal.HOLDING if len(buffer) > side.ahead else Signal.NONE
                return b""
            data = bytes(buffer)
            buffer.clear()
            self._preface = False
            self.signal = Signal.NONE
            if not data.startswith(PREFACE):
                self._give_up("h2_preface", side)
                return side.yet(data)
            return side.yet(PREFACE + self._frames(side, data[len(PREFACE) :]))
        return self._frames(side, data)

    def server(self, data: bytes) -> bytes:
        """See ``Tap``."""
        if self._streams.blind:
            return data
        return self._server.yet(self._frames(self._server, data))

    def begin(
        self, server_said: bytes, preface_passed: int, upgraded: OpenExchange | None = None, upgrading: bytes = b""
    ) -> None:
        """Before this tap there was another. What the server has said, and so many bytes of the client's preface, have been
        forwarded, which cannot be taken back. ``upgraded``: by this request, which had these fields.
        """
        if upgraded is not None:
            self._settings(self._client, 0, upgrade_settings(upgrading))
            self._streams.upgraded(upgraded)
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
        """See ``Tap``. An incomplete preface goes on; else nothing is held that could decide differently later."""
        if self.signal is not Signal.HOLDING:
            return b""
        self.signal = Signal.NONE
        side = self._client
        held = bytes(side.buffer[side.ahead :])
        side.ahead = len(side.buffer)
        return held

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
        if not server.spoke or self._streams.blind or server.left or server.buffer or server.block_id:
            return b""
        if self._goaway_patient and self._streams:
            return b""
        self._goaway_due = False
        self._goaway_sent = True
        return _GOAWAY

    def record_open(self, before_ns: int) -> None:
        """See ``Tap``."""
        self._streams.record_open(before_ns)

    def close(self, error: ErrorType) -> None:
        """See ``Tap``."""
        self._streams.close(error)

    # ---- frames

    def _frames(self, side: Side, data: bytes) -> bytes:
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
                    raise UnexpectedError("h2_server_preface")
                if size - at < _FRAME_HEADER:
                    side.needed = _FRAME_HEADER
                    break
                length, flags, stream_id = _frame_header(data, at)
                kind = length & 0xFF
                length >>= 8
                stream_id &= 0x7FFFFFFF
                if side.block_id and (kind != _CONTINUATION or stream_id != side.block_id):
                    raise UnexpectedError("h2_interrupted_block")  # section 4.3
                end = at + _FRAME_HEADER + length
                if kind not in _WHOLE:
                    at += _FRAME_HEADER
                    if end > size or flags & _PADDED:
                        self._begin_payload(side, kind, flags, stream_id, length)
                    else:
                        if kind == _DATA:
                            if length:
                                self._streams.content(stream_id, data, at, end, client=side.client)
                            if flags & _END_STREAM:
                                self._streams.end(stream_id, client=side.client)
                        at = end
                    continue
                # What is an error by its length alone is not held: its receiver may say so before all of it is there.
                if length > side.largest_frame or length > MAX_BLOCK_BYTES or (kind == _RST_STREAM and length != 4):
                    raise UnexpectedError("h2_frame_size")
                if kind == _SETTINGS and length % 6:
                    raise UnexpectedError("h2_settings")
                if end > size:
                    side.needed = _FRAME_HEADER + length
                    break
                payload = data[at + _FRAME_HEADER : end]
                if kind == _SETTINGS:
                    self._settings(side, flags, payload)
                elif kind == _RST_STREAM:
                    self._streams.reset(stream_id, client=side.client)
                elif kind == _HEADERS and flags & _PLAIN_MASK == _END_HEADERS and stream_id:  # nearly always
                    changed = self._block(side, stream_id, flags, payload)
                    if changed is not None:
                        out += (data[done:at], header_frames(stream_id, flags, b"", changed))
                        done = end
                else:
                    out.append(data[done:at])
                    done = end
                    side.held += data[at:end]
                    side.gather(kind, flags, stream_id, payload)
                    if flags & _END_HEADERS:
                        out.append(self._gathered(side))
                at = end
        except (UnexpectedError, HpackError) as error:
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

    def _begin_payload(self, side: Side, kind: int, flags: int, stream_id: int, length: int) -> None:
        side.left = length
        side.pad = 0
        side.pad_unknown = False
        side.ends_stream = False
        side.stream_id = 0
        if kind == _DATA and (stream_id in self._streams):
            side.stream_id = stream_id
            side.pad_unknown = bool(flags & _PADDED)
            side.ends_stream = bool(flags & _END_STREAM)
            if not length and side.ends_stream:
                self._streams.end(stream_id, client=side.client)

    def _payload(self, side: Side, data: bytes, at: int, size: int) -> int:
        """Let a piece of payload pass; the position behind it."""
        if side.pad_unknown:  # section 6.1: the first byte of a padded frame
            side.pad_unknown = False
            side.pad = data[at]
            side.left -= 1
            at += 1
            if side.pad > side.left:
                raise UnexpectedError("h2_padding")
        end = min(size, at + side.left)
        side.left -= end - at
        if side.stream_id:
            content_end = end - max(0, side.pad - side.left)
            if content_end > at:
                self._streams.content(side.stream_id, data, at, content_end, client=side.client)
        if not side.left and side.ends_stream:
            self._streams.end(side.stream_id, client=side.client)
        return end

    def _settings(self, side: Side, flags: int, payload: bytes) -> None:
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
                self._streams.largest_list = value

    # ---- header blocks

    def _block(self, side: Side, stream_id: int, flags: int, encoded: bytes) -> bytes | None:
        """A header block is complete: the block to forward instead, or None for the same."""
        block = self._decoded(side, encoded)
        if side.client:
            changed = self._streams.request(stream_id, block, encoded)
        else:
            changed = self._streams.response(stream_id, block, encoded)
        if flags & _END_STREAM:
            self._streams.end(stream_id, client=side.client)
        return changed

    def _decoded(self, side: Side, encoded: bytes) -> Block:
        block = side.decoder.decode(encoded)
        side.decoded += block.size
        if side.decoded > MAX_DECODED_BYTES:
            raise UnexpectedError("header_lists_too_large")
        return block

    def _gathered(self, side: Side) -> bytes:
        """The block that was held is complete: the frames that go on in its place."""
        encoded = side.fragments[0] if len(side.fragments) == 1 else b"".join(side.fragments)
        stream_id = side.block_id
        changed = None
        if side.block_promise:
            self._decoded(side, encoded)
            self._context.counters["h2_pushes"] += 1
        else:
            changed = self._block(side, stream_id, side.block_flags, encoded)
        side.block_id = 0
        if changed is None:
            frames = bytes(side.held)
        elif len(side.fragments) > 1 and changed.startswith(encoded):
            # As many frames as there were: how many are too many is for their receiver to say.
            frames = longer_frames(bytes(side.held), side.fragments[-1], changed[len(encoded) :])
        else:
            frames = header_frames(stream_id, side.block_flags, side.block_priority, changed)
        side.held.clear()
        return frames

    def _give_up(self, reason: str, side: Side) -> None:
        """``side`` can no longer be read."""
        self._context.went_raw(reason, self._endpoints.server_port)
        streams = self._streams
        if streams.anew and side is self._server:
            streams.blind = True
        else:
            self.signal = Signal.ABORT if streams.anew else Signal.RAW
        streams.abandon()
