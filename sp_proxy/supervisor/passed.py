"""Listening sockets that systemd passes to us: those that it has kept over our restart (the file descriptor store of
sd_pid_notify_with_fds(3)), and those of a socket unit (systemd.socket(5), sd_listen_fds(3)).

Who connects to a port of ours is refused while nobody listens there. What systemd holds goes on listening, whatever becomes
of us, and connections wait for the next daemon. Sockets are known by their addresses: settings say what is listened on, and
one that they do not name is let go.
"""

import os
import socket
from collections.abc import Mapping

import structlog

STORED = "sp-proxy-listener"
"""The name of those that we gave systemd to keep."""
FIRST = 3
"""The first descriptor (SD_LISTEN_FDS_START)."""

type Place = tuple[int, str, int]
"""Family, address, port."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Passed:
    """What was passed to this process and nobody has taken yet."""

    def __init__(self, environ: Mapping[str, str], first: int = FIRST) -> None:
        self._sockets: dict[Place, tuple[str, socket.socket]] = {}
        for number, name in enumerate(_names(environ), first):
            self._add(number, name)

    def take(self, family: int, host: str, port: int) -> socket.socket | None:
        """The socket that listens there. None: there is none, and no older one of ours is in the way of another."""
        if (family, host, port) in self._sockets:
            return self._sockets.pop((family, host, port))[1]
        for place, (name, _) in list(self._sockets.items()):
            if name == STORED and (place[0], place[2]) == (family, port):
                self._let_go(place)
        return None

    def leave(self) -> None:
        """Let go of what is left: no setting names it."""
        for place, (name, _) in list(self._sockets.items()):
            if name != STORED:
                log.warning("passed_socket_unused", name=name, address=_written(place), reason="no listener has it")
            self._let_go(place)

    def _let_go(self, place: Place) -> None:
        name, sock = self._sockets.pop(place)
        with sock:
            # It would listen on in systemd's hands: shut down, it does not, and systemd drops it. A socket unit's is its own.
            if name == STORED:
                sock.shutdown(socket.SHUT_RDWR)

    def _add(self, number: int, name: str) -> None:
        try:
            sock = socket.socket(fileno=number)
        except OSError:
            log.warning("passed_socket_unused", name=name, reason="not a socket")
            return
        sock.set_inheritable(False)
        sock.setblocking(False)
        if reason := _unfit(sock):
            log.warning("passed_socket_unused", name=name, reason=reason)
            sock.close()
            return
        host, port = sock.getsockname()[:2]
        # A socket unit's come first, and may have been given to keep, too.
        if (sock.family, host, port) in self._sockets:
            sock.close()
        else:
            self._sockets[sock.family, host, port] = (name, sock)


def _names(environ: Mapping[str, str]) -> list[str]:
    """One for each descriptor; none where they are meant for another process."""
    try:
        count = int(environ.get("LISTEN_FDS", "0"))
        mine = int(environ.get("LISTEN_PID", "0")) == os.getpid()
    except ValueError:
        return []
    if not mine:
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return [names[index] if index < len(names) else "" for index in range(count)]


def _unfit(sock: socket.socket) -> str:
    if sock.family not in {socket.AF_INET, socket.AF_INET6} or sock.type != socket.SOCK_STREAM:
        return "not a TCP socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "it does not listen"
    if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return "it takes IPv4 too: name both addresses, with BindIPv6Only=ipv6-only"
    return ""


def _written(place: Place) -> str:
    _, host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
