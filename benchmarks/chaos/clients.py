"""The clients of one place: each asks, waits, asks again, and writes down what became of every single request.

    python -m benchmarks.chaos.clients JOURNAL COPIES TARGETS

``TARGETS`` is a list in JSON of ``[pod, way, address, port, authority]``. For each target there is a client of each kind (``COPIES``
of those that are busy). They go on until SIGTERM, then finish what they have begun. No client ever asks again for what has
failed: an application that does not would not either.
"""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import msgspec

from benchmarks.chaos.http import MAX_HEAD, BrokenError, Message, content, read_message
from benchmarks.chaos.http2 import Http2

TIMEOUT = 40.0
"""Seconds after which a request has failed: far above the longest stop of any process."""
NO_ANSWER = f"no answer in {TIMEOUT:g} s"
WRONG_CONTENT = "WRONG CONTENT"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a client behaves."""

    name: str
    per_connection: int
    """Requests on one connection."""
    think: tuple[float, float]
    """Seconds between two requests."""
    sent: int
    """Bytes of a request's body."""
    received: int
    """Bytes of an answer's."""
    pieces: int
    """In which the answer comes, a tenth of a second between two."""
    busy: bool
    """There are as many of these as asked for; of others one."""
    http2: bool = False
    """Outbound only: beside Envoy, inbound is HTTP/1 in any case."""


KINDS = (
    Kind("fresh", 1, (0.05, 0.15), 0, 200, 1, busy=True),
    Kind("kept", 30, (0.05, 0.15), 2000, 500, 1, busy=True),
    # Idle for longer than a drain waits before it closes a connection.
    Kind("seldom", 30, (0.4, 1.2), 0, 200, 1, busy=False),
    # Nearly always under way: whatever dies takes one with it.
    Kind("slow", 5, (0.05, 0.15), 50_000, 100_000, 10, busy=False),
    Kind("http2", 50, (0.05, 0.3), 1000, 500, 1, busy=False, http2=True),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client's requests go."""

    pod: str
    """Whose traffic it is: of the pod with sp_proxy, or of the one without."""
    way: str
    """Direction and IP version, as seen from that pod."""
    address: str
    port: int
    authority: str


class Request(msgspec.Struct, frozen=True, array_like=True):
    """What became of one. Times are of the machine's monotonic clock."""

    path: str
    """Which no other request has."""
    pod: str
    way: str
    kind: str
    port: int
    """The client's own, of its connection; 0: there was none."""
    opened: float
    """When connecting began."""
    begun: float
    ended: float
    error: str
    """Empty: the whole answer came, and was right."""
    hops: int
    """sp_proxies that it came through; only known with an answer."""


class _Connection:
    """One of a client's."""

    def __init__(self, opened: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened = opened
        self.reader = reader
        self.writer = writer
        self.port: int = writer.get_extra_info("sockname")[1]
        self.requests = 0
        self.http2: Http2 | None = None

    async def usable(self) -> bool:
        """Not ended by the other side, as far as can be known."""
        if self.http2 is not None and not await self.http2.usable():
            return False
        return not self.reader.at_eof() and self.reader.exception() is None and not self.writer.is_closing()


class Client:
    """One that asks again and again."""

    def __init__(self, target: Target, kind: Kind, numbers: Iterator[int], journal: TextIO) -> None:
        self._target = target
        self._kind = kind
        self._numbers = numbers
        self._journal = journal
        self._connection: _Connection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until it is told to stop."""
        while not stop.is_set():
            self._journal.write(msgspec.json.encode(await self._ask()).decode() + "\n")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), random.uniform(*self._kind.think))
        self._leave()

    async def _ask(self) -> Request:
        kind, target = self._kind, self._target
        path = f"/{target.pod}/{target.way}/{kind.name}/{next(self._numbers)}"
        begun = time.monotonic()
        opened, port, error, hops = begun, 0, "", 0
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = await self._connected(begun)
                opened, port = connection.opened, connection.port
                hops = await self._exchange(connection, path)
        except TimeoutError:
            error = NO_ANSWER
        except BrokenError as failure:
            error = str(failure)
        except OSError as failure:
            error = f"{type(failure).__name__} {'when connecting' if not port else 'on the connection'}"
        if error:
            self._leave()
        return Request(path, target.pod, target.way, kind.name, port, opened, begun, time.monotonic(), error, hops)

    async def _connected(self, now: float) -> _Connection:
        if self._connection is not None:
            try:
                usable = await self._connection.usable()
            except (OSError, BrokenError):  # while nobody asked for anything
                usable = False
            if not usable:
                self._leave()
        if self._connection is None:
            streams = await asyncio.open_connection(self._target.address, self._target.port, limit=MAX_HEAD)
            self._connection = _Connection(now, *streams)
            if self._kind.http2:
                self._connection.http2 = Http2(*streams)
        return self._connection

    async def _exchange(self, connection: _Connection, path: str) -> int:
        """One request and its answer; the hops that it took. Raises BrokenError, OSError."""
        kind = self._kind
        connection.requests += 1
        last = connection.requests == kind.per_connection
        asked = f"{path}?bytes={kind.received}&pieces={kind.pieces}&sent={kind.sent}"
        method, body = "POST" if kind.sent else "GET", content(asked, kind.sent)
        if connection.http2 is not None:
            answer = await connection.http2.ask(self._target.authority, method, asked, body)
        else:
            answer = await self._ask_http1(connection, method, asked, body, last=last)
        status = answer.first.split(" ")[1]
        if status != "200":
            raise BrokenError(f"status {status}: {answer.body[:80].decode('latin-1')}")
        if answer.body != content(asked, kind.received):
            raise BrokenError(WRONG_CONTENT)
        if last or answer.closes:
            self._leave()
        return int(answer.fields["x-hops"])

    async def _ask_http1(self, connection: _Connection, method: str, asked: str, body: bytes, *, last: bool) -> Message:
        lines = [
            f"{method} {asked} HTTP/1.1",
            f"host: {self._target.authority}",
            *([f"content-length: {len(body)}"] if body else []),
            *(["connection: close"] if last else []),
        ]
        connection.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await connection.writer.drain()
        answer = await read_message(connection.reader)
        if answer is None:
            raise BrokenError("ended without an answer")
        return answer

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.writer.close()
            self._connection = None


async def run(journal: Path, copies: int, targets: list[Target]) -> None:
    """All clients, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    numbers = itertools.count(1)
    with journal.open("w", 1 << 16) as file:
        async with asyncio.TaskGroup() as group:
            for target, kind in itertools.product(targets, KINDS):
                if kind.http2 and not target.way.startswith("out"):
                    continue
                for _ in range(copies if kind.busy else 1):
                    group.create_task(Client(target, kind, numbers, file).run(stop))


def read_journal(journal: Path) -> list[Request]:
    """What a process of clients has written."""
    decode = msgspec.json.Decoder(Request).decode
    return [decode(line) for line in journal.read_bytes().splitlines()]


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), [Target(*each) for each in json.loads(sys.argv[3])]))
