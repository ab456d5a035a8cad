"""The mitm worker's keeper with real processes, and clients that are handed over to it."""

import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
import trio.testing

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from sp_proxy.mitm.config import MitmConfig
from sp_proxy.relay.handoff import HandOver, HandOverSender
from sp_proxy.supervisor.engine import Engine
from sp_proxy.supervisor.engine_process import EnginePlan
from sp_proxy.supervisor.generation import Attach
from sp_proxy.supervisor.guard_table import GuardTable

FAKE = (sys.executable, str(Path(__file__).with_name("fake_mitm.py")))
CONFIG = MitmConfig(-1, -1, -1, HeaderConfig("test"), PolicyConfig(), grace_period=5.0)
QUICK = RestartPolicy(initial=0.01, maximum=0.02)
DESTINATION = ("192.0.2.1", 443)


@dataclass
class Running:
    engine: Engine
    sender: HandOverSender
    table: GuardTable
    attach: Attach
    channels: list[int] = field(default_factory=list)
    diverted: list[tuple[tuple[str, int], bytes]] = field(default_factory=list)

    def hand_over(self, prefix: bytes = b"first") -> tuple[trio.SocketStream, str | None]:
        """A client, and why it was not handed over."""
        ours, theirs = socket.socketpair()
        with theirs:
            refusal = self.sender.send(theirs.fileno(), HandOver(Direction.INBOUND, ("a", 1), DESTINATION, prefix))
        return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), refusal

    async def served(self, prefix: bytes = b"first") -> tuple[trio.SocketStream, int]:
        """A client that is served, and the process id of who does."""
        stream, refusal = self.hand_over(prefix)
        assert refusal is None
        line = b""
        while not line.endswith(b"\n"):
            data = await stream.receive_some(1)
            assert data, "closed before it was served"
            line += data
        assert await read(stream, len(prefix)) == prefix
        return stream, int(line)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # another process decides
            await trio.sleep(0.01)


async def read(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := await stream.receive_some(size - len(data))):
        data += piece
    return data


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Running]:
    table = GuardTable()
    seen: list[int] = []
    diverted: list[tuple[tuple[str, int], bytes]] = []

    async def consume(_exchanges: object) -> None:
        await trio.lowlevel.checkpoint()

    async def pass_through(client: socket.socket, destination: tuple[str, int], prefix: bytes) -> None:
        client.close()
        diverted.append((destination, prefix))
        await trio.lowlevel.checkpoint()

    with table, trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            def attach(sock: socket.socket, worker_id: int) -> WorkerChannel:
                seen.append(worker_id)
                channel = WorkerChannel(worker_id)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                nursery.start_soon(receive, stream, channel, WorkerReports(), consume)
                return channel

            plan = EnginePlan(**{"config": CONFIG, "command": FAKE, "policy": QUICK, **options})
            engine = Engine(plan, table, attach, pass_through)
            sending, state = engine.descriptors
            sender = HandOverSender(os.dup(sending), os.dup(state))
            try:
                nursery.start_soon(engine.run)
                yield Running(engine, sender, table, attach, seen, diverted)
                nursery.cancel_scope.cancel()
            finally:
                sender.close()
    engine.close()
