"""A stream over real sockets, which keeps what it is told."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from sp_proxy.relay.poller import Poller
from sp_proxy.relay.stream import Stream

DATA = bytes(range(256)) * 8192


class Recording(Stream):
    """Keeps what it is told."""

    __slots__ = ("end_seen", "seen", "spliced", "then", "told")

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)  # type: ignore[arg-type]
        self.seen = b""
        self.end_seen = False
        self.spliced = False
        self.then: Callable[[], object] = int
        self.told = 0

    def _on_events(self, events: int) -> None:
        self.told += 1
        super()._on_events(events)

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


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
