"""An HTTP/2 client and server in memory (the ``h2`` package) with the tap between them; and frames by hand."""

import random
from collections import defaultdict

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack

from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.head_edits import HeadHooks
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.core.rules import Policy, PolicyConfig
from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.http2 import Http2Tap

REQUEST = [
    (":method", "POST"),
    (":path", "/svc/Method"),
    (":scheme", "http"),
    (":authority", "orders:80"),
    ("te", "trailers"),
]


class Watched:
    """A client and a server with the tap between them; bytes can be cut anywhere."""

    def __init__(self, cut: random.Random | None = None, hooks: HeadHooks | None = None, **limits: int) -> None:
        self.records: list[Exchange] = []
        self.counters: defaultdict[str, int] = defaultdict(int)
        bits = random.Random(7)
        context = TapContext(
            direction=Direction.OUTBOUND,
            policy=Policy(PolicyConfig()),
            injector=Injector(HeaderConfig("shop")),
            sink=self.records.append,
            counters=self.counters,
            unix_ns=lambda: 1_000,
            random_bits=bits.getrandbits,
            strict=False,
            max_body_size=limits.get("max_body_size", 65536),
            max_head_size=131072,
            hooks=hooks,
        )
        self.tap = Http2Tap(context, Endpoints("10.0.0.1", 1, "10.0.0.2", 2))
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.cut = cut
        self.seen: dict[str, list[h2.events.Event]] = {"client": [], "server": []}
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.exchange_bytes()

    def _pieces(self, data: bytes) -> list[bytes]:
        if self.cut is None:
            return [data] if data else []
        pieces = []
        while data:
            size = self.cut.choice((1, 2, 5, 9, 20, 1000))
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    def exchange_bytes(self) -> None:
        """Move everything that waits, until nothing does."""
        moved = True
        while moved:
            moved = False
            for piece in self._pieces(self.client.data_to_send()):
                moved = True
                if out := self.tap.client(piece):
                    self.seen["server"] += self.server.receive_data(out)
            for piece in self._pieces(self.server.data_to_send()):
                moved = True
                if out := self.tap.server(piece):
                    self.seen["client"] += self.client.receive_data(out)
        assert self.tap.signal is Signal.NONE

    def request(self, headers=(), body=b"", trailers=(), *, base=REQUEST) -> int:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, [*base, *headers], end_stream=not body and not trailers)
        for at in range(0, len(body), 10_000):
            self.client.send_data(
                stream_id, body[at : at + 10_000], end_stream=not trailers and at + 10_000 >= len(body)
            )
            self.exchange_bytes()
        if trailers:
            self.client.send_headers(stream_id, trailers, end_stream=True)
        self.exchange_bytes()
        return stream_id

    def answer(self, stream_id: int, headers=(), body=b"", trailers=(), status="200") -> None:
        self.server.send_headers(stream_id, [(":status", status), *headers], end_stream=not body and not trailers)
        for at in range(0, len(body), 10_000):
            self.server.send_data(
                stream_id, body[at : at + 10_000], end_stream=not trailers and at + 10_000 >= len(body)
            )
            self.exchange_bytes()
        if trailers:
            self.server.send_headers(stream_id, trailers, end_stream=True)
        self.exchange_bytes()

    def requests_seen(self) -> list[dict[bytes, bytes]]:
        return [dict(event.headers) for event in self.seen["server"] if isinstance(event, h2.events.RequestReceived)]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


BLOCK = hpack.Encoder().encode(REQUEST)
