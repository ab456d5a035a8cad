"""Hypercorn's trio worker on sockets that are already bound, with the limits that it lacks.

Hypercorn speaks HTTP (1.1, and 2 with prior knowledge) and calls the application. This file owns the connections:
how many there are, how long a peer may refuse to read, and that all of them end when the server does. Hypercorn shields
its sends from cancellation, so without that a stalled reader would keep the process alive for ever.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from typing import cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONNECTIONS = 512
"""Connections at a time; further ones wait in the kernel's backlog."""
STALL_TIMEOUT = 30.0
"""Seconds that a peer may leave a piece of what is sent to it unread."""
KEEP_ALIVE = 60
"""Seconds between requests, and for the whole head of one."""
MAX_HEAD = 64 << 10
GRACE = 2.0
"""Seconds in which requests in hand may finish when the server is cancelled."""
DRAIN_BYTES = 64 << 20
DRAIN_SECONDS = 5.0
"""How much of a refused body is read and thrown away, so that its sender gets to read the answer."""

_PIECE = 64 << 10

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def run_server(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    on_stop: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; then stop accepting, call ``on_stop`` (which ends long responses), let what is in hand
    finish within the grace period, and close every connection. The sockets are closed too.
    """
    server = _Server(app)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
    async with trio.open_nursery() as nursery:
        handlers = await nursery.start(server.own_connections)
        try:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(server.accept, listener, handlers)
                task_status.started()
        finally:
            for listener in listeners:
                listener.socket.close()
            on_stop()
            server.stopping.set()


class _Server:
    def __init__(self, app: ASGIApp) -> None:
        self._app = ASGIWrapper(cast("ASGIFramework", _Draining(app)))
        self._config = _config()
        self._connections: set[Connection] = set()
        self._slots = trio.Semaphore(CONNECTIONS)
        self.stopping = trio.Event()

    async def own_connections(self, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """The nursery of the connections, which lives on for the grace period when the server is cancelled."""
        # Behind the shield, a server that is cancelled before it has begun would wait for ever to be told to stop.
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as handlers:
                task_status.started(handlers)
                await self.stopping.wait()
                for connection in self._connections:
                    await connection.context.terminated.set()  # idle ones end now, others after their response
                with trio.move_on_after(GRACE):
                    while self._connections:
                        await next(iter(self._connections)).ended.wait()
                for connection in list(self._connections):
                    connection.abort()
                handlers.cancel_scope.cancel()

    async def accept(self, listener: trio.SocketListener, handlers: trio.Nursery) -> None:
        """Accept for ever, as long as there are slots."""
        while True:
            await self._slots.acquire()
            try:
                stream = await listener.accept()
            except OSError as error:
                # Out of descriptors or memory: as trio.serve_listeners, wait and try again.
                log.warning("accept_failed", reason=str(error))
                self._slots.release()
                await trio.sleep(0.1)
            except BaseException:
                self._slots.release()
                raise
            else:
                handlers.start_soon(self._handle, Connection(stream))

    async def _handle(self, connection: "Connection") -> None:
        self._connections.add(connection)
        try:
            stream = cast("trio.SSLStream[trio.SocketStream]", connection)
            await TCPServer(self._app, self._config, connection.context, ConnectionState({}), stream)
        except Exception:
            # What one peer brings about must not end the others' connections.
            log.exception("connection_failed")
        finally:
            connection.abort()
            self._connections.discard(connection)
            self._slots.release()


class Connection:
    """A stream as Hypercorn uses it, whose sends fail instead of waiting for ever."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.ended = trio.Event()
        self.context = WorkerContext(None)
        """Of each connection its own: Hypercorn (0.18) keeps a connection that its peer has closed until the keep-alive
        time is over, unless the context says that it ends.
        """

    async def send_all(self, data: bytes) -> None:
        """Send, in pieces that each have their time limit."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            with trio.move_on_after(STALL_TIMEOUT):
                await self._stream.send_all(view[start : start + _PIECE])
                continue
            self.abort()
            raise trio.BrokenResourceError("the peer does not read")

    async def receive_some(self, max_bytes: int) -> bytes:
        """Receive."""
        data = b""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        finally:
            if not data:
                with trio.CancelScope(shield=True):
                    await self.context.terminated.set()
        return data

    async def send_eof(self) -> None:
        """Half-close."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close."""
        self.abort()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close at once: tasks that wait on the stream are woken with an error."""
        self.socket.close()
        self.ended.set()


class _Draining:
    """Reads what is left of a request body before the answer is sent.

    Hypercorn leaves a body that the application did not read in a bounded queue, and waits for ever when it is full
    (0.18); and a socket closed with unread bytes resets the connection, so the sender might never see the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ended = scope["type"] != "http"
        drained = False

        async def noting_receive() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def drain() -> None:
            left = DRAIN_BYTES
            with trio.move_on_after(DRAIN_SECONDS):
                while not ended and left > 0:
                    left -= len((await noting_receive()).get("body", b""))

        async def drain_on() -> None:
            while not ended:
                await noting_receive()

        async def draining_send(message: Message) -> None:
            nonlocal drained
            if not ended and not drained:
                await drain()
                drained = True
            if ended:
                await send(message)
                return
            # Too much: the connection is closed after the answer, while someone still empties the queue.
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain_on)
                await send(message)
                nursery.cancel_scope.cancel()

        await self._app(scope, noting_receive, draining_send)


def _config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.keep_alive_timeout = KEEP_ALIVE
    config.h11_max_incomplete_size = MAX_HEAD
    config.include_server_header = False
    config.keep_alive_max_requests = 1_000_000
    return config
