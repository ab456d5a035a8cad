"""Frames: a four-byte big-endian length, then one msgpack message (``Message``).

The sender never waits. What does not fit is dropped and counted by reason, and the next frame that fits carries the
running totals, so a gap is always announced. Totals only grow during a worker's life; a receiver adds differences.
"""

from struct import Struct as Layout

from msgspec import Struct, field, msgpack

from sp_proxy.core.exchange import Exchange

LENGTH = Layout(">I")
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A receiver refuses more: only a broken sender writes it (a full loop turn of records is far below 16 MiB)."""


class Records(Struct, frozen=True, array_like=True, tag=0):
    """Exchanges in the order in which they ended."""

    exchanges: list[Exchange]


class Totals(Struct, frozen=True, array_like=True, tag=1):
    """A worker's running totals since it started, by Prometheus-style name, for example ``captured`` or
    ``channel_dropped:channel_full`` (name, colon, label value); and gauges of the moment, for example
    ``connections``.
    """

    counters: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)


class Ready(Struct, frozen=True, array_like=True, tag=2):
    """The worker accepts connections from now on."""

    worker_id: int


class Drained(Struct, frozen=True, array_like=True, tag=3):
    """Every exchange has ended and every record is on its way: nothing follows."""


class Retired(Struct, frozen=True, array_like=True, tag=4):
    """The worker accepts no more connections: others have taken over. It goes on with those that it has."""


Message = Records | Totals | Ready | Drained | Retired

_encoder = msgpack.Encoder()
decoder = msgpack.Decoder(Message)


class FrameError(Exception):
    """The stream is not a sequence of frames (a broken or foreign sender). The stream cannot be read on."""


def frame(message: Message) -> bytes:
    """The bytes of one frame."""
    laid = bytearray(LENGTH.size)
    frame_into(laid, message)
    return bytes(laid)


def frame_into(buffer: bytearray, message: Message) -> None:
    """Make one frame of a buffer, whose memory is used again. It holds ``LENGTH.size`` bytes at least."""
    _encoder.encode_into(message, buffer, LENGTH.size)
    LENGTH.pack_into(buffer, 0, len(buffer) - LENGTH.size)


class FrameReader:
    """Incremental decoder: ``feed`` bytes, then take messages with ``next`` until it returns None."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet; 0 is the only good value at the end of a stream."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray) -> None:
        """Add received bytes."""
        self._buffer += data

    def next(self) -> Message | None:
        """The next whole message, or None when more bytes are needed. Raises FrameError."""
        buffer = self._buffer
        if len(buffer) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(buffer)
        if length > MAX_FRAME_BYTES:
            raise FrameError(f"frame of {length} bytes (limit {MAX_FRAME_BYTES})")
        end = LENGTH.size + length
        if len(buffer) < end:
            return None
        try:
            # Where it lies: a frame may be 16 MiB long, and what is decoded is a copy anyhow.
            with memoryview(buffer) as view, view[LENGTH.size : end] as payload:
                message: Message = decoder.decode(payload)
        except Exception as error:
            raise FrameError(f"unreadable frame: {error}") from error
        del buffer[:end]
        return message
