"""What a tap is given, and what every tap answers."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from msgspec import Struct

from sp_proxy.core.admission import Admission
from sp_proxy.core.exchange import Direction, ErrorType, Exchange
from sp_proxy.core.head_edits import HeadHooks
from sp_proxy.core.inject import Injector
from sp_proxy.core.rules import Policy
from sp_proxy.taps.http1_heads import Heads
from sp_proxy.taps.http2_heads import Http2Heads
from sp_proxy.taps.labels import Labels


@dataclass(frozen=True, slots=True)
class TapContext:
    """Shared by all taps of one listener. A tap reads no clock and makes no randomness of its own."""

    direction: Direction
    policy: Policy
    injector: Injector
    sink: Callable[[Exchange], None]
    """Takes each finished exchange."""
    counters: defaultdict[str, int]
    """Running totals by name, or ``name:label`` (``channel.frames.Totals``)."""
    unix_ns: Callable[[], int]
    random_bits: Callable[[int], int]
    strict: bool
    max_body_size: int
    max_head_size: int
    admission: Admission | None = None
    """Sampling and rate limits; None when everything is admitted."""
    labels: Labels = field(default_factory=Labels)
    """Which ports and names have counters of their own; all listeners of a worker share it."""
    hooks: HeadHooks | None = None
    """Operators' request hooks; None nearly always."""
    heads: Heads = field(init=False)
    """Reads heads of HTTP/1.x for this context."""
    http2_heads: Http2Heads = field(init=False)
    """Likewise of HTTP/2."""

    def __post_init__(self) -> None:
        """Make what follows from the rest."""
        heads = Heads(self.direction, self.policy, self.injector, strict=self.strict, hooks=self.hooks)
        object.__setattr__(self, "heads", heads)
        object.__setattr__(self, "http2_heads", Http2Heads(self.direction, self.policy, self.injector))

    def went_raw(self, reason: str, port: int) -> None:
        """Count a connection to this port which passes unread from now on."""
        self.counters["raw:" + reason] += 1
        self.counters[f"raw_connections:{self.labels.label('raw_connections', str(port))}:{reason}"] += 1


class Endpoints(Struct, frozen=True):
    """The two ends of a relayed connection."""

    client_address: str
    client_port: int
    server_address: str
    server_port: int


class Signal(IntEnum):
    """What the relay must look at after a call; NONE nearly always."""

    NONE = 0
    HOLDING = 1
    """Client bytes are held: call ``timeout`` when they have been for ``detect_timeout``."""
    RAW = 2
    """The tap has given up: forward ``take_held()``, then everything else without asking the tap."""
    HTTP2 = 3
    """The client began with the HTTP/2 preface, or both ends upgrade to it: the held bytes belong to another tap."""
    ANSWER = 4
    """Strict reading: send ``answer`` downstream, then close; nothing more goes upstream."""
    ABORT = 5
    """Strict reading: reset both ends; a message that has begun cannot be refused in any other way."""
    REJECTING = 6
    """Strict reading: refused, but earlier answers are still to come. Read no more from the client."""
    HAND_OVER = 7
    """The connection is the mitm worker's; the held bytes go with it."""
    KEEP = 8
    """It is not, or nobody can tell: the held bytes belong to another tap."""
    NAMED = 9
    """The explicit proxy's client has named its origin: connect there, and give the held bytes to another tap."""
    AGAIN = 10
    """It has named another origin: when this one has answered all, begin anew with the held bytes. Read no more until then."""


class Tap(Protocol):
    """A sans-IO watcher of one connection. What ``client`` and ``server`` return is what goes to the other end."""

    signal: Signal
    answer: bytes

    @property
    def idle(self) -> bool:
        """No exchange is going on, and nothing is held."""
        ...

    def client(self, data: bytes) -> bytes:
        """Bytes came from downstream; the bytes to forward upstream now."""
        ...

    def server(self, data: bytes) -> bytes:
        """Bytes came from upstream; the bytes to forward downstream now."""
        ...

    def bulk(self, *, client: bool) -> int:
        """How many of the next bytes from the client (else from the server) may pass without being shown to the tap."""
        ...

    def passed(self, size: int, *, client: bool) -> None:
        """So many of them have."""
        ...

    def timeout(self) -> bytes:
        """Held bytes have waited long enough; the bytes to forward upstream now."""
        ...

    def take_held(self) -> bytes:
        """Held client bytes, to be forwarded as they are (after RAW or HTTP2)."""
        ...

    def take_kept(self) -> bytes:
        """Held server bytes, likewise to be forwarded as they are after RAW."""
        ...

    def client_eof(self) -> bytes:
        """Downstream has finished sending; the bytes to forward upstream before its end of stream."""
        ...

    def server_eof(self) -> bytes:
        """Upstream has finished sending; the bytes to forward downstream before its end of stream."""
        ...

    def drain(self, *, patient: bool) -> bytes:
        """The daemon ends soon: from now on the client is told not to use the connection again.

        Returns bytes to send downstream now. ``patient``: say it where it disturbs nothing, which may be never.
        """
        ...

    def record_open(self, before_ns: int) -> None:
        """Record exchanges that began before this and have not ended, each once (``partials``)."""
        ...

    def close(self, error: ErrorType) -> None:
        """The connection is over; exchanges that have not ended end with this error."""
        ...
