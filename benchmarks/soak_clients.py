"""The clients of the soaks, and the gRPC server, each in a process of its own. A client tells how far it is through its first
argument, a number of things done, some hundred times; and at last the connections that it made.

No two requests are alike: what would be remembered for each of them would be seen in the daemon's memory.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.processes import BenchmarkError

CALLS_AT_A_TIME = 32
CLIENTS = 16
"""Connections that are open at a time, where they come and go."""
REPORTS = 200
MOST_REQUESTS = 40
"""On one connection of HTTP/1."""
THINK_SECONDS = 0.01
ABORTED = 0.1
"""The part of connections that their client breaks off in the middle of an answer."""
ANSWER_BYTES = 1024
METHODS = ("Get", "List", "Put", "Cancel")
SERVER_NAME = "soak.test"
"""Of the server inside of TLS."""
_TIMEOUT = 60.0


class Progress:
    """Counts what is done, and tells it every so often."""

    def __init__(self, teller: Connection, whole: int) -> None:
        self._teller = teller
        self._step = max(1, whole // REPORTS)
        self.done = 0

    def one_more(self) -> None:
        self.done += 1
        if self.done % self._step == 0:
            self._teller.send(self.done)


# ---- gRPC


def serve_grpc(port: Connection, certificate: str = "") -> None:
    """Answer every call of ``soak.Orders`` with its message, for ever; inside of TLS with a certificate and key."""
    import grpc  # noqa: PLC0415  # only in this process

    pem = Path(certificate).read_bytes() if certificate else b""  # key and certificate in one file

    async def answer(request: bytes, _: object) -> bytes:  # what a handler is
        return request

    async def serve() -> None:
        server = grpc.aio.server()
        unary = grpc.unary_unary_rpc_method_handler(answer)
        handlers = dict.fromkeys(METHODS, unary)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("soak.Orders", handlers),))
        if pem:
            port.send(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)])))
        else:
            port.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def _channel(port: int, trusted: str, *options: tuple[str, int | str]) -> Any:
    import grpc  # noqa: PLC0415

    if not trusted:
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
    credentials = grpc.ssl_channel_credentials(Path(trusted).read_bytes())
    named = (*options, ("grpc.ssl_target_name_override", SERVER_NAME))
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=named)


def call_on_one_connection(teller: Connection, port: int, calls: int, trusted: str = "") -> None:
    """Unary calls, some at a time, all on one connection; inside of TLS where an authority is trusted."""

    async def call() -> int:
        progress = Progress(teller, calls)
        async with _channel(port, trusted) as channel:
            await _side_by_side(CALLS_AT_A_TIME, calls, lambda number: _call(channel, number), progress)
        return 1

    teller.send((asyncio.run(call()),))


def call_on_new_connections(teller: Connection, port: int, connections: int, trusted: str = "") -> None:
    """A connection for each call."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))  # else channels share connections

    async def one(number: int) -> None:
        async with _channel(port, trusted, *options) as channel:
            await _call(channel, number)

    async def call() -> None:
        await _side_by_side(CLIENTS, connections, one, Progress(teller, connections))

    asyncio.run(call())
    teller.send((connections,))


async def _call(channel: Any, number: int) -> None:
    message = b"%d " % number * 8
    method = channel.unary_unary(f"/soak.Orders/{METHODS[number % len(METHODS)]}")
    answer = await method(message, metadata=(("x-order", str(number)),), timeout=_TIMEOUT)
    if answer != message:
        raise BenchmarkError(f"the answer to call {number} was {answer[:40]!r}")


async def _side_by_side(tasks: int, whole: int, one: Callable[[int], Awaitable[None]], progress: Progress) -> None:
    """All numbers below ``whole``, so many at a time."""
    numbers = iter(range(whole))

    async def some() -> None:
        for number in numbers:
            await one(number)
            progress.one_more()

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(some())


# ---- HTTP/1


def come_and_go(teller: Connection, port: int, seconds: float) -> None:
    """Requests over connections that last for some of them, for so long. Progress is in thousandths of the time."""
    draw = random.Random(1)
    connections = 0
    requests = 0

    async def visit() -> None:
        nonlocal requests
        async with _connection(port) as (reader, writer):
            for _ in range(draw.randrange(1, MOST_REQUESTS)):
                requests += 1
                body = b'{"order":%d}' % requests
                head = f"POST /orders/{requests} HTTP/1.1\r\nhost: shop.test\r\nx-order: {requests}\r\n"
                writer.write(head.encode() + b"content-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
                if draw.random() < ABORTED / MOST_REQUESTS:
                    await reader.readexactly(10)
                    writer.transport.abort()
                    return
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(ANSWER_BYTES)
                await asyncio.sleep(draw.random() * THINK_SECONDS)

    async def client(begun: float) -> None:
        nonlocal connections
        while time.monotonic() - begun < seconds:
            connections += 1
            await visit()

    async def tell(begun: float) -> None:
        while (spent := time.monotonic() - begun) < seconds:
            teller.send(round(1000 * spent / seconds))
            await asyncio.sleep(seconds / REPORTS)

    async def run() -> None:
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(tell(begun))
            for _ in range(CLIENTS):
                group.create_task(client(begun))

    uvloop.run(run())
    teller.send((connections,))


@contextlib.asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
