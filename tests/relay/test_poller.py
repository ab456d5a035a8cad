"""The epoll set of a worker's connections: who is told what, and when a descriptor may be used again."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import uvloop

from sp_proxy.relay import poller as poller_module
from sp_proxy.relay.poller import READABLE, WRITABLE, Poller


def run(test: Callable[[Poller], Awaitable[None]], *, stops: bool = False) -> None:
    """``stops``: the test stops the poller by itself."""

    async def within() -> None:
        poller = Poller(asyncio.get_running_loop())
        try:
            await test(poller)
        finally:
            if not stops:
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


def test_the_loop_has_its_turn_while_there_is_always_something():
    async def test(poller: Poller) -> None:
        ours, theirs = socket.socketpair()
        told = 0

        def handler(_events: int) -> None:
            nonlocal told
            told += 1  # nothing is read: it is told again and again

        with ours, theirs:
            poller.register(ours.fileno(), READABLE, handler)
            theirs.send(b"a")
            for _ in range(3):
                before = told
                await asyncio.sleep(0.001)
                assert told > before + 1, "more than once in a turn"
            poller.unregister(ours.fileno())

    run(test)


class Reader:
    """A registered socket, what was read from it, and its other end."""

    def __init__(self, poller: Poller) -> None:
        self.read: list[bytes] = []
        self.then: Callable[[], object] = int
        self._come = asyncio.Event()
        self._ours, self._theirs = socket.socketpair()
        poller.register(self._ours.fileno(), READABLE, self._on_events)

    def _on_events(self, _events: int) -> None:
        self.read.append(self._ours.recv(10))
        self.then()
        self._come.set()

    def send(self) -> None:
        """Send it a byte."""
        self._theirs.send(b"a")

    async def turn(self) -> int:
        """Send it a byte; how many it has read in the turn."""
        self._come.clear()
        self.read.clear()
        self.send()
        await self._come.wait()
        return len(self.read)

    def close(self) -> None:
        """Both ends."""
        self._ours.close()
        self._theirs.close()


class Clock:
    """Of which nothing but the poller's waiting reads: a µs passes with each look, and at some of them something is done."""

    def __init__(self) -> None:
        self.looks = 0
        self.at: dict[int, Callable[[], object]] = {}

    def __call__(self) -> int:
        self.looks += 1
        self.at.get(self.looks, int)()
        return self.looks * 1000

    def begin(self, at: dict[int, Callable[[], object]] | None = None) -> None:
        """Count anew, and do this at these looks."""
        self.looks = 0
        self.at = at or {}


