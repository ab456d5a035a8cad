"""A steady load: so many exchanges a second, each with a JSON body of its own in both directions, over kept connections,
from a client to an origin, each in a process of its own.

A request goes at its moment, or as soon after that as its connection had the answer to the one before. Their number is
fixed: a machine that is too slow for the rate takes longer.
"""

import asyncio
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, cast

import uvloop

from benchmarks.processes import BenchmarkError

CONNECTIONS = 32
VARIANTS = 64
"""Different bodies each way. At 16 KiB, two of the same are farther apart than deflate looks back."""
MARGIN_SECONDS = 60.0
SLOWEST = 4.0
"""Times the time that a load should take, after which it has failed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the client does."""

    rate: float
    seconds: float
    body_size: int

    @property
    def requests(self) -> int:
        """How many there are."""
        return round(self.rate * self.seconds)


@dataclass(frozen=True, slots=True)
class Driven:
    """What the client saw."""

    seconds: float
    latencies_us: list[int]
    """Of every exchange, from its request to the end of its answer, in order of size."""

    @property
    def rate(self) -> float:
        """Exchanges a second."""
        return len(self.latencies_us) / self.seconds


def document(draw: random.Random, size: int) -> bytes:
    """A JSON document of exactly this size, of 16 bytes at least."""
    items: list[str] = []
    left = size - len('{"items": []}')
    while True:
        price = draw.randrange(9999) / 100
        item = json.dumps({"sku": f"SKU-{draw.randrange(10**6)}", "quantity": draw.randrange(9), "price": price})
        left -= len(item) + 2
        if left < 0:
            return f'{{"items": [{", ".join(items)}]}}'.ljust(size).encode()
        items.append(item)


def bodies(size: int, seed: int) -> list[bytes]:
    """``VARIANTS`` documents of this size."""
    draw = random.Random(seed)
    return [document(draw, size) for _ in range(VARIANTS)]


@contextmanager
def served(serve: Callable[..., object], *arguments: object) -> Iterator[int]:
    """A server in a process of its own, which tells its port through its first argument. Raises BenchmarkError."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=[sender, *arguments], daemon=True)
    process.start()
    sender.close()
    try:
        yield _heard(receiver, MARGIN_SECONDS, "a server")
    finally:
        process.terminate()
        process.join()


def drive(port: int, load: Load) -> Driven:
    """Put the load on a port of the loopback interface. Raises BenchmarkError when an exchange fails."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    client = context.Process(target=_ask, args=[sender, port, load], daemon=True)
    client.start()
    sender.close()
    try:
        seconds, latencies = _heard(receiver, SLOWEST * load.seconds + MARGIN_SECONDS, "the client")
    finally:
        client.terminate()
        client.join()
    return Driven(seconds, latencies)


def _heard(receiver: Connection, seconds: float, who: str) -> Any:
    if not receiver.poll(seconds):
        raise BenchmarkError(f"{who} said nothing in {seconds:g} s")
    try:
        return receiver.recv()
    except EOFError:
        raise BenchmarkError(f"{who} failed") from None


# ---- in their processes


def serve_origin(port: Connection, body_size: int) -> None:
    """Answer every request with the next of the bodies, for ever."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % body_size
    answers = [head + body for body in bodies(body_size, 1)]

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(partial(_Origin, answers), "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


class _Origin(asyncio.Protocol):
    """One connection; requests have a length."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._number = 0
        self._head = b""
        self._body_left = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        while data:
            if not self._body_left:
                head, end, rest = (self._head + data).partition(b"\r\n\r\n")
                if not end:
                    self._head = head
                    return
                self._head = b""
                self._body_left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                data = rest
            taken = min(len(data), self._body_left)
            self._body_left -= taken
            data = data[taken:]
            if not self._body_left and self._transport is not None:
                self._number += 1
                self._transport.write(self._answers[self._number % len(self._answers)])


def _ask(result: Connection, port: int, load: Load) -> None:
    head = b"POST /orders HTTP/1.1\r\nhost: shop.example\r\ncontent-type: application/json\r\n"
    requests = [head + b"content-length: %d\r\n\r\n" % len(body) + body for body in bodies(load.body_size, 2)]
    latencies: list[int] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: int, start: float) -> None:
        for number in range(first, load.requests, CONNECTIONS):
            if (wait := start + number / load.rate - time.perf_counter()) > 0:  # the loop's own clock counts in ms
                await asyncio.sleep(wait)
            begun = time.perf_counter()
            writer.write(requests[number % VARIANTS])
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(load.body_size)
            latencies.append(round((time.perf_counter() - begun) * 1e6))
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise BenchmarkError(f"the answer was {answer[:40]!r}")
        writer.close()

    async def ask() -> float:
        connected = [await asyncio.open_connection("127.0.0.1", port, limit=1 << 20) for _ in range(CONNECTIONS)]
        start = time.perf_counter() + 0.1  # only now: a client that begins late would make up for it in a burst
        async with asyncio.TaskGroup() as group:
            for number, (reader, writer) in enumerate(connected):
                group.create_task(connection(reader, writer, number, start))
        return time.perf_counter() - start

    seconds = uvloop.run(ask())
    result.send((seconds, sorted(latencies)))
