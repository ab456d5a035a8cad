"""Failing open: while no worker can serve, the supervisor itself accepts and relays, raw.

Traffic is never harmed by our own crashes: bytes go to the original destination unread, uninjected and uncaptured, until
a worker is ready again. When to begin and to end is decided in ``core/restarts.py``. The number of connections is
bounded; beyond it they wait in the backlog.
"""

import errno
import socket
import struct
from collections.abc import Sequence

import structlog
import trio

from sp_proxy.settings.types import Address
from sp_proxy.supervisor.sockets import BoundListener
from sp_proxy.supervisor.workers import Workers

MAX_CONNECTIONS = 4096
READ_BYTES = 65536
ACCEPT_PAUSE = 0.1
"""Seconds without accepting when descriptors have run out."""

_ORIGINAL_DST = 80  # SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, linux/netfilter_ipv4.h and _ipv6/ip6_tables.h
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

SocketAddress = tuple[str, int] | tuple[str, int, int, int]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class FailOpen:
    """Relays for the workers while they cannot, and counts it."""

    def __init__(
        self, workers: Workers, listeners: Sequence[BoundListener], max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._workers = workers
        self._listeners = tuple(listeners)
        self._own_ports = {listener.socket.getsockname()[1] for listener in self._listeners}
        self._slots = trio.Semaphore(max_connections)
        self.active = False
        self.connections = 0
        self.connection_total = 0
        self.refused_total = 0
        """Connections made to a listener itself, without redirection."""

    async def run(self) -> None:
        """Relay whenever the workers cannot. Once they drain, accept no more, and return when the last connection has
        ended. Cancelled: aborts the connections.
        """
        async with trio.open_nursery() as connections:
            while await self._wait_until(fail_open=True):
                self.active = True
                log.error("failing_open", reason="no relay worker can serve: traffic passes raw, nothing is captured")
                async with trio.open_nursery() as accepting:
                    for listener in self._listeners:
                        accepting.start_soon(self._accept, listener, connections)
                    await self._wait_until(fail_open=False)
                    accepting.cancel_scope.cancel()
                self.active = False
                log.warning("failing_open_ended", connections_left=self.connections)

    async def _wait_until(self, *, fail_open: bool) -> bool:
        """Whether the decision became the wanted one; False when draining came first."""
        workers = self._workers
        while not workers.draining:
            if workers.restarts.fail_open(trio.current_time()) is fail_open:
                return True
            await workers.wait_change(workers.restarts.next_check() if fail_open else None)
        return False

    async def _accept(self, listener: BoundListener, connections: trio.Nursery) -> None:
        sock = trio.socket.from_stdlib_socket(listener.socket)
        while True:
            await self._slots.acquire()
            try:
                downstream, _ = await sock.accept()
            except OSError as error:
                self._slots.release()
                if error.errno in _OUT_OF_RESOURCES:
                    log.warning("accept_failed", key=listener.key, reason=str(error))
                    await trio.sleep(ACCEPT_PAUSE)
                continue
            except BaseException:
                self._slots.release()
                raise
            self.connections += 1
            self.connection_total += 1
            connections.start_soon(self._serve, downstream, listener)

    async def _serve(self, downstream: trio.socket.SocketType, listener: BoundListener) -> None:
        try:
            with downstream:
                destination = self._destination(downstream, listener)
                if destination is None:
                    self.refused_total += 1
                    return
                upstream = await _connect(destination)
                if upstream is None:
                    _reset(downstream)
                    return
                with upstream:
                    await _relay(downstream, upstream)
        finally:
            self.connections -= 1
            self._slots.release()

    def _destination(
        self, downstream: trio.socket.SocketType, listener: BoundListener
    ) -> Address | SocketAddress | None:
        if listener.upstream is not None:
            return listener.upstream
        destination = original_destination(downstream)
        if destination is None:
            return None
        local: SocketAddress = downstream.getsockname()
        # Not redirected, or redirected to one of our own ports: connecting there would come back to us.
        if destination[0] == local[0] and destination[1] in self._own_ports:
            return None
        return destination


def original_destination(sock: trio.socket.SocketType) -> SocketAddress | None:
    """Where a redirected connection was going, as the kernel's connection tracking knows it; None when it does not."""
    try:
        if sock.family == socket.AF_INET6:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DST, 28)
            _, port, flow, packed, scope = struct.unpack("=HHI16sI", raw)
            return socket.inet_ntop(socket.AF_INET6, packed), socket.ntohs(port), flow, scope
        raw = sock.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DST, 16)
        _, port, packed = struct.unpack("=HH4s8x", raw)
        return socket.inet_ntop(socket.AF_INET, packed), socket.ntohs(port)
    except OSError:
        return None


async def _connect(destination: Address | SocketAddress) -> trio.socket.SocketType | None:
    if isinstance(destination, Address):
        try:
            stream = await trio.open_tcp_stream(destination.host or "localhost", destination.port)
        except OSError:
            return None
        return stream.socket
    family = socket.AF_INET if len(destination) == 2 else socket.AF_INET6
    upstream = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await upstream.connect(destination)
    except OSError:
        upstream.close()
        return None
    except BaseException:
        upstream.close()
        raise
    return upstream


async def _relay(downstream: trio.socket.SocketType, upstream: trio.socket.SocketType) -> None:
    """Both directions until both have ended; an abort on one side aborts the other."""
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(_pump, downstream, upstream)
            nursery.start_soon(_pump, upstream, downstream)
    except* (trio.BrokenResourceError, OSError):
        _reset(downstream)
        _reset(upstream)


async def _pump(source: trio.socket.SocketType, sink: trio.socket.SocketType) -> None:
    receiver, sender = trio.SocketStream(source), trio.SocketStream(sink)
    while data := await receiver.receive_some(READ_BYTES):
        await sender.send_all(data)
    await sender.send_eof()


def _reset(sock: trio.socket.SocketType) -> None:
    """Let the close that follows abort the connection (RST), as its other side was aborted."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        # Already gone: nothing is left to abort.
        return
