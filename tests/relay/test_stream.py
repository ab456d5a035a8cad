"""One end of a relayed connection, over real sockets: what it is given arrives, and what becomes of it is told."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import uvloop

from sp_proxy.relay.poller import READABLE, URGENT, Poller
from sp_proxy.relay.stream import MAX_LATER_BYTES, Stream

DATA = bytes(range(256)) * 8192


class Recording(Stream):
    """Keeps what it is told."""

    __slots__ = ("end_seen", "seen", "spliced", "then")

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)  # type: ignore[arg-type]
        self.seen = b""
        self.end_seen = False
        self.spliced = False
        self.then: Callable[[], object] = int

    def received(self, data: bytes) -> None:
        self.seen += data
        self.then()

    def received_end(self) -> None:
        self.end_seen = True

    def begin_splice(self) -> None:
        self.spliced = True


@dataclass
class Connection:
    """What a stream asks of its connection."""

    poller: Poller
    loop: asyncio.AbstractEventLoop
    buffer_size: int = 65536
    early_at: float = 0.0
    passes_urgent: bool = False
    losses: list[OSError | None] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)

    def lost(self, _: Stream, error: OSError | None) -> None:
        self.losses.append(error)

    def failed(self, error: Exception) -> None:
        self.faults.append(error)

    def gave_up(self, what: str) -> None:
        self.given_up.append(what)


class Rig:
    """A stream, the peer at its other end, and another stream which feeds it."""

    def __init__(self, poller: Poller) -> None:
        self.connection = Connection(poller, asyncio.get_running_loop())
        self.stream, self.feeder = (Recording(self.connection) for _ in range(2))
        self.stream.other, self.feeder.other = self.feeder, self.stream
        self.peer = self._take(self.stream)
        self.source = self._take(self.feeder)

    def _take(self, stream: Recording) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        accepted.setblocking(False)
        peer.setblocking(False)
        stream.take(accepted)
        stream.watch(reading=True)
        return peer

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)

    async def all_of_peer(self) -> bytes:
        received = b""
        while piece := await self.connection.loop.sock_recv(self.peer, 1 << 20):
            received += piece
        return received


def run(test: Callable[[Rig], Awaitable[None]]) -> None:
    async def within() -> None:
        poller = Poller(asyncio.get_running_loop())
        rig = Rig(poller)
        try:
            await test(rig)
            assert rig.connection.faults == []
        finally:
            for stream in (rig.stream, rig.feeder):
                stream.abort()
            rig.peer.close()
            rig.source.close()
            poller.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(within(), 20))


def test_what_comes_is_told_and_so_is_its_end():
    async def test(rig: Rig) -> None:
        rig.peer.send(b"hello")
        await rig.until(lambda: rig.stream.seen == b"hello")
        rig.peer.shutdown(socket.SHUT_WR)
        await rig.until(lambda: rig.stream.end_seen)
        assert rig.stream.ended
        assert not rig.stream.lost

    run(test)


def test_who_writes_ahead_waits_and_goes_on():
    async def test(rig: Rig) -> None:
        for _ in range(8):
            rig.stream.write(DATA)
        assert rig.stream.pending > rig.connection.buffer_size
        rig.source.send(b"more")
        await asyncio.sleep(0.05)
        assert rig.feeder.seen == b""
        rig.stream.finish()
        assert await rig.all_of_peer() == DATA * 8
        await rig.until(lambda: rig.feeder.seen == b"more")
        assert rig.stream.pending == 0

    run(test)


def test_what_waits_still_goes_when_the_stream_is_watched_anew():
    """As when a client of the explicit proxy, slow to take one origin's answer, is connected to the next."""

    async def test(rig: Rig) -> None:
        for _ in range(8):
            rig.stream.write(DATA)
        assert rig.stream.pending
        rig.stream.watch(reading=True)
        rig.stream.finish()
        assert await rig.all_of_peer() == DATA * 8

    run(test)


