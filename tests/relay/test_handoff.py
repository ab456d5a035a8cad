"""Open sockets through a Unix socket, with what was read from them."""

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from sp_proxy.core.exchange import Direction
from sp_proxy.relay.connection import Connection
from sp_proxy.relay.handoff import (
    MAX_INLINE_BYTES,
    STATE_BYTES,
    EngineState,
    HandOver,
    HandOverEndedError,
    HandOverSender,
    receive,
    send,
)
from sp_proxy.taps.context import Signal
from sp_proxy.taps.discard import Discard
from tests.relay.bare_worker import BareWorker
from tests.relay.running_worker import listening

ABOUT = HandOver(Direction.INBOUND, ("10.0.0.1", 40000), ("name.test", 80), b"GET / HTT", redirected=False)


@pytest.fixture
def pair():
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sending.setblocking(False)
    receiving.setblocking(False)
    with sending, receiving:
        yield sending, receiving


@pytest.fixture
def connection():
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname(), timeout=10)
    accepted, _ = listening.accept()
    listening.close()
    with client, accepted:
        yield client, accepted


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def taken(sock: socket.socket) -> tuple[socket.socket, HandOver]:
    found = receive(sock)
    assert found is not None
    return found


@pytest.mark.parametrize("size", [0, 1, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1, 1_000_000])
def test_a_connection_goes_on_where_it_was(pair, connection, size):
    client, accepted = connection
    prefix = os.urandom(size)
    before = descriptors()
    send(pair[0], accepted.fileno(), HandOver(Direction.OUTBOUND, ("::1", 1), ("::2", 2), prefix))
    accepted.close()
    client.sendall(b"later")
    adopted, message = taken(pair[1])
    assert (message.direction, message.client, message.destination) == (Direction.OUTBOUND, ("::1", 1), ("::2", 2))
    assert message.prefix == prefix
    assert not adopted.getblocking()
    adopted.setblocking(True)
    assert adopted.recv(100) == b"later"
    adopted.sendall(b"answer")
    assert client.recv(100) == b"answer"
    adopted.close()
    assert descriptors() == before - 1


def test_nothing_there_and_nobody_left(pair):
    with pytest.raises(BlockingIOError):
        receive(pair[1])
    pair[0].close()
    with pytest.raises(HandOverEndedError):
        receive(pair[1])


def test_what_is_no_hand_over_is_refused_without_leaving_descriptors(pair, connection):
    before = descriptors()
    pair[0].send(b"no descriptor")
    socket.send_fds(pair[0], [b"not a message"], [connection[1].fileno()])
    assert receive(pair[1]) is None
    assert receive(pair[1]) is None
    assert descriptors() == before


def test_a_sender_says_why_it_cannot(pair, connection):
    state_fd = os.memfd_create("state")
    os.truncate(state_fd, STATE_BYTES)
    state = EngineState(state_fd)
    sender = HandOverSender(os.dup(pair[0].fileno()), state_fd)
    number = connection[1].fileno()
    assert sender.send(number, ABOUT) == "engine_down"
    state.takes = True
    assert state.takes
    assert sender.send(number, ABOUT) is None
    adopted, message = taken(pair[1])
    assert message == ABOUT
    adopted.close()
    while (refusal := sender.send(number, ABOUT)) is None:
        pass
    assert refusal == "engine_busy"
    state.takes = False
    assert sender.send(number, ABOUT) == "engine_down"
    state.takes = True
    pair[1].close()
    assert sender.send(number, ABOUT) == "failed"
    sender.close()


def test_a_connection_that_was_reset_can_still_be_sent(pair, connection):
    client, accepted = connection
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    send(pair[0], accepted.fileno(), ABOUT)
    adopted, _ = taken(pair[1])
    with adopted, pytest.raises(ConnectionResetError):
        adopted.recv(1)


class HandingOver(Discard):
    """Answers the client itself before it gives the connection away, as the explicit proxy does with CONNECT."""

    peer: socket.socket
    connection: Connection

    def __init__(self) -> None:
        self.signal = Signal.NONE
        self.had = b""

    def client(self, data: bytes) -> bytes:
        self.connection.downstream.write(b"established")
        self.signal = Signal.HAND_OVER
        return b""

    def handed_over(self, _fileno: int) -> None:
        self.had = self.peer.recv(100)


def test_what_waits_for_the_end_of_a_round_goes_before_the_connection_does(monkeypatch):
    with listening() as origin, contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        worker = BareWorker(loop)
        monkeypatch.setattr(worker.poller, "at_end", lambda _call: True)  # the round is not over yet
        tap = worker.tap = HandingOver()
        tap.peer, tap.connection = worker.accept(origin.getsockname(), resolve=False)
        context = SimpleNamespace(direction=Direction.OUTBOUND, strict=False)
        tap.connection.listener = SimpleNamespace(context=context, transparent=False)  # type: ignore[assignment]
        tap.peer.send(b"hello")
        deadline = loop.time() + 30
        while worker.connections:
            loop.run_until_complete(asyncio.sleep(0.01))
            assert loop.time() < deadline
        assert tap.had == b"established"
        tap.peer.close()
        worker.poller.stop()
