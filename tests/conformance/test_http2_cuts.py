"""However the bytes of a conversation are cut, the tap forwards and records the same."""

import importlib
import random
import socket
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import pytest

from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.core.rules import Policy, PolicyConfig
from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.http2 import Http2Tap
from tests.conformance.http2_play import CHECKS, play
from tests.conformance.http2_wire import PREFACE
from tests.relay.running_worker import listening

for module in ("settings", "blocks", "frames", "streams", "malformed"):
    importlib.import_module(f"tests.conformance.http2_{module}")

SMALL = 40_000
"""Bytes of a conversation that is also given byte by byte."""


@dataclass
class Outcome:
    up: bytes
    down: bytes
    signal: Signal
    counters: dict[str, int]
    records: list[Exchange]


def raw(tap: Http2Tap) -> bool:
    return tap.signal is Signal.RAW


def through_tap(client: Iterable[bytes], server: Iterable[bytes]) -> Outcome:
    """The client's bytes first, then the server's; randomness and time are constant."""
    records: list[Exchange] = []
    counters: defaultdict[str, int] = defaultdict(int)
    tap = Http2Tap(
        TapContext(
            direction=Direction.OUTBOUND,
            policy=Policy(PolicyConfig()),
            injector=Injector(HeaderConfig("shop")),
            sink=records.append,
            counters=counters,
            unix_ns=lambda: 1_000,
            random_bits=lambda count: (1 << count) // 3,
            strict=False,
            max_body_size=65536,
            max_head_size=131072,
        ),
        Endpoints("10.0.0.1", 1, "10.0.0.2", 2),
    )
    up, down = bytearray(), bytearray()
    for pieces, give, forwarded, held in (
        (client, tap.client, up, tap.take_held),
        (server, tap.server, down, tap.take_kept),
    ):
        for piece in pieces:
            before = tap.signal
            if before is Signal.RAW:
                forwarded += piece
            elif before in {Signal.NONE, Signal.HOLDING}:
                forwarded += give(piece)
                if raw(tap):
                    forwarded += held()
    if tap.signal is Signal.NONE:
        up += tap.client_eof()
        down += tap.server_eof()
        tap.close("client_aborted")
    return Outcome(bytes(up), bytes(down), tap.signal, dict(counters), records)


def cut(data: bytes, draw: random.Random) -> list[bytes]:
    pieces = []
    at = 0
    while at < len(data):
        size = draw.choice((1, 2, 3, 8, 9, 10, 40, 300, 5000, 40_000))
        pieces.append(data[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize("name", CHECKS)
def test_cut_anywhere(name: str) -> None:
    with listening() as listener:
        played = play(CHECKS[name]("/"), partial(socket.create_connection, listener.getsockname()), listener)
    client, server = bytes(played.server.received), bytes(played.client.received)
    if not client.startswith(PREFACE[:18]):
        return  # not this tap's
    whole = through_tap([client], [server])
    if whole.signal is Signal.RAW:
        assert len(whole.down) == len(server)
    for seed in range(2):
        draw = random.Random(seed)
        assert through_tap(cut(client, draw), cut(server, draw)) == whole
    if len(client) + len(server) < SMALL:
        single = ([data[at : at + 1] for at in range(len(data))] for data in (client, server))
        assert through_tap(*single) == whole