def test_who_waited_before_a_splice_waits_after_it_too():
    """A splice begins when what was written before has been taken: nobody may be thought to wait then."""

    async def test(rig: Rig) -> None:
        rig.stream.write(DATA * 8)
        rig.feeder.pause()
        rig.feeder.splice_due = 1 << 30
        while not rig.feeder.spliced:
            await rig.connection.loop.sock_recv(rig.peer, 1 << 20)
        assert not rig.stream.spliced
        rig.feeder.splice_due = 0
        rig.feeder.resume()
        rig.stream.write(DATA * 8)
        assert rig.stream.pending > rig.connection.buffer_size
        rig.source.send(b"more")
        await asyncio.sleep(0.05)
        assert rig.feeder.seen == b""

    run(test)


def arrived(sock: socket.socket) -> bytes:
    """All that is there."""
    received = b""
    with contextlib.suppress(BlockingIOError):
        while piece := sock.recv(1 << 20):
            received += piece
    return received


@pytest.mark.parametrize("then", ["finish", "close", "reset", "abort", "urge", "ask", "take_back", "write much", ""])
def test_what_is_written_in_a_round_goes_out_at_its_end_and_before_what_follows(then: str):
    async def test(rig: Rig) -> None:
        stream = rig.stream
        before: list[bytes] = []
        after: list[bytes] = []

        def write() -> None:
            stream.write(b"one ")
            stream.write(b"two")
            before.append(arrived(rig.peer))
            match then:
                case "finish" | "close" | "reset" | "abort" | "take_back":
                    assert not getattr(stream, then)()
                case "urge":
                    stream.write_urgent(b"!")
                case "ask":
                    assert stream.pending == 0
                case "write much":
                    stream.write(bytes(MAX_LATER_BYTES))
            after.append(arrived(rig.peer))

        rig.feeder.then = write
        rig.source.send(b"go")
        await rig.until(lambda: after)
        assert before == [b""]
        sent = b"one two" + bytes(MAX_LATER_BYTES if then == "write much" else 0)
        if not then:
            assert after == [b""]
            await rig.until(lambda: arrived(rig.peer) == sent)
        else:
            assert after == [sent]
        if then in {"finish", "close", "abort"}:
            assert rig.peer.recv(1) == b""
        elif then == "reset":
            with pytest.raises(ConnectionResetError):
                rig.peer.recv(1)

    run(test)


def test_what_is_written_in_a_round_is_nobodys_when_the_stream_is_lost_in_it():
    async def test(rig: Rig) -> None:
        def write() -> None:
            rig.stream.write(b"one")
            rig.stream.lose(ConnectionResetError())

        rig.feeder.then = write
        rig.source.send(b"go")
        await rig.until(lambda: rig.connection.losses)
        assert arrived(rig.peer) == b""

    run(test)


def test_closing_waits_for_what_was_written():
    async def test(rig: Rig) -> None:
        rig.stream.write(DATA * 4)
        rig.stream.close()
        rig.stream.write(b"too late")
        assert rig.connection.losses == []
        assert await rig.all_of_peer() == DATA * 4
        assert rig.connection.losses == [None]

    run(test)


@pytest.mark.parametrize("now", [False, True])
def test_a_reset_waits_for_what_was_written_unless_it_comes_now(now):
    async def test(rig: Rig) -> None:
        rig.stream.write(DATA * 4)
        rig.stream.reset(now=now)
        assert rig.connection.losses == ([None] if now else [])
        with pytest.raises(ConnectionResetError):
            await rig.all_of_peer()
        assert rig.connection.losses == [None]
        assert rig.stream.pending == 0

    run(test)


def test_what_was_taken_arrives_before_a_reset():
    async def test(rig: Rig) -> None:
        rig.stream.write(b"last words")
        rig.stream.reset()
        assert rig.peer.recv(100) == b"last words"
        with pytest.raises(ConnectionResetError):
            rig.peer.recv(100)

    run(test)


