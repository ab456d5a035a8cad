"""Failing open: while no worker can serve, the supervisor itself accepts and relays, raw.

Traffic is never harmed by our own crashes: bytes go to the original destination unread, uninjected and uncaptured, until
a worker is ready again. When to begin and to end is decided in ``core/restarts.py``. The number of connections is
bounded; beyond it they wait in the backlog.
"""

import errno
import socket
import struct
from collections.abc import Sequence
from typing import cast

import structlog
import trio

from sp_proxy.relay import heartbeat
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.relay.original_dst import original_dst
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.sockets import BoundListener
from sp_proxy.supervisor.workers import Workers

MAX_CONNECTIONS = 4096
READ_BYTES = 65536
ACCEPT_PAUSE = 0.1
"""Seconds without accepting when descriptors have run out."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Endpoint = tuple[str, int]
"""Address and port."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class FailOpen:
    """Relays for the workers while they cannot, and counts it."""

    def __init__(
        self,
        workers: Workers,
        listeners: Sequence[BoundListener],
        guard: LoopGuard,
        max_connections: int = MAX_CONNECTIONS,
        heartbeat_port: int = 0,
        heartbeat_interval: float = 1.25,
    ) -> None:
        self._workers = workers
        self._guard = guard
        self._listeners = tuple(listeners)
        self._own_ports = {listener.socket.getsockname()[1] for listener in self._listeners}
        self._slots = trio.Semaphore(max_connections)
        self._heartbeat_port = heartbeat_port
        self._heartbeat_interval = heartbeat_interval
        self.active = False
        self.connections = 0
        self.connection_total = 0
        self.refused_total = 0
        """Connections closed at once: made to a listener itself, without redirection, or come back to us."""

    def relisten(self, listeners: Sequence[BoundListener]) -> None:
        """The same sockets in the same order, perhaps with other upstreams."""
        self._listeners = tuple(listeners)

    async def run(self) -> None:
        """Relay whenever the workers cannot. Once they drain, accept no more, and return when the last connection has
        ended. Cancelled: aborts the connections.
        """
        async with trio.open_nursery() as connections:
            while await self._wait_until(fail_open=True):
                self.active = True
                log.error("failing_open", reason="no relay worker can serve: traffic passes raw, nothing is captured")
                async with trio.open_nursery() as accepting:
                    for index, listener in enumerate(self._listeners):
                        if not listener.proxy:  # whose clients wait: they say where to go in a language for workers
                            accepting.start_soon(self._accept, index, connections)
                    if self._heartbeat_port:
                        accepting.start_soon(self._beat)
                    await self._wait_until(fail_open=False)
                    accepting.cancel_scope.cancel()
                self.active = False
                log.warning("failing_open_ended", connections_left=self.connections)

    async def _beat(self) -> None:
        """Has the kernel redirect to us, as the workers do while they can. When they take over, theirs have begun."""
        try:
            while True:
                heartbeat.send(self._heartbeat_port)
                await trio.sleep(self._heartbeat_interval)
        finally:
            if self._workers.draining:
                heartbeat.send(self._heartbeat_port + 1)

    async def _wait_until(self, *, fail_open: bool) -> bool:
        """Whether the decision became the wanted one; False when draining came first."""
        workers = self._workers
        while not workers.draining:
            if workers.restarts.fail_open(trio.current_time()) is fail_open:
                return True
            await workers.wait_change(workers.restarts.next_check() if fail_open else None)
        return False

    async def _accept(self, index: int, connections: trio.Nursery) -> None:
        # A second descriptor of the same socket: the first may be closed while this one is being waited on.
        with trio.socket.from_stdlib_socket(self._listeners[index].socket.dup()) as sock:
            await self._accept_on(sock, index, connections)

    async def _accept_on(self, sock: trio.socket.SocketType, index: int, connections: trio.Nursery) -> None:
        while True:
            await self._slots.acquire()
            try:
                downstream, _ = await sock.accept()
            except OSError as error:
                self._slots.release()
                if error.errno in _OUT_OF_RESOURCES:
                    log.warning("accept_failed", key=self._listeners[index].key, reason=str(error))
                    await trio.sleep(ACCEPT_PAUSE)
                continue
            except BaseException:
                self._slots.release()
                raise
            self.connections += 1
            self.connection_total += 1
            connections.start_soon(self._serve, downstream, self._listeners[index])

    async def _serve(self, downstream: trio.socket.SocketType, listener: BoundListener) -> None:
        try:
            with downstream:
                destinations, returned = await self._destinations(downstream, listener)
                if destinations is None:
                    self.refused_total += 1
                    return
                for destination in destinations:
                    if (upstream := await connect(destination, self._guard, returned=returned)) is not None:
                        break
                else:
                    reset(downstream)
                    return
                with upstream:
                    local_port = upstream.getsockname()[1]
                    try:
                        await relay(downstream, upstream)
                    finally:
                        self._guard.closed(local_port)
        except OSError:
            # The peer was gone before we began; nothing else in there lets one through.
            return
        except Exception:
            # A fault of ours costs one connection, never the others.
            log.exception("failopen_connection_failed", key=listener.key)
        finally:
            self.connections -= 1
            self._slots.release()

    async def _destinations(
        self, downstream: trio.socket.SocketType, listener: BoundListener
    ) -> tuple[list[Endpoint] | None, bool]:
        """Where to connect, alternatives in their order; None when that would come back to us, or is not known. And whether it is
        an upstream connection of ours, which has come back for the first time (``relay/loop_guard.py``).
        """
        source: Endpoint = downstream.getpeername()[:2]
        local: Endpoint = downstream.getsockname()[:2]
        if listener.upstream is not None:
            return None if self._guard.is_ours(source, local) else await resolve(listener.upstream), False
        # It asks for an option and the family only, which trio's sockets have too.
        destination = original_dst(cast("socket.socket", downstream))
        if destination is None or (returns := self._guard.returns(source, destination)) > 1:
            return None, False
        # Not redirected, or redirected on its way to one of our own ports.
        if destination[0] == local[0] and destination[1] in self._own_ports:
            return None, False
        return [destination], returns > 0


