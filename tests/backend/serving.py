"""The real backend on a real socket, for one test."""

import json
import queue
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import httpx
import trio

from sp_proxy.backend.serve import serve
from sp_proxy.settings.backend import Backend


def listener(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    sock.bind((host, 0))
    sock.listen()
    return sock


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what another process or task brings about, and nothing tells of."""
    with trio.fail_after(30):
        while not await condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def stat(client: httpx.AsyncClient, name: str) -> int:
    """One number of ``/api/v1/stats``."""
    value: int = (await client.get("/api/v1/stats")).json()[name]
    return value


class Events:
    """A reader of server-sent events on a bare socket, which reads no further than it is asked to."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def block(self) -> str:
        """The next block, without the empty line after it. Raises EndOfChannel."""
        while b"\n\n" not in self._buffer:
            data = await self._stream.receive_some(65536)
            if not data:
                raise trio.EndOfChannel
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\n\n")
        return head.decode()

    async def next(self) -> tuple[str, Any]:
        """Name and data of the next event; comments are passed over."""
        while (block := await self.block()).startswith(":"):
            pass
        name, data = block.split("\n")
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@asynccontextmanager
async def live(client: httpx.AsyncClient, query: str = "") -> AsyncIterator[Events]:
    """Listening, from when the block begins."""
    before = await stat(client, "live_subscribers")
    stream = await trio.open_tcp_stream(client.base_url.host, client.base_url.port or 0)
    async with stream:
        # HTTP/1.0: the body is then as it is, without chunks.
        await stream.send_all(f"GET /api/v1/live{query} HTTP/1.0\r\nhost: localhost\r\n\r\n".encode())

        async def listening():
            return await stat(client, "live_subscribers") > before

        await until(listening)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"content-type: text/event-stream" in head.lower()
        yield Events(stream)


@asynccontextmanager
async def backend(host: str = "127.0.0.1", **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running backend, which is in memory unless ``database`` is given."""
    wanted = Backend(**{"database": ":memory:", **settings})
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve, wanted, sockets=[listener(host)]))
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            yield client
        nursery.cancel_scope.cancel()


@contextmanager
def threaded(**settings: Any) -> Iterator[str]:
    """The URL of a running backend, for clients that know nothing of trio."""
    wanted = Backend(**{"database": ":memory:", **settings})
    started: queue.SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]] = queue.SimpleQueue()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve, wanted, sockets=[listener()]))
            started.put((url, trio.lowlevel.current_trio_token(), nursery.cancel_scope))

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    url, token, scope = started.get(timeout=30)
    try:
        yield url
    finally:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        thread.join()