def _reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


@pytest.mark.parametrize("reading", [False, True])
def test_a_reset_is_told_once_behind_what_came_before_it(reading):
    async def test(rig: Rig) -> None:
        if not reading:
            rig.stream.pause()
        rig.peer.send(b"answer")
        _reset(rig.peer)
        await rig.until(lambda: rig.connection.losses)
        assert rig.stream.lost
        assert isinstance(rig.connection.losses[0], ConnectionResetError)
        assert rig.stream.seen == (b"answer" if reading else b"")
        await asyncio.sleep(0.02)
        assert len(rig.connection.losses) == 1

    run(test)


def test_urgent_data_before_a_reset_does_not_hide_it():
    async def test(rig: Rig) -> None:
        rig.peer.send(b"!", socket.MSG_OOB)
        _reset(rig.peer)
        await rig.until(lambda: rig.connection.losses)
        assert isinstance(rig.connection.losses[0], ConnectionResetError)
        assert not rig.stream.end_seen

    run(test)


def test_an_urgent_byte_that_came_before_what_stands_before_it_costs_nothing():
    async def test(rig: Rig) -> None:
        rig.stream._on_events(URGENT)
        assert rig.stream._events == READABLE & ~URGENT
        rig.peer.send(b"missing")
        await rig.until(lambda: rig.stream.seen)
        assert rig.stream._events == READABLE

    run(test)


def test_an_error_while_writing_is_not_taken_for_an_orderly_end():
    async def test(rig: Rig) -> None:
        _reset(rig.peer)
        rig.stream.write(b"a")  # the error is told here, once: a read would see an end of stream
        assert not rig.stream.lost
        rig.stream.write(b"b")
        await rig.until(lambda: rig.connection.losses)
        assert isinstance(rig.connection.losses[0], OSError)
        assert not rig.stream.end_seen

    run(test)


def test_what_is_over_and_not_read_costs_nothing():
    """Both directions have ended while nobody reads: the kernel would say so again and again."""

    async def test(rig: Rig) -> None:
        calls = 0
        told = rig.stream._told_of_a_fault

        class Counting(Recording):
            __slots__ = ()

            def _told_of_a_fault(self, events: int) -> None:
                nonlocal calls
                calls += 1
                told(events)

        rig.stream.__class__ = Counting
        rig.stream.pause()
        rig.peer.send(b"unread")
        rig.peer.shutdown(socket.SHUT_WR)
        rig.stream.finish()
        await rig.until(lambda: calls)
        await asyncio.sleep(0.05)
        assert calls == 1
        rig.stream.resume()
        await rig.until(lambda: rig.stream.end_seen)
        assert rig.stream.seen == b"unread"

    run(test)


def test_a_fault_of_our_own_is_told_and_nothing_else_harmed():
    class Faulty(Recording):
        __slots__ = ()

        def received(self, data: bytes) -> None:
            raise RuntimeError(data)

    async def test(rig: Rig) -> None:
        rig.stream.__class__ = Faulty
        rig.peer.send(b"a")
        await rig.until(lambda: rig.connection.faults)
        assert repr(rig.connection.faults.pop()) == "RuntimeError(b'a')"
        rig.source.send(b"b")
        await rig.until(lambda: rig.feeder.seen == b"b")

    run(test)


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_what_nobody_takes_ends_in_a_reset_and_not_in_an_end_and_is_told(how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sp_proxy.relay.stream.CLOSE_PATIENCE", 0.1)
    monkeypatch.setattr("sp_proxy.relay.stream.RESET_PATIENCE", 0.1)

    async def test(rig: Rig) -> None:
        for _ in range(8):
            rig.stream.write(DATA)
        if how == "closed":
            rig.stream.close()
        else:
            rig.stream.reset()
        await rig.until(lambda: rig.stream.lost)
        assert rig.connection.given_up == [how]
        with pytest.raises(ConnectionResetError):
            await rig.all_of_peer()

    run(test)
