"""A pod, and the world outside it, in namespaces: who answers a connection says which path it took."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import pytest

from sp_proxy.netfilter.probes import heartbeat
from tests.netns import Namespace, default_route, link
from tests.requirements import require_root_tools

SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST of the same number
SERVICE_PORTS = (80, 5432, 8080)
TIMEOUT_SECONDS = 5.0
DAEMON_USER = 1338
HEARTBEAT_PORT = 16007
BEAT_INTERVAL_SECONDS = 0.2
OUTSIDE = {4: "172.20.0.1", 6: "fd99::1"}
"""An address outside, behind the default route."""


def original_destination(connection: socket.socket) -> str:
    """What the kernel says, by the raw structures: ``sockaddr_in`` and ``sockaddr_in6``."""
    if connection.getpeername()[0].startswith("::ffff:"):
        raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        return f"{socket.inet_ntop(socket.AF_INET, raw[4:8])} {struct.unpack_from('!H', raw, 2)[0]}"
    raw = connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    return f"{socket.inet_ntop(socket.AF_INET6, raw[8:24])} {struct.unpack_from('!H', raw, 2)[0]}"


def _direct(name: str, _: socket.socket) -> str:
    return f"direct {name}"


def _redirected(port: int, connection: socket.socket) -> str:
    return f"{port} {original_destination(connection)}"


class Acceptor:
    """Listens on a port of all addresses, and tells every connection what it knows of it."""

    def __init__(self, namespace: Namespace, port: int, tell: Callable[[socket.socket], str]) -> None:
        self._tell = tell
        self._socket = namespace.call(
            partial(socket.create_server, ("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.sendall(self._tell(connection).encode())


class Site(NamedTuple):
    """The pod, and a host outside which is its default route."""

    pod: Namespace
    outside: Namespace
    silent: threading.Event

    def silence(self) -> None:
        """No heartbeats from now on, and what was said is withdrawn."""
        self.silent.set()
        self.pod.call(partial(heartbeat, HEARTBEAT_PORT + 1, DAEMON_USER))

    def beat(self) -> None:
        """One heartbeat of the daemon."""
        self.pod.call(partial(heartbeat, HEARTBEAT_PORT, DAEMON_USER))

    def inbound(self, family: int, port: int) -> str:
        """What a client outside hears from a port of the pod."""
        address = self.pod.ipv4 if family == 4 else self.pod.ipv6
        return self.outside.call(partial(ask, address, port))

    def outbound(self, family: int, port: int, address: str = "", user: int | None = None) -> str:
        """What a process of the pod hears from a port outside."""
        address = address or OUTSIDE[family]
        if user is None:
            return self.pod.call(partial(ask, address, port))
        script = f"exec 3<>/dev/tcp/{address}/{port}; cat <&3"
        return self.pod.run("bash", "-c", script, user=user, timeout=TIMEOUT_SECONDS).stdout


def ask(address: str, port: int) -> str:
    with socket.create_connection((address, port), TIMEOUT_SECONDS) as connection:
        return b"".join(iter(partial(connection.recv, 4096), b"")).decode()


def _beat_until_silent(site: Site) -> None:
    while not site.silent.wait(BEAT_INTERVAL_SECONDS):
        site.beat()


@pytest.fixture
def site() -> Iterator[Site]:
    """Services in the pod and outside answer ``direct``; the daemon's ports in the pod tell the original destination,
    and its heart beats.
    """
    require_root_tools("ip", "setpriv", "nft", "iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
    with Namespace("pod") as pod, Namespace("outside") as outside:
        _, interface = link(pod, outside)
        default_route(pod, via=outside)
        outside.add_address(interface, f"{OUTSIDE[4]}/32")
        outside.add_address(interface, f"{OUTSIDE[6]}/128")
        acceptors = [
            Acceptor(namespace, port, partial(_direct, name))
            for name, namespace in (("pod", pod), ("outside", outside))
            for port in (*SERVICE_PORTS, *((16006,) if namespace is outside else ()))
        ]
        acceptors += [Acceptor(pod, port, partial(_redirected, port)) for port in (16001, 16006)]
        found = Site(pod, outside, threading.Event())
        heart = threading.Thread(target=_beat_until_silent, args=(found,))
        heart.start()
        try:
            yield found
        finally:
            found.silent.set()
            heart.join()
            for acceptor in acceptors:
                acceptor.close()
