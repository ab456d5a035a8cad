"""Listening sockets: bound once, here, and held for the daemon's whole life, so that no worker's death refuses a
connection: while nobody accepts, connections wait in the kernel's backlog. What systemd passes to us is not bound anew.

An address without a host is bound twice, 0.0.0.0 and [::] with IPV6_V6ONLY, rather than once as a dual-stack socket:
the original destination of a redirected IPv4 connection cannot be asked for on an IPv6 socket.
"""

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from sp_proxy.core.exchange import Direction
from sp_proxy.settings.model import Listen
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.passed import Passed

BACKLOG = 4096
"""Connections that may wait while a worker restarts; the kernel caps it at net.core.somaxconn."""

PROXY = "listen.proxy"
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class BindError(Exception):
    """An address cannot be listened on. The message is one line for a person: setting key, address, reason."""


@dataclass(frozen=True, slots=True)
class BoundListener:
    """One listening socket, non-blocking and not inheritable (it is passed to workers by number)."""

    key: str
    """The setting it comes from, for example ``listen.inbound``."""
    direction: Direction
    socket: socket.socket
    upstream: Address | None = None
    """Fixed upstream; None for a transparent listener, and for the explicit proxy."""

    @property
    def proxy(self) -> bool:
        """The explicit proxy's."""
        return self.key == PROXY

    @property
    def address(self) -> str:
        """The bound address, as ``HOST:PORT``."""
        return describe(self.socket)


def describe(sock: socket.socket) -> str:
    """The local address of a socket, as ``HOST:PORT``."""
    host, port = sock.getsockname()[:2]
    return str(Address(host, port))


def bind_listeners(listen: Listen, passed: Passed | None = None) -> list[BoundListener]:
    """Bind everything that ``listen`` names, or nothing: when one fails, the others are closed. Raises BindError."""
    bound: list[BoundListener] = []
    with _closed_on_error(listener.socket for listener in bound):
        for key, address, direction, upstream in _wanted(listen):
            sockets = bind_address(key, address, passed)
            bound += [BoundListener(key, direction, sock, upstream) for sock in sockets]
    return bound


def relisten(bound: Sequence[BoundListener], listen: Listen) -> list[BoundListener]:
    """The same sockets, in their order, with the upstreams and directions that ``listen`` names for their keys."""
    wanted = {key: (direction, upstream) for key, _, direction, upstream in _wanted(listen)}
    return [replace(each, direction=wanted[each.key][0], upstream=wanted[each.key][1]) for each in bound]


def bind_address(key: str, address: Address, passed: Passed | None = None) -> list[socket.socket]:
    """Listen on an address: on both IP versions when it has no host, on everything that a host name resolves to.

    An IP version which this host does not have is left out with a log line, unless nothing is left. Raises BindError.
    """
    bound: list[socket.socket] = []
    absent: list[tuple[Address, BindError]] = []
    with _closed_on_error(bound):
        for family, host in _resolve(key, address):
            try:
                bound.append(_listen(family, host, address.port, passed))
            except OSError as error:
                wanted = Address(host, address.port)
                failure = BindError(f"{key}: cannot listen on {wanted}: {_reason(error)}")
                if error.errno not in _NO_SUCH_FAMILY:
                    raise failure from error
                absent.append((wanted, failure))
        if not bound:
            raise absent[0][1]
    for left_out, failure in absent:
        log.info("address_left_out", key=key, address=str(left_out), reason=str(failure).rpartition(": ")[2])
    return bound


def _wanted(listen: Listen) -> Iterator[tuple[str, Address, Direction, Address | None]]:
    if listen.inbound is not None:
        yield "listen.inbound", listen.inbound, Direction.INBOUND, None
    if listen.outbound is not None:
        yield "listen.outbound", listen.outbound, Direction.OUTBOUND, None
    for index, forward in enumerate(listen.forward):
        yield f"listen.forward[{index}].listen", forward.listen, Direction(forward.direction), forward.upstream
    if listen.proxy is not None:
        yield PROXY, listen.proxy, Direction.OUTBOUND, None


def _resolve(key: str, address: Address) -> list[tuple[socket.AddressFamily, str]]:
    if not address.host:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "not a host name"
        raise BindError(f"{key}: cannot listen on {address}: {reason}") from error
    # A resolver may name an address twice (localhost in both of its lines of /etc/hosts).
    return list(dict.fromkeys((family, str(sockaddr[0])) for family, _, _, _, sockaddr in found))


def _listen(family: socket.AddressFamily, host: str, port: int, passed: Passed | None) -> socket.socket:
    ready = passed.take(family, host, port) if passed else None
    sock = ready or socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if ready is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
        # Listening belongs here: with SO_REUSEADDR, a port in use may show only now.
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    reason = os.strerror(error.errno or 0).lower()
    if error.errno == errno.EACCES:
        reason += " (a port below 1024 needs CAP_NET_BIND_SERVICE)"
    return reason


@contextmanager
def _closed_on_error(sockets: Iterable[socket.socket]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
