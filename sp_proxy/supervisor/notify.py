"""Tells systemd how we are (sd_notify(3)), where it asked for that: ready, reloading, stopping, and that the loop still turns;
and gives it our listening sockets to keep.

One datagram each to the socket that NOTIFY_SOCKET names. Without it nothing happens, and a failure is nobody's trouble.
"""

import os
import socket
import time
from array import array
from collections.abc import Mapping, Sequence

import trio

from sp_proxy.supervisor.passed import STORED

_PART = 0.4
"""Of the time that systemd waits for a sign of life; it asks for half."""


class Notifier:
    """``environ`` is asked once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog = _seconds(environ)
        self._is_ready = False

    def ready(self, status: str) -> None:
        """We serve."""
        self._is_ready = True
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Other settings are looked at. ``reloaded`` must follow. Nothing before the first ``ready``."""
        if self._is_ready:
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self, status: str) -> None:
        """The end of ``reloading``."""
        if self._is_ready:
            self._tell("READY=1", f"STATUS={status}")

    def store(self, sockets: Sequence[socket.socket]) -> None:
        """Have these kept over a restart, and passed to the next daemon (``passed.py``); one twice is one."""
        if sockets:
            self._tell("FDSTORE=1", f"FDNAME={STORED}", descriptors=[sock.fileno() for sock in sockets])

    def stopping(self) -> None:
        """We drain."""
        self._tell("STOPPING=1", "STATUS=draining")

    async def run(self) -> None:
        """Signs of life, until cancelled: from the loop that delivers and restarts."""
        if not self._watchdog:
            return
        while True:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._watchdog * _PART)

    def _tell(self, *lines: str, descriptors: Sequence[int] = ()) -> None:
        if not self._address:
            return
        # A leading @ stands for the abstract namespace's zero byte.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                # Not socket.send_fds, which ignores the address.
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
                sender.sendmsg(["\n".join(lines).encode()], rights, 0, address)
        except OSError:
            return


def _seconds(environ: Mapping[str, str]) -> float:
    """What systemd waits for a sign of life of this process; 0: not at all."""
    try:
        if int(environ.get("WATCHDOG_PID", "") or os.getpid()) != os.getpid():
            return 0.0
        return int(environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
