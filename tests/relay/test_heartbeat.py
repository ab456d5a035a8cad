"""Heartbeats arrive as long as the loop turns, and no longer."""

import asyncio
import resource
import select
import signal
import socket
import time
from contextlib import ExitStack

import pytest

from sp_proxy.relay.heartbeat import Heartbeat, send
from tests.relay.running_worker import RunningWorker

INTERVAL = 0.05


class Ear:
    """Listens where heartbeats and withdrawals are sent, on both IP versions: two ports side by side."""

    def __init__(self, stack: ExitStack) -> None:
        for port in range(20000, 20400, 2):
            try:
                self._sockets = [
                    stack.enter_context(socket.create_server((address, number), family=family, backlog=1024))
                    for number in (port, port + 1)
                    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
                ]
            except OSError:
                continue
            self.port = port
            return
        raise AssertionError("no two free ports side by side")

    def heard(self, wait: float = 0.0) -> tuple[int, int, int, int]:
        """Connections since the last time: heartbeats of IPv4 and IPv6, withdrawals of IPv4 and IPv6."""
        time.sleep(wait)
        counts = []
        for listening in self._sockets:
            count = 0
            while select.select([listening], [], [], 0)[0]:
                listening.accept()[0].close()
                count += 1
            counts.append(count)
        return (counts[0], counts[1], counts[2], counts[3])


@pytest.fixture
def ear():
    with ExitStack() as stack:
        yield Ear(stack)


def test_one_is_one_connection_of_each_ip_version(ear):
    send(ear.port)
    assert ear.heard() == (1, 1, 0, 0)
    send(ear.port + 1)
    assert ear.heard() == (0, 0, 1, 1)


def test_where_nobody_listens_it_neither_waits_nor_raises():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    began = time.monotonic()
    send(free)
    assert time.monotonic() - began < 1


def test_without_descriptors_there_is_none(ear):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        send(ear.port)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ear.heard() == (0, 0, 0, 0)


async def until_heard(ear: Ear) -> None:
    async with asyncio.timeout(10):
        while ear.heard()[0] == 0:  # noqa: ASYNC110  # a socket that is looked at, no event
            await asyncio.sleep(INTERVAL)


async def beating(ear: Ear) -> None:
    loop = asyncio.get_running_loop()
    heart = Heartbeat(loop, ear.port, INTERVAL)
    assert not heart.withdraw()
    heart.start()
    assert ear.heard() == (1, 1, 0, 0), "the first at once"
    await until_heard(ear)
    assert ear.heard(wait=4 * INTERVAL) == (0, 0, 0, 0), "this loop was stuck"
    await until_heard(ear)
    assert heart.withdraw()
    assert ear.heard()[2:] == (1, 1)
    assert not heart.withdraw()
    await asyncio.sleep(4 * INTERVAL)
    assert ear.heard() == (0, 0, 0, 0)


def test_it_beats_while_the_loop_turns_until_it_is_withdrawn(ear):
    asyncio.run(beating(ear))


def test_without_a_port_nothing_is_sent():
    async def run() -> bool:
        heart = Heartbeat(asyncio.get_running_loop(), 0, INTERVAL)
        heart.start()
        return heart.withdraw()

    assert not asyncio.run(run())


def test_a_worker_beats_while_it_works_and_withdraws_before_it_stops_accepting(ear):
    options = {"heartbeat_port": ear.port, "heartbeat_interval": INTERVAL}
    with RunningWorker(("127.0.0.1", 1), options=options) as worker:
        deadline = time.monotonic() + 10
        while ear.heard(wait=INTERVAL)[:2] == (0, 0):
            assert time.monotonic() < deadline
        worker.process.send_signal(signal.SIGSTOP)
        ear.heard(wait=0.2)
        assert ear.heard(wait=6 * INTERVAL) == (0, 0, 0, 0)
        worker.process.send_signal(signal.SIGCONT)
        while ear.heard(wait=INTERVAL)[:2] == (0, 0):
            assert time.monotonic() < deadline
        worker.process.send_signal(signal.SIGTERM)
        while ear.heard(wait=0.005)[2] == 0:
            assert time.monotonic() < deadline
        socket.create_connection(worker.address).close()  # still accepted
        assert worker.process.wait(10) == 0


def test_a_worker_that_retires_leaves_the_heartbeat_to_others(ear):
    """Withdrawn, connections would go past those who have taken over."""
    options = {"heartbeat_port": ear.port, "heartbeat_interval": INTERVAL}
    with RunningWorker(("127.0.0.1", 1), options=options) as worker:
        worker.process.send_signal(signal.SIGUSR1)
        assert worker.process.wait(10) == 0
        assert ear.heard()[2:] == (0, 0)
        assert ear.heard(wait=4 * INTERVAL) == (0, 0, 0, 0)
