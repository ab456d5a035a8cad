"""One generation by itself: who is told to end, and how."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.generation import Generation, WorkerPlan, describe_end
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.sockets import BoundListener, bind_address

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
CONFIG = WorkerConfig(-1, -1, (), HeaderConfig("test"), PolicyConfig(), grace_period=5.0)


@asynccontextmanager
async def generation(count: int = 1, name: str = "test") -> AsyncIterator[tuple[Generation, trio.Nursery]]:
    """One that has not begun, and where it may run."""
    (sock,) = bind_address("listen.inbound", Address("127.0.0.1", 0))
    reports = WorkerReports()

    async def consume(_exchanges: object) -> None:
        await trio.lowlevel.checkpoint()

    with sock, GuardTable() as table, trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            def attach(channel_socket: object, worker_id: int) -> WorkerChannel:
                channel = WorkerChannel(worker_id)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(channel_socket))  # type: ignore[arg-type]
                nursery.start_soon(receive, stream, channel, reports, consume)
                return channel

            config = msgspec.structs.replace(CONFIG, headers=HeaderConfig(name))
            plan = WorkerPlan(count, config, FAKE, RestartPolicy(initial=0.01, maximum=0.02))
            listeners = [BoundListener("listen.inbound", Direction.INBOUND, sock)]
            yield Generation(plan, listeners, table, attach, lambda: None), nursery


async def until_complete(made: Generation) -> None:
    while not made.complete:  # noqa: ASYNC110  # processes
        await trio.sleep(0.01)


async def test_retired_all_end_and_it_is_known_when_they_accept_no_more():
    async with generation(2) as (made, nursery):
        nursery.start_soon(made.run)
        await until_complete(made)
        assert len(made.pids) == 2
        made.retire()
        await made.accepts_no_more()
        await made.ended.wait()
        assert (made.pids, made.restart_total) == ({}, 0)


async def test_one_that_is_not_ready_is_ended_at_once():
    async with generation(name="hangs") as (made, nursery):
        nursery.start_soon(made.run)
        while not made.pids:  # noqa: ASYNC110
            await trio.sleep(0.01)
        made.retire()
        await made.accepts_no_more()
        await made.ended.wait()
        assert not made.complete


async def test_retired_before_it_began_it_starts_nothing():
    async with generation() as (made, nursery):
        made.retire()
        await made.run()
        assert made.ended.is_set()
        assert made.ever_ready == set()
        nursery.cancel_scope.cancel()


async def test_drained_it_ends_and_a_second_time_is_the_same():
    async with generation() as (made, nursery):
        nursery.start_soon(made.run)
        await until_complete(made)
        made.drain()
        made.drain()
        await made.ended.wait()
        assert made.restart_total == 0


def test_ends_are_named():
    assert describe_end(3) == "exit code 3"
    assert describe_end(-signal.SIGKILL) == "killed by SIGKILL"
