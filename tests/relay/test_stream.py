"""One end of a relayed connection, over real sockets: what comes is told, and what becomes of it."""

import asyncio
import socket

import pytest

from sp_proxy.relay.poller import READABLE, URGENT
from tests.relay.stream_rig import Recording, Rig, reset, run


def test_what_comes_is_told_and_so_is_its_end():
    async def test(rig: Rig) -> None:
        rig.peer.send(b"hello")
        await rig.until(lambda: rig.stream.seen == b"hello")
        rig.peer.shutdown(socket.SHUT_WR)
        await rig.until(lambda: rig.stream.end_seen)
        assert rig.stream.ended
        assert not rig.stream.lost

    run(test)


@pytest.mark.parametrize("reading", [False, True])
def test_a_reset_is_told_once_behind_what_came_before_it(reading):
    async def test(rig: Rig) -> None:
        if not reading:
            rig.stream.pause()
        rig.peer.send(b"answer")
        reset(rig.peer)
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
        reset(rig.peer)
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


def test_who_has_failed_is_not_told_of_it_for_the_rest_of_the_turn():
    async def test(rig: Rig) -> None:
        def write() -> None:
            reset(rig.peer)
            rig.stream.write(bytes(20_000))

        rig.feeder.then = write
        rig.source.send(b"go")
        await rig.until(lambda: rig.connection.losses)
        assert rig.stream.told <= 2

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
