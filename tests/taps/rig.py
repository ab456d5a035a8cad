"""A connection in memory: a tap between two ends, driven as the relay drives it.

Random bits and the clock are constant, so that what is injected and recorded depends on the bytes alone, however they are
cut. ``INJECTED`` is what a request gets that carries no context of its own.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from sp_proxy.core.exchange import Direction, ErrorType, Exchange
from sp_proxy.core.head_edits import HeadHooks
from sp_proxy.core.inject import RANDOM_BITS, HeaderConfig, Injector
from sp_proxy.core.rules import Policy, PolicyConfig
from sp_proxy.taps.context import Endpoints, Signal, Tap, TapContext
from sp_proxy.taps.http1 import Http1Tap

NOW = 1_700_000_000_000_000_000
_BITS = 0x5A5A_5A5A_5A5A_5A5A_1111_2222_3333_4444_5555_6666_7777_8888_9999_AAAA_BBBB_CCCC_DDDD_EEEE_FFFF_0123
ENDS = Endpoints("10.0.0.1", 40000, "10.0.0.2", 8080)


class Wire:
    """Both ends of one relayed connection. ``up`` and ``down`` are what has been forwarded."""

    def __init__(
        self,
        *,
        strict: bool = False,
        max_body_size: int = 65536,
        max_head_size: int = 131072,
        compat: bool = False,
        policy: PolicyConfig | None = None,
        hooks: HeadHooks | None = None,
    ) -> None:
        self.records: list[Exchange] = []
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.now = NOW
        self.context = TapContext(
            direction=Direction.INBOUND,
            policy=Policy(policy or PolicyConfig(skip_static=False, skip_prefetch=False)),
            injector=Injector(HeaderConfig("shop", compat_headers=compat)),
            sink=self.records.append,
            counters=self.counters,
            unix_ns=lambda: self.now,
            random_bits=lambda count: _BITS & ((1 << count) - 1),
            strict=strict,
            max_body_size=max_body_size,
            max_head_size=max_head_size,
            hooks=hooks,
        )
        self.http1 = Http1Tap(self.context, ENDS)
        self.tap: Tap | None = self.http1
        self._up = bytearray()
        self._down = bytearray()
        self.ended: Signal | None = None
        """The signal with which the tap ended its work."""

    def client(self, *pieces: bytes) -> "Wire":
        for data in pieces:
            if self.tap is None:
                self._up += data if self.ended is Signal.RAW else b""
            else:
                self._up += self.tap.client(data)
                self._look()
        return self

    def server(self, *pieces: bytes) -> "Wire":
        for data in pieces:
            if self.tap is None:
                self._down += data if self.ended is Signal.RAW else b""
            else:
                self._down += self.tap.server(data)
                self._look()
        return self

    def timeout(self) -> "Wire":
        if self.tap is not None:
            self._up += self.tap.timeout()
            self._look()
        return self

    def client_eof(self) -> "Wire":
        if self.tap is not None:
            self._up += self.tap.client_eof()
            self._look()
        return self

    def server_eof(self) -> "Wire":
        if self.tap is not None:
            self._down += self.tap.server_eof()
            self._look()
        return self

    def close(self, error: ErrorType = "client_aborted") -> "Wire":
        if self.tap is not None:
            self.tap.close(error)
        return self

    def _look(self) -> None:
        tap = self.tap
        assert tap is not None
        if tap.signal in {Signal.RAW, Signal.HTTP2}:
            self.ended = tap.signal
            self._up += tap.take_held()
            self._down += tap.take_kept()
            self.tap = None
        elif tap.signal in {Signal.ANSWER, Signal.ABORT}:
            self.ended = tap.signal
            self._down += tap.answer
            self.tap = None

    @property
    def up(self) -> bytes:
        """What has been forwarded upstream."""
        return bytes(self._up)

    @property
    def down(self) -> bytes:
        """What has been forwarded downstream."""
        return bytes(self._down)

    def forget(self) -> None:
        """Start to collect anew."""
        self._up.clear()
        self._down.clear()

    @property
    def reasons(self) -> set[str]:
        """Why the connection went raw or was rejected."""
        return {name for name in self.counters if name.startswith(("raw:", "rejected:"))}

    @property
    def errors(self) -> list[str]:
        return [record.error for record in self.records]


def _injected() -> bytes:
    """What a request without context of its own gets."""
    wire = Wire()
    block = b"\r\nhost: a\r\n"
    plan = wire.context.injector.plan(block, block, wire.context.random_bits(RANDOM_BITS))
    return b"x-sp-service-name: shop\r\ntracestate: %b\r\nx-sp-num: 1\r\ntraceparent: %b\r\n" % (
        plan.tracestate,
        plan.traceparent,
    )


INJECTED = _injected()
RESPONSE_ADDED = b"traceparent: 00-%b-%b-01\r\n" % (
    INJECTED.rsplit(b"traceparent: 00-", 1)[1][:32],
    INJECTED.rsplit(b"traceparent: 00-", 1)[1][33:49],
)

_INJECTED_SHAPE = re.compile(
    rb"x-sp-service-name: shop\r\n(?:x-service-name: shop\r\nx-current-service: shop-workload\r\n)?"
    rb"tracestate: x-sp-traceparent=[^\r\n]*\r\nx-sp-num: \d+\r\n(?:traceparent: 00-[0-9a-f-]*-01\r\n)?(?=\r\n)"
)


def without_injected(data: bytes) -> bytes:
    """The bytes without what was injected, where nothing had to be replaced."""
    return _INJECTED_SHAPE.sub(b"", data)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data in pieces, cut at these places; never an empty piece."""
    ends = [*sorted({place % (len(data) + 1) for place in places}), len(data)]
    pieces = []
    begin = 0
    for end in ends:
        if end > begin:
            pieces.append(data[begin:end])
            begin = end
    return pieces


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]
