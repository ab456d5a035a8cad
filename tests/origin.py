"""The plainest origin there is, for tests on trio."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def origin() -> AsyncIterator[str]:
    """Answers each GET with two bytes."""

    async def serve(stream: trio.SocketStream) -> None:
        buffer = b""
        async with stream:
            try:
                async for data in stream:
                    *requests, buffer = (buffer + data).split(b"\r\n\r\n")
                    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" * len(requests))
            except trio.BrokenResourceError:
                return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
