"""What goes out at one end of a relayed connection, over real sockets: it arrives, in order, and so does its end."""

import asyncio
import contextlib
import socket

import pytest

from sp_proxy.relay.outgoing import MAX_LATER_BYTES
from tests.relay.stream_rig import DATA, Rig, reset, run


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


@pytest.mark.parametrize("then", ["finish", "close", "reset", "abort", "urge", "take_back", "write much", "watch", ""])
def test_what_is_written_in_a_round_goes_out_at_its_end_and_before_what_follows(then: str):
    async def test(rig: Rig) -> None:
        stream = rig.stream
        before: list[bytes] = []
        after: list[bytes] = []

        def write() -> None:
            stream.write(b"one ")
            stream.write(b"two")
            before.append(arrived(rig.peer))
            assert stream.pending == 7
            match then:
                case "finish" | "close" | "reset" | "abort" | "take_back":
                    assert not getattr(stream, then)()
                case "urge":
                    stream.write_urgent(b"!")
                case "watch":  # as when upstream is connected behind the client's end of stream
                    stream._finishing = True
                    stream.watch(reading=True)
                case "write much":
                    stream.write(bytes(MAX_LATER_BYTES))
            after.append(arrived(rig.peer))

        rig.feeder.then = write
        rig.peer.send(b"not alone")
        rig.source.send(b"go")
        await rig.until(lambda: after)
        assert before == [b""]
        sent = b"one two" + bytes(MAX_LATER_BYTES if then == "write much" else 0)
        if not then:
            assert after == [b""]
            await rig.until(lambda: arrived(rig.peer) == sent)
        else:
            assert after == [sent]
        if then in {"finish", "close", "abort", "watch"}:
            assert rig.peer.recv(1) == b""
        elif then == "reset":
            with pytest.raises(ConnectionResetError):
                rig.peer.recv(1)

    run(test)


def test_what_is_written_in_a_round_of_its_own_goes_out_at_once():
    async def test(rig: Rig) -> None:
        there: list[bytes] = []

        def write() -> None:
            rig.stream.write(b"one")
            there.append(arrived(rig.peer))

        rig.feeder.then = write
        rig.source.send(b"go")
        await rig.until(lambda: there)
        assert there == [b"one"]

    run(test)


def test_what_is_written_in_a_round_is_nobodys_when_the_stream_is_lost_in_it():
    async def test(rig: Rig) -> None:
        def write() -> None:
            rig.stream.write(b"one")
            rig.stream.lose(ConnectionResetError())

        rig.feeder.then = write
        rig.peer.send(b"not alone")
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


def test_an_error_while_writing_is_not_taken_for_an_orderly_end():
    async def test(rig: Rig) -> None:
        reset(rig.peer)
        rig.stream.write(b"a")  # the error is told here, once: a read would see an end of stream
        assert not rig.stream.lost
        rig.stream.write(b"b")
        await rig.until(lambda: rig.connection.losses)
        assert isinstance(rig.connection.losses[0], OSError)
        assert not rig.stream.end_seen

    run(test)


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_what_nobody_takes_ends_in_a_reset_and_not_in_an_end_and_is_told(how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sp_proxy.relay.outgoing.CLOSE_PATIENCE", 0.1)
    monkeypatch.setattr("sp_proxy.relay.outgoing.RESET_PATIENCE", 0.1)

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