async def connect(destination: Endpoint, guard: LoopGuard, *, returned: bool = False) -> trio.socket.SocketType | None:
    """An upstream connection, known to the loop guard before the first packet of it can come back; None: refused."""
    upstream = socket.socket(socket.AF_INET6 if ":" in destination[0] else socket.AF_INET, socket.SOCK_STREAM)
    connected, local_port = False, 0
    try:
        upstream.setblocking(False)
        error = upstream.connect_ex(destination)
        local_port = upstream.getsockname()[1]
        guard.opened(upstream.getsockname()[:2], destination, returned=returned)
        if error == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(upstream)
            error = upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        connected = error == 0
    finally:
        if not connected:
            guard.closed(local_port)
            upstream.close()
    return trio.socket.from_stdlib_socket(upstream) if connected else None


async def resolve(address: Address) -> list[Endpoint]:
    """All its addresses; none when it has none."""
    try:
        found = await trio.socket.getaddrinfo(address.host or "localhost", address.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [(str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in found]


async def relay(downstream: trio.socket.SocketType, upstream: trio.socket.SocketType) -> None:
    """Both directions until both have ended; an abort on one side aborts the other."""
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(_pump, downstream, upstream)
            nursery.start_soon(_pump, upstream, downstream)
    except* (trio.BrokenResourceError, OSError):
        reset(downstream)
        reset(upstream)


async def _pump(source: trio.socket.SocketType, sink: trio.socket.SocketType) -> None:
    receiver, sender = trio.SocketStream(source), trio.SocketStream(sink)
    while data := await receiver.receive_some(READ_BYTES):
        await sender.send_all(data)
    await sender.send_eof()


def reset(sock: trio.socket.SocketType) -> None:
    """Let the close that follows abort the connection (RST), as its other side was aborted."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        # Already gone: nothing is left to abort.
        return
