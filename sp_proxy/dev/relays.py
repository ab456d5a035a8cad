"""Plain relays on this host, in a thread of their own: published ports into namespaces, and questions of name servers out.

Nothing is captured here, and nothing read: bytes go through. Each relay is bounded; what is too much is refused.
"""

import asyncio
import socket
import threading
from contextlib import suppress

_CHUNK = 64 * 1024
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 10.0
MAX_CONNECTIONS = 1024
MAX_QUESTIONS = 256

type Address = tuple[str, int]


class Relays:
    """All of a run's relays. ``close`` ends them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._transports: list[asyncio.DatagramTransport] = []
        self._thread = threading.Thread(target=self._run, name="relays", daemon=True)
        self._thread.start()

    def tcp(self, listening: socket.socket, target: Address) -> None:
        """Every connection that comes goes on to the target."""
        asyncio.run_coroutine_threadsafe(self._serve(listening, target), self._loop).result()

    def udp(self, bound: socket.socket, targets: list[Address]) -> None:
        """Every datagram goes to the first of the targets that answers, and one answer comes back."""
        asyncio.run_coroutine_threadsafe(self._answer(bound, targets), self._loop).result()

    def close(self) -> None:
        """End all of them; twice is fine."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def own(self, task: "asyncio.Task[None]") -> None:
        """Keep a task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _serve(self, listening: socket.socket, target: Address) -> None:
        listening.setblocking(False)
        open_now = 0

        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now
            if open_now >= MAX_CONNECTIONS:
                writer.transport.abort()
                return
            open_now += 1
            try:
                await _join(reader, writer, target)
            finally:
                open_now -= 1

        self._servers.append(await asyncio.start_server(connection, sock=listening, limit=_CHUNK))

    async def _answer(self, bound: socket.socket, targets: list[Address]) -> None:
        bound.setblocking(False)
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Questions(self, targets), sock=bound)
        self._transports.append(transport)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for transport in self._transports:
            transport.abort()
        for task in [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]:
            task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await task


class _Questions(asyncio.DatagramProtocol):
    """Datagrams as they come; each has a socket of its own on the way out, so answers cannot be mixed up."""

    def __init__(self, relays: Relays, targets: list[Address]) -> None:
        self._relays = relays
        self._targets = targets
        self._open = 0
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self._open < MAX_QUESTIONS:  # beyond it the client asks again
            self._relays.own(asyncio.ensure_future(self._ask(data, addr)))

    async def _ask(self, data: bytes, addr: Address) -> None:
        self._open += 1
        try:
            for target in self._targets:
                answer = await _answer_of(data, target, _ANSWER_SECONDS / len(self._targets))
                if answer is not None:
                    self._transport.sendto(answer, addr)
                    return
        finally:
            self._open -= 1


class _Waiting(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _addr: Address) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, _exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_result(None)


async def _answer_of(data: bytes, target: Address, seconds: float) -> bytes | None:
    loop = asyncio.get_running_loop()
    try:
        transport, waiting = await loop.create_datagram_endpoint(_Waiting, remote_addr=target)
    except OSError:
        return None
    try:
        transport.sendto(data)
        async with asyncio.timeout(seconds):
            return await waiting.answer
    except TimeoutError:
        return None
    finally:
        transport.close()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Address) -> None:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            there, onward = await asyncio.open_connection(*target, limit=_CHUNK)
    except (OSError, TimeoutError):
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_pump(reader, onward), _pump(there, writer))
    except OSError:
        pass  # one end is gone, so the other one goes
    finally:
        for each in (writer, onward):
            each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
