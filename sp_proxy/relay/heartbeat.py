"""Tells the kernel that this process is able to work: while it hears nothing, it redirects nothing (failing open).

A heartbeat is a connection attempt of our own user to a reserved port on loopback, where nobody listens: the first packet
passes the rules of ``sp_proxy.netfilter``, and that is all there is to it. So no privilege is needed, and where there are no
such rules nothing happens. The port above it withdraws what was said.

It is sent by the loop that does the work, never by a thread that could outlive it: a worker that is stopped, stuck or
dead sends none. Of several workers one that lives is enough, since they share their listening sockets: what the others
do not accept, it does. Connections that a stuck worker has accepted already stay with it.
"""

import asyncio
import socket

BEATS_PER_TIMEOUT = 4
"""Three may be lost, or late."""
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Both: iptables keeps the IP versions apart."""


def send(port: int) -> None:
    """One attempt for each IP version. Never waits, never raises: without descriptors or IPv6 there is none."""
    for family, address in _LOOPBACK:
        try:
            with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as attempt:
                attempt.connect_ex((address, port))
        except OSError:
            continue


class Heartbeat:
    """The heartbeat of one event loop. ``port`` 0: there is none, and every method does nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int, interval: float) -> None:
        self._loop = loop
        self._port = port
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send one now, and then one each interval, until it is withdrawn."""
        if self._port:
            send(self._port)
            self._timer = self._loop.call_later(self._interval, self.start)

    def stop(self) -> bool:
        """Send no more: others do. Whether there was anything to stop."""
        if self._timer is None:
            return False
        self._timer.cancel()
        self._timer = None
        return True

    def withdraw(self) -> bool:
        """Have the kernel redirect no more, at once. Whether there was anything to withdraw."""
        if not self.stop():
            return False
        send(self._port + 1)
        return True
