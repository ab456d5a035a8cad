"""Bytes move unchanged, and each end is told of for what it is."""

import asyncio
import random
import socket
import struct
from pathlib import Path

import pytest
import uvloop

from sp_proxy.relay.splice import End, Splice

SIZE = 5_000_000
DATA = random.Random(3).randbytes(SIZE)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection, not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for each in (one, other):
        each.setblocking(False)
    return one, other


class Moving:
    """A splice between two connections, with a peer at each end."""

    def __init__(self, size: int) -> None:
        self.sender, self.source = pair()
        self.destination, self.receiver = pair()
        self.moved = 0
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.splice = Splice(
            asyncio.get_running_loop(),
            self.source.fileno(),
            self.destination.fileno(),
            size,
            self._moved,
            self.ended.set_result,
        )

    def _moved(self, size: int) -> None:
        self.moved += size

    def close(self) -> None:
        self.splice.close()
        for each in (self.sender, self.source, self.destination, self.receiver):
            each.close()


def run(test) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        before = len(list(Path("/proc/self/fd").iterdir()))
        runner.run(test())
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4  # the loop's own


async def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 20), 10)
        if not piece:
            break
        data += piece
    return bytes(data)


def test_so_many_bytes_and_no_more() -> None:
    async def test() -> None:
        moving = Moving(SIZE - 1000)
        loop = asyncio.get_running_loop()
        sending = loop.create_task(loop.sock_sendall(moving.sender, DATA))
        assert await receive(moving.receiver, SIZE - 1000) == DATA[:-1000]
        assert await asyncio.wait_for(moving.ended, 10) is End.COMPLETE
        await sending
        assert moving.moved == SIZE - 1000
        assert await receive(moving.source, 1000) == DATA[-1000:]
        moving.close()

    run(test)


def test_the_end_of_the_source() -> None:
    async def test() -> None:
        moving = Moving(1 << 62)
        loop = asyncio.get_running_loop()

        async def send() -> None:
            await loop.sock_sendall(moving.sender, DATA)
            moving.sender.shutdown(socket.SHUT_WR)

        sending = loop.create_task(send())
        assert await receive(moving.receiver, SIZE) == DATA
        assert await asyncio.wait_for(moving.ended, 10) is End.SOURCE_EOF
        await sending
        moving.close()

    run(test)


@pytest.mark.parametrize("end", [End.SOURCE_LOST, End.DESTINATION_LOST])
def test_a_reset(end: End) -> None:
    async def test() -> None:
        moving = Moving(1 << 62)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(moving.sender, DATA[:1000])
        assert await receive(moving.receiver, 1000) == DATA[:1000]
        peer = moving.sender if end is End.SOURCE_LOST else moving.receiver
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        if end is End.DESTINATION_LOST:
            await loop.sock_sendall(moving.sender, DATA[:1000])
        assert await asyncio.wait_for(moving.ended, 10) is end
        moving.close()

    run(test)


def test_what_is_in_the_pipe_is_not_lost_when_it_is_given_up() -> None:
    async def test() -> None:
        moving = Moving(1 << 62)
        loop = asyncio.get_running_loop()
        sending = loop.create_task(loop.sock_sendall(moving.sender, DATA))
        last = -1
        while last != moving.moved:  # until the receiver's window and the pipe are full
            last = moving.moved
            await asyncio.sleep(0.2)
        sending.cancel()
        rest = moving.splice.rest()
        assert rest
        got = await receive(moving.receiver, moving.moved)
        assert got + rest == DATA[: moving.moved + len(rest)]
        moving.close()
        moving.close()

    run(test)
