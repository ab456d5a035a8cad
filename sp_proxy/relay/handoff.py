"""Handing a connection over to the mitm worker: its open socket, and what the relay has already read from it.

One message of a Unix ``SOCK_SEQPACKET`` socket for each connection: the encoded ``HandOver`` and the socket itself
(``SCM_RIGHTS``, unix(7)). What has been read travels in the message, or, where it is long, in a file in memory whose
descriptor comes second. The receiving end belongs to the supervisor as well, so what is sent waits in the kernel while
the mitm worker starts; a byte of shared memory says when nothing may be sent, because nobody is going to receive.
"""

import array
import mmap
import os
import socket
from typing import Literal

from msgspec import DecodeError, Struct, msgpack, structs

from sp_proxy.core.exchange import Direction

MAX_INLINE_BYTES = 16384
"""More than this travels in a file: messages must stay far below a socket's send buffer (208 KiB by default)."""
MAX_MESSAGE_BYTES = 65536
MAX_PREFIX_BYTES = 4 * 1024 * 1024
"""What a relay worker can have read before it decides is bounded by one read and ``max_head_size``: far less."""
STATE_BYTES = mmap.PAGESIZE
_MAX_DESCRIPTORS = 2
_OPEN = 1

Refusal = Literal["engine_down", "engine_busy", "failed"]
"""Why a connection was not handed over: the relay keeps it. A counter's label."""


class HandOver(Struct, frozen=True, array_like=True):
    """What the mitm worker must know of a connection beside its socket."""

    direction: Direction
    client: tuple[str, int]
    destination: tuple[str, int]
    """Original destination or fixed upstream; the host may be a name. Empty, with port 0, for a client of the explicit proxy, whose
    requests name it.
    """
    prefix: bytes = b""
    """What the client has sent and the relay has read, from the connection's first byte on."""
    prefix_in_file: bool = False
    redirected: bool = True
    """Whether the client connected to ``destination``, or else to the socket's own address: by what a loop is known."""


_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(HandOver).decode


class EngineState:
    """Whether connections may be handed over: one byte which the supervisor writes and all relay workers read."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, STATE_BYTES)

    @property
    def takes(self) -> bool:
        """A mitm worker runs, or is started when something comes."""
        return self._memory[0] == _OPEN

    @takes.setter
    def takes(self, value: bool) -> None:
        self._memory[0] = _OPEN if value else 0


class HandOverSender:
    """A relay worker's end. Never waits: what cannot be sent now stays with the relay."""

    def __init__(self, fd: int, state_fd: int) -> None:
        """Owns both descriptors."""
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._state = EngineState(state_fd)
        os.close(state_fd)

    def send(self, fileno: int, message: HandOver) -> Refusal | None:
        """Send the socket with this descriptor, which stays open here; None when it is on its way."""
        if not self._state.takes:
            return "engine_down"
        try:
            send(self._socket, fileno, message)
        except (BlockingIOError, InterruptedError):
            return "engine_busy"
        except OSError:
            return "failed"
        return None

    def close(self) -> None:
        """Nothing is sent any more."""
        self._socket.close()


def send(sock: socket.socket, fileno: int, message: HandOver) -> None:
    """Send one message. Raises OSError; BlockingIOError when the receiver has not read enough of the earlier ones."""
    prefix = message.prefix
    if len(prefix) <= MAX_INLINE_BYTES:
        _send(sock, _encode(message), [fileno])
        return
    with os.fdopen(os.memfd_create("sp-proxy-prefix"), "w+b", buffering=0) as file:
        view = memoryview(prefix)
        while view:
            view = view[file.write(view) :]
        bare = structs.replace(message, prefix=b"", prefix_in_file=True)
        _send(sock, _encode(bare), [fileno, file.fileno()])


def _send(sock: socket.socket, data: bytes, descriptors: list[int]) -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


class HandOverEndedError(Exception):
    """Nobody can send any more."""


def receive(sock: socket.socket) -> tuple[socket.socket, HandOver] | None:
    """Take the next message: its socket, which the caller now owns, non-blocking. None for one that cannot be used.

    Raises BlockingIOError when there is none, HandOverEndedError at the end, OSError when descriptors have run out.
    """
    size = array.array("i").itemsize
    data, ancillary, flags, _ = sock.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_MAX_DESCRIPTORS * size))
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) // size * size])
    if not data and not descriptors:
        raise HandOverEndedError
    try:
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or not descriptors:
            return None
        message = _decode(data)
        if message.prefix_in_file:
            if len(descriptors) < _MAX_DESCRIPTORS:
                return None
            prefix = os.pread(descriptors[1], MAX_PREFIX_BYTES, 0)
            message = structs.replace(message, prefix=prefix, prefix_in_file=False)
        handed_over = socket.socket(fileno=descriptors.pop(0))
    except (DecodeError, OSError):
        return None
    finally:
        for fd in descriptors:
            os.close(fd)
    handed_over.setblocking(False)
    return handed_over, message
