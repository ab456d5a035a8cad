"""One direction of an HTTP/2 connection, as the tap has read it so far: what is incomplete, what passes by, what is held."""

from sp_proxy.taps.hpack import Decoder
from sp_proxy.taps.http2_blocks import PEER_FRAME_SIZE

_PUSH_PROMISE, _CONTINUATION = 5, 9
_PADDED, _PRIORITY = 0x8, 0x20
MAX_BLOCK_BYTES = 1 << 20
"""Largest header block with its frames: what Go's server takes, and the most generous of those that set a limit."""
MAX_BLOCK_FRAMES = 4096
"""CONTINUATION frames may be empty (CVE-2024-27316 and its kin): their number is limited too."""


class UnexpectedError(Exception):
    """Carries the reason, which becomes a counter's label."""


class Side:
    """One direction of the connection."""

    __slots__ = (
        "ahead",
        "block_flags",
        "block_id",
        "block_priority",
        "block_promise",
        "buffer",
        "client",
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

    def __init__(self, *, client: bool) -> None:
        self.client = client  # these are the client's bytes
        self.spoke = client  # its first frame has been seen, which must be SETTINGS (section 3.4)
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

    def gather(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """One frame of a header block. Raises UnexpectedError."""
        if kind == _CONTINUATION:
            if not self.block_id:
                raise UnexpectedError("h2_continuation")
            self.frames += 1
            if self.frames > MAX_BLOCK_FRAMES or len(self.held) > MAX_BLOCK_BYTES:
                raise UnexpectedError("h2_block_too_large")
            self.fragments.append(payload)
            return
        at, end = 0, len(payload)
        if flags & _PADDED:
            if not payload:
                raise UnexpectedError("h2_padding")
            at, end = 1, end - payload[0]
        priority = b""
        if kind == _PUSH_PROMISE:
            if self.client:
                raise UnexpectedError("h2_push_promise")
            at += 4
        elif flags & _PRIORITY:
            priority = payload[at : at + 5]
            at += 5
        if at > end or not stream_id:
            raise UnexpectedError("h2_padding" if stream_id else "h2_stream_id")
        self.block_id = stream_id
        self.block_flags = flags
        self.block_priority = priority
        self.block_promise = kind == _PUSH_PROMISE
        self.fragments = [payload[at:end]]
        self.frames = 1
