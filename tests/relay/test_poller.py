"""The epoll set of a worker's connections: who is told what, and when a descriptor may be used again."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import uvloop

from sp_proxy.relay.poller import READABLE, WRITABLE, Poller


def run(test: Callable[[Poller], Awaitable[None]]) -> None:
    async def within() -> None:
        poller = Poller(asyncio.get_running_loop())
        try:
            await test(poller)
        finally:
            poller.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(within(), 20))


def test_a_handler_is_told_until_it_is_forgotten():
    async def test(poller: Poller) -> None:
        ours, theirs = socket.socketpair()
        told: asyncio.Queue[int] = asyncio.Queue()

        def handler(events: int) -> None:
            told.put_nowait(events)
            ours.recv(10)

        with ours, theirs:
            poller.register(ours.fileno(), READABLE, handler)
            theirs.send(b"a")
            assert await told.get() & READABLE
            poller.modify(ours.fileno(), READABLE | WRITABLE)
            poller.unregister(ours.fileno())
            poller.unregister(ours.fileno())
            theirs.send(b"b")
            await asyncio.sleep(0.05)
            assert told.empty()

    run(test)


def test_a_number_is_not_used_again_within_a_turn():
    """Two sockets are readable at once; the first handler closes both, and opens another socket."""

    async def test(poller: Poller) -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        opened: list[socket.socket] = []
        done = asyncio.get_running_loop().create_future()

        def close_all(_events: int) -> None:
            numbers = {ours.fileno() for ours, _ in pairs}
            for ours, _ in pairs:
                poller.close(ours)
            opened.extend(socket.socketpair())
            assert numbers.isdisjoint(new.fileno() for new in opened)
            done.set_result(None)

        for ours, theirs in pairs:
            poller.register(ours.fileno(), READABLE, close_all)
            theirs.send(b"a")
        await done
        await asyncio.sleep(0)
        assert all(ours.fileno() == -1 for ours, _ in pairs)
        for each in (*opened, *(theirs for _, theirs in pairs)):
            each.close()

    run(test)


def test_outside_of_a_turn_a_socket_is_closed_at_once():
    async def test(poller: Poller) -> None:
        ours, theirs = socket.socketpair()
        poller.register(ours.fileno(), READABLE, lambda _: None)
        poller.close(ours)
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""
        theirs.close()

    run(test)
