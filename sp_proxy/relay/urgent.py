"""TCP's urgent data (RFC 9293 section 3.8.5): one byte, which Linux keeps apart from the stream, with a mark where it stood.

Telnet and FTP interrupt by it. Who reads without looking for it loses the byte, so the relay sends it on as what it is.
"""

import fcntl
import socket
from typing import Final

_SIOCATMARK: Final = 0x8905
"""As on all that Linux runs on but MIPS, Alpha and SPARC; there it is no request, and nothing is ever at the mark."""


def at_mark(descriptor: int) -> bool:
    """Whether all that stood before the urgent byte has been read (socket(7), SIOCATMARK)."""
    try:
        return any(fcntl.ioctl(descriptor, _SIOCATMARK, bytes(4)))
    except OSError:
        return False


def take_urgent(sock: socket.socket) -> bytes:
    """The urgent byte; nothing if it has been taken, or the connection has been reset."""
    try:
        return sock.recv(1, socket.MSG_OOB)
    except OSError:
        return b""
