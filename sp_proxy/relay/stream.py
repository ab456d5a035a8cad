"""One end of a relayed connection: what it says, and with ``Outgoing`` what is said to it.

What it has to say of the other end is passed to ``Connection``.
"""

import socket
from typing import TYPE_CHECKING, Final

from sp_proxy.relay.outgoing import Outgoing
from sp_proxy.relay.poller import BROKEN, HUNG_UP, READABLE, URGENT, WRITABLE
from sp_proxy.relay.splice import Splice
from sp_proxy.relay.urgent import at_mark, take_urgent

if TYPE_CHECKING:
    from sp_proxy.relay.connection import Connection

READ_SIZE: Final = 65536
BULK_READ: Final = 262144
"""Bytes asked for once a read of the usual size has been filled."""
BULKY: Final = 32768
AHEAD: Final = 131072
"""So many bytes in reads that were all ``BULKY``, or in one, say that the sender is ahead of us. Where all three take turns on the
same cores, no read is much larger than a sender's piece (58 KiB on average, measured).
"""
_MAX_DRAIN_BYTES: Final = 8 * 1024 * 1024
"""More than a socket's receive buffer grows to by default (6 MiB, net.ipv4.tcp_rmem)."""
_FAULT: Final = BROKEN | HUNG_UP


class Stream(Outgoing):
    """What both ends have in common. ``other`` is the end to which this one's bytes go."""

    __slots__ = ("_read_size", "_recv", "bulky", "splice")

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self.splice: Splice | None = None
        """Reads from this end."""
        self._read_size = READ_SIZE
        self.bulky = 0
        """Bytes in its latest reads, of which none was small."""

    # ---- beginning

    def take(self, sock: socket.socket) -> None:
        """It is there."""
        self.sock = sock
        self.lost = self.awaited = False
        self._send = sock.send
        self._recv = sock.recv
        self._fileno = sock.fileno()

    def watch(self, *, reading: bool) -> None:
        """See what becomes of it."""
        if self.lost:
            return
        self._wait_for(READABLE if reading else 0)
        if self._out or self._urgent or self._finishing:
            self._flush()

    # ---- reading

    def received(self, data: bytes) -> None:
        """Bytes came from it."""
        raise NotImplementedError

    def received_end(self) -> None:
        """It has finished sending; it may still receive."""
        raise NotImplementedError

    def begin_splice(self) -> None:
        """``splice_due`` bytes from it are the kernel's to move: what was written to the other end before has been taken."""
        raise NotImplementedError

    def _on_events(self, events: int) -> None:
        try:
            if events & WRITABLE and not self.lost:
                self._flush()
            if self.lost or self._failing:
                return  # the error has been told once: a read would now see an orderly end
            if events & READABLE and self._events & READABLE:
                if events & URGENT:
                    self._look_at_urgent(events)
                else:
                    if not self._events & URGENT:
                        self._wait_for(self._events | URGENT)
                    self._read()
            elif events & _FAULT:
                self._told_of_a_fault(events)
        except Exception as error:  # noqa: BLE001 (a fault of ours costs this connection, not the worker)
            self.connection.failed(error)

    def _read(self) -> None:
        try:
            data = self._recv(self._read_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.lose(error)
            return
        if data:
            size = len(data)
            self.bulky = self.bulky + size if size >= BULKY else 0
            self._read_size = BULK_READ if size >= READ_SIZE else READ_SIZE
            self.received(data)
            return
        self.ended = True
        self.received_end()
        if not self.lost:
            self._wait_for(self._events & ~READABLE)

    def _look_at_urgent(self, events: int) -> None:
        """There is an urgent byte. What stands before it is read first."""
        if at_mark(self._fileno):
            self._pass_urgent()
        elif (events & READABLE) != URGENT:
            self._read()
        else:  # a segment before it is missing: until that has come we would be told of the byte again and again
            self._wait_for(self._events & ~URGENT)

    def _pass_urgent(self) -> None:
        """All before the urgent byte has been read: it goes on in its place, unless whoever reads the stream must see all of it."""
        connection = self.connection
        urgent = take_urgent(self.sock)
        if not urgent:
            self._read()  # reset: only a read takes the byte away, and the error behind it
        elif connection.passes_urgent:
            if self is connection.downstream:
                connection.hold_no_longer()
            self.other.write_urgent(urgent)

    def _told_of_a_fault(self, events: int) -> None:
        """Nobody reads from it now, so nobody else finds out."""
        if events & BROKEN:
            number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.lose(ConnectionResetError(number, "connection lost"))
        else:
            # Both directions have ended, and what has come is yet to be read.
            self._parked = True
            self.connection.poller.unregister(self._fileno)

    def _tell_lost(self, error: OSError | None) -> None:
        self.connection.lost(self, error)

    def unread(self) -> bytes:
        """What the kernel still has of a connection which was lost while we wrote to it.

        A peer that answers early and closes resets us for what we go on sending; its answer is in our receive buffer all
        the same, where a client connected directly would find it.
        """
        pieces = []
        total = 0
        try:
            while total < _MAX_DRAIN_BYTES and (piece := self._recv(BULK_READ)):
                pieces.append(piece)
                total += len(piece)
        except OSError:
            pass  # the reset itself, behind the data
        return b"".join(pieces)