def test_what_comes_soon_is_waited_for_awake(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    monkeypatch.setattr(poller_module, "perf_counter_ns", clock)

    async def test(poller: Poller) -> None:
        with contextlib.closing(Reader(poller)) as reader:
            clock.begin({20: reader.send, 40: reader.send})
            assert await reader.turn() == 3
            assert 140 <= clock.looks < 150, "100 µs behind the last it ended"

    run(test)


def test_what_does_not_come_soon_is_waited_for_ever_more_seldom(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    monkeypatch.setattr(poller_module, "perf_counter_ns", clock)

    async def waits(reader: Reader) -> bool:
        clock.begin()
        await reader.turn()
        return clock.looks > 100

    async def test(poller: Poller) -> None:
        with contextlib.closing(Reader(poller)) as reader:
            assert [number for number in range(1100) if await waits(reader)] == [0, 2, 8, 30, 116, 458, 970]
            for _ in range(1100, 970 + 512):
                await waits(reader)
            # Once it has come often enough, it is waited for again.
            clock.begin({10 * number: reader.send for number in range(1, 10)})
            assert await reader.turn() == 10
            assert [await waits(reader) for _ in range(4)] == [False, True, False, False]

    run(test)


def test_a_turn_that_took_its_time_is_followed_by_another(monkeypatch: pytest.MonkeyPatch):
    """In which what comes next is waited for awake, too: the loop would fall asleep."""
    clock = Clock()
    monkeypatch.setattr(poller_module, "perf_counter_ns", clock)

    async def test(poller: Poller) -> None:
        with contextlib.closing(Reader(poller)) as reader:

            def take_time() -> None:
                clock.looks += poller_module.TURN_NS // 1000
                clock.at = {clock.looks + 20: reader.send}
                reader.then = int

            reader.then = take_time
            clock.begin()
            await reader.turn()
            async with asyncio.timeout(5):
                while len(reader.read) < 2:  # noqa: ASYNC110 (as below)
                    await asyncio.sleep(0.001)

    run(test)


def test_turns_do_not_multiply():
    """However long there is always something, the loop's timers are late by one turn, and nothing is left behind the end."""

    async def test(poller: Poller) -> None:
        loop = asyncio.get_running_loop()
        failures: list[object] = []
        loop.set_exception_handler(lambda _, context: failures.append(context))
        ours, theirs = socket.socketpair()
        told = 0

        def handler(_events: int) -> None:
            nonlocal told
            told += 1

        with ours, theirs:
            poller.register(ours.fileno(), READABLE, handler)
            theirs.send(b"a")
            most = 0
            for _ in range(50):
                before = clock.looks
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                most = max(most, clock.looks - before)
            # A look at the clock is a µs: two passes of the loop have two turns, or three.
            assert most <= 3.1 * poller_module.TURN_NS / 1000
            poller.unregister(ours.fileno())
            poller.stop()
            await asyncio.sleep(0.01)
            assert not failures

    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(poller_module, "perf_counter_ns", clock)
        run(test, stops=True)


def test_a_turn_that_is_ended_is_followed_by_none_of_itself(monkeypatch: pytest.MonkeyPatch):
    """Or who is awake would take what others wait for, too."""
    clock = Clock()
    monkeypatch.setattr(poller_module, "perf_counter_ns", clock)

    async def test(poller: Poller) -> None:
        with contextlib.closing(Reader(poller)) as reader:
            reader.then = poller.end_turn
            clock.begin()
            await reader.turn()
            looks = clock.looks
            await asyncio.sleep(0.01)
            assert clock.looks == looks, "nobody waits awake"

    run(test)


def test_the_turn_ends_when_the_loop_has_something_to_do():
    async def test(poller: Poller) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.closing(Reader(poller)) as reader:
            told = 0
            seen: list[int] = []

            def then() -> None:
                nonlocal told
                told += 1
                reader.send()  # there is always more
                if told == 3:
                    loop.call_soon(lambda: seen.append(told))
                    poller.end_turn()

            reader.then = then
            reader.send()
            while not seen:  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.001)
            assert seen == [3]

    run(test)


def test_a_fault_at_the_end_of_a_round_costs_nobody_else(caplog: pytest.LogCaptureFixture):
    async def test(poller: Poller) -> None:
        with contextlib.closing(Reader(poller)) as one, contextlib.closing(Reader(poller)) as two:
            done: list[str] = []

            def fail() -> None:
                raise ValueError("a fault")

            one.then = lambda: poller.at_end(fail)
            two.then = lambda: poller.at_end(partial(done.append, "done"))
            one.send()
            await two.turn()
            assert done == ["done"]
            assert caplog.text.count("ValueError: a fault") == 1

    run(test)


def test_what_is_to_be_done_at_the_end_of_a_round_is_done_behind_all_that_was_told():
    async def test(poller: Poller) -> None:
        with contextlib.closing(Reader(poller)) as one, contextlib.closing(Reader(poller)) as two:
            order: list[str] = []
            assert not poller.at_end(partial(order.append, "never")), "nothing is being told"

            def told(name: str) -> None:
                order.append(name)
                assert poller.at_end(partial(order.append, "behind " + name))

            one.then = lambda: order.append(f"alone: {poller.at_end(partial(order.append, 'never'))}")
            await one.turn()
            assert order == ["alone: False"]
            order.clear()
            one.then, two.then = partial(told, "one"), partial(told, "two")
            two.send()
            await one.turn()
            assert sorted(order[:2]) == ["one", "two"]
            assert order[2:] == ["behind " + name for name in order[:2]]

    run(test)
