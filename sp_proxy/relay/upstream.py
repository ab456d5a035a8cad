"""The end of the original destination: how it is reached, and what it says.

Until it is connected, the first of the client's bytes wait here, and further ones in the kernel. The client is read meanwhile: only
who reads learns that it has gone.
"""

import errno
import socket
from typing import TYPE_CHECKING, Any, cast

from sp_proxy.relay.bulk import BulkStream
from sp_proxy.relay.faults import tap_failed
from sp_proxy.relay.poller import WRITABLE
from sp_proxy.relay.stream import AHEAD

if TYPE_CHECKING:
    from sp_proxy.relay.connection import Connection

_CONNECTED = (0, errno.EISCONN)


class Upstream(BulkStream):
    """Connected to one destination, by an address or by a name."""

    __slots__ = ("_connecting", "_local_port", "_others")

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self._connecting: socket.socket | None = None
        self._local_port = 0
        self._others: list[tuple[str, int]] = []  # further addresses of a name

    # ---- connecting

    def connect_by_name(self, destination: tuple[str, int]) -> None:
        """Connect to the first address of this name that can be reached."""
        self._let_wait()
        self.connection.worker.own(self._resolve_and_connect(destination))

    async def _resolve_and_connect(self, destination: tuple[str, int]) -> None:
        connection = self.connection
        try:
            found = await connection.loop.getaddrinfo(*destination, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # a name that is none cannot be encoded
            self._unreachable()
            return
        if not connection.closed and not connection.refused:
            addresses = connection.permitted([cast("tuple[str, int]", each[4][:2]) for each in found])
            if addresses:
                first, *self._others = addresses
                self.connect(first)
            else:
                self._unreachable()

    def connect(self, destination: tuple[str, int], *, returned: bool = False) -> None:
        """Connect to this address. ``returned``: for an upstream connection of ours, which has come back."""
        family = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
        connection = self.connection
        try:
            sock = self._connecting = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address = _with_scope(destination)
            error = sock.connect_ex(address)
            if error == errno.EINPROGRESS:
                error = sock.connect_ex(address)  # to this machine itself it is done, or refused, by now
        except OSError:  # no descriptors left, or no such scope
            self._unreachable()
            return
        if error in _CONNECTED or error == errno.EALREADY:
            local = sock.getsockname()
            self._local_port = local[1]
            connection.worker.loop_guard.opened(local[:2], destination, returned=returned)
            if error == errno.EALREADY:
                connection.poller.register(sock.fileno(), WRITABLE, self._connect_ended)
                self._let_wait()
            else:
                self._connected(sock)
        else:
            self._unreachable()

    def _let_wait(self) -> None:
        """The client is read meanwhile: what it asked for must not reach an origin that can be reached again a minute later, when
        it has gone.
        """
        self.awaited = True
        connection = self.connection
        # Not for a further address: the client may have been made to wait since, or have finished.
        if not connection.early_at:
            connection.early_at = connection.loop.time()
            self.other.watch(reading=True)

    def _connect_ended(self, _: int) -> None:
        sock = self._connecting
        assert sock is not None
        self.connection.poller.unregister(sock.fileno())
        try:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._unreachable()
            else:
                self._connected(sock)
        except Exception as error:  # noqa: BLE001 (a fault of ours costs this connection, not the worker)
            self.connection.failed(error)

    def _connected(self, sock: socket.socket) -> None:
        self._connecting = None
        self.take(sock)
        self.connection.connected()

    def _unreachable(self) -> None:
        connection = self.connection
        connection.worker.counters["upstream_connect_failed"] += 1
        self.stop_connecting()
        if self._others and not self.other.lost and not connection.refused:
            self.connect(self._others.pop(0))
        else:
            connection.unreachable()

    def stop_connecting(self) -> None:
        """It is waited for no longer."""
        self.awaited = False
        sock = self._connecting
        if sock is not None:
            self._connecting = None
            self.connection.poller.close(sock)
            self.forget_port()

    def forget_port(self) -> None:
        """It is gone: what comes from its port is another's."""
        if self._local_port:
            self.connection.worker.loop_guard.closed(self._local_port)
            self._local_port = 0

    # ---- what it says

    def received(self, data: bytes) -> None:
        """See ``Stream``."""
        connection = self.connection
        tap = connection.tap
        if tap is None:
            self.other.write(data)
            if self.bulky >= AHEAD:
                self.look_for_bulk()
            return
        try:
            out = tap.server(data)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not harm the traffic
            tap_failed(connection, self, data, error)
            return
        if out:
            self.other.write(out)
        if tap.signal:
            connection.look_at_signal()
        elif self.bulky >= AHEAD:
            self.look_for_bulk()

    def received_end(self) -> None:
        """See ``Stream``."""
        connection = self.connection
        if connection.tap is not None:
            if kept := connection.tap.server_eof():
                self.other.write(kept)
            if connection.tap.signal:
                connection.look_at_signal()
        if not self.other.ended:
            self.other.finish()
        connection.ended()


def _with_scope(destination: tuple[str, int]) -> tuple[Any, ...]:
    """The address to connect to: ``socket`` takes an IPv6 scope (``fe80::1%eth0``) as a number only. Raises OSError."""
    host, port = destination
    if "%" not in host:
        return destination
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
