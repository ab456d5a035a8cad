"""What goes out at one end of a relayed connection: a socket that does not block, with what it has not yet taken.

An end can finish (its end of stream goes out behind all that was written), be closed, or be reset; what becomes of it is told to
``Connection``. Whoever writes more than ``buffer_size`` bytes ahead waits: the other end is not read.
"""

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sp_proxy.relay.poller import READABLE, WRITABLE

if TYPE_CHECKING:
    from sp_proxy.relay.connection import Connection
    from sp_proxy.relay.stream import Stream

MAX_LATER_BYTES: Final = 16384
"""Sent at the end of the poller's round."""
MAX_EARLY_BYTES: Final = 65536
"""Kept of what is written before the connection is there."""
_LINGER_RESET: Final = struct.pack("ii", 1, 0)
_PIECE: Final = 262144
"""Bytes that the socket is given at a time of what has waited."""
RESET_PATIENCE: Final = 5.0
"""Seconds without progress after which a reset goes out before what was written: a peer that does not read sees one at once from a
client connected directly.
"""
CLOSE_PATIENCE: Final = 60.0
"""Likewise for what was written before an end in order; the kernel gives up a closed connection whose peer does not read after about
as long (net.ipv4.tcp_orphan_retries).
"""


class Outgoing:
    """The half of a ``Stream`` that writes and ends. ``other`` is the end whose bytes go here."""

    __slots__ = (
        "_events",
        "_failing",
        "_fileno",
        "_finishing",
        "_later",
        "_out",
        "_parked",
        "_send",
        "_throttling",
        "_urgent",
        "awaited",
        "closing",
        "connection",
        "ended",
        "lost",
        "other",
        "sock",
        "splice_due",
    )

    sock: socket.socket
    _fileno: int
    _send: Callable[[bytes | memoryview], int]

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.other: Stream
        self.ended = False
        """Its end of stream has been seen."""
        self.closing = False
        """It is closed as soon as it has taken what was written."""
        self.lost = True
        """It is gone, or not yet there."""
        self.awaited = False
        """It is not yet there, and what is written to it is kept."""
        self.splice_due = 0
        """So many bytes will be spliced, once the other end has taken what was written."""
        self._later = b""  # written in this round of the poller's, and not yet given to the socket
        self._out = bytearray()  # the socket has not taken it
        self._failing = False  # what it was sent has failed, which is passed on in the next turn of the loop
        self._finishing = False
        self._throttling = False  # the other end waits for us
        self._urgent = b""  # goes behind all that was written; until then the other end is not read
        self._events = 0
        self._parked = True  # not registered: not yet, or because it would only be told of its fault again

    def _on_events(self, events: int) -> None:
        """Something has become of the socket."""
        raise NotImplementedError

    def _tell_lost(self, error: OSError | None) -> None:
        """It is gone. Without an error we closed it ourselves."""
        raise NotImplementedError

    # ---- what to wait for

    def pause(self) -> None:
        """Let what comes wait in the kernel."""
        self._wait_for(self._events & ~READABLE)

    def resume(self) -> None:
        """Read on."""
        if not (self.lost or self.closing or self.ended or self.other.waits_to_urge):
            self._wait_for(self._events | READABLE)

    def _wait_for(self, events: int) -> None:
        if self._parked:
            self._parked = False
            self.connection.poller.register(self._fileno, events, self._on_events)
        elif events != self._events:
            self.connection.poller.modify(self._fileno, events)
        self._events = events

    # ---- writing

    def write(self, data: bytes) -> None:
        """Send it, behind what has been written before.

        Little is not sent at once while others are to be told something, but at the end of the poller's round: a send wakes its receiver,
        which would have fallen asleep again before the next (12 % of the CPU time at 64 connections, a third at 512).
        """
        if self.lost or self.closing:
            if self.awaited:
                self._keep_early(data)
            return
        if self._later:
            data = self._later + data
            self._later = b""
        if len(data) <= MAX_LATER_BYTES and not self._out and self.connection.poller.at_end(self._round_ended):
            self._later = data
        else:
            self._send_now(data)

    def _round_ended(self) -> None:
        try:
            self.send_deferred()
        except Exception as error:  # noqa: BLE001 (a fault of ours costs this connection, not the worker)
            self.connection.failed(error)

    def send_deferred(self) -> None:
        """Send what waits for the end of the round: to be called before anything but one more write is done to the socket."""
        data = self._later
        if data:
            self._later = b""
            self._send_now(data)

    def _send_now(self, data: bytes) -> None:
        out = self._out
        if out:
            out += data
        else:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lose_soon(error)
                return
            if sent == len(data):
                return
            out += memoryview(data)[sent:]
            self._wait_for(self._events | WRITABLE)
        if not self._throttling and len(out) > self.connection.buffer_size:
            self._throttle()

    def write_urgent(self, urgent: bytes) -> None:
        """Send this byte as urgent, behind what has been written before."""
        if self.closing or (self.lost and not self.awaited):
            return
        self.send_deferred()
        self._urgent = urgent
        if self.lost or self._out or not self._urge():
            self.other.pause()
            if not self.lost:
                self._wait_for(self._events | WRITABLE)

    def _urge(self) -> bool:
        """Send the urgent byte: whether that is done with."""
        try:
            self.sock.send(self._urgent, socket.MSG_OOB)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lose_soon(error)
        self._urgent = b""
        return True

    @property
    def waits_to_urge(self) -> bool:
        """Whether nothing may be written until an urgent byte has gone."""
        return bool(self._urgent)

    def _keep_early(self, data: bytes) -> None:
        self.connection.early_at = self.connection.loop.time()
        self._out += data
        if not self._throttling and len(self._out) > MAX_EARLY_BYTES:
            self._throttle()

    def take_back(self) -> bytes:
        """What was written and has not gone, to be written anew."""
        self.send_deferred()
        data = bytes(self._out)
        self._out.clear()
        if self._throttling:
            self._throttling = False
            self.other.resume()
        return data

    def _throttle(self) -> None:
        self._throttling = True
        other = self.other
        if not other.lost and not other.splice_due:
            other.pause()

    @property
    def pending(self) -> int:
        """Bytes that were written and not yet taken."""
        return len(self._later) + len(self._out)

    def _flush(self) -> None:
        self.send_deferred()
        out = self._out
        if out:
            try:
                with memoryview(out) as view, view[:_PIECE] as piece:
                    sent = self._send(piece)
            except (BlockingIOError, InterruptedError):
                self._wait_for(self._events | WRITABLE)  # ``watch`` has asked for it anew
                return
            except OSError as error:
                out.clear()
                self.lose(error)
                return
            del out[:sent]
        if not out and self._urgent and self._urge() and not self._throttling:
            self.other.resume()
        if out or self._urgent:
            self._wait_for(self._events | WRITABLE)
        else:
            self._wait_for(self._events & ~WRITABLE)
            if self.closing:
                self._close()
                return
            if self._finishing:
                self._shut_down()
                if self.lost:
                    return
        other = self.other
        if self._throttling and 4 * len(out) <= self.connection.buffer_size:
            self._throttling = False
            if not other.splice_due:
                other.resume()
        if other.splice_due and not out:
            other.begin_splice()

    def finish(self) -> None:
        """Pass on an end of stream, behind all that was written."""
        if self._finishing or self.closing or (self.lost and not self.awaited):
            return
        self.send_deferred()
        self._finishing = True
        if not self._out and not self._urgent and not self.lost:
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:  # reset in the meantime
            self._lose_soon(error)

    # ---- ending

    def close(self) -> None:
        """In order, when all that was written has been taken."""
        if self.lost or self.closing:
            return
        self.send_deferred()
        if self._out:
            self._close_behind(CLOSE_PATIENCE, "closed")
        else:
            self._close()

    def _close_behind(self, patience: float, what: str) -> None:
        """Close it when all that was written has been taken, or none of it for so many seconds."""
        self.closing = True
        self.pause()
        self._look_later(patience, what)

    def _look_later(self, patience: float, what: str) -> None:
        self.connection.loop.call_later(patience, self._look_at_progress, patience, what, len(self._out))

    def _look_at_progress(self, patience: float, what: str, pending: int) -> None:
        if self.lost:
            return
        if len(self._out) == pending:
            self.connection.gave_up(what)
            self.reset(now=True)  # not an end in order: what is cut off must not look complete
        else:
            self._look_later(patience, what)

    def reset(self, *, now: bool = False) -> None:
        """Pass on an abort: what has been written still arrives (unless ``now``), then a reset."""
        if self.lost:
            return
        self.send_deferred()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        if now:
            self.abort()
        elif self.closing:
            return
        elif self._out:
            self._close_behind(RESET_PATIENCE, "reset")
        else:
            self._close()

    def abort(self) -> None:
        """Close it now: without a reset, unless there is something unread, or ``reset`` has asked for one."""
        if not self.lost:
            self.send_deferred()
            self._out.clear()
            self._close()

    def _close(self) -> None:
        self.lost = True
        self.connection.poller.close(self.sock)
        self._tell_lost(None)

    def lose(self, error: OSError) -> None:
        """It has been lost: the other end is told by ``Connection``, behind what is still to be read."""
        if self.lost:
            return
        self.lost = True
        self._later = b""
        self._out.clear()
        try:
            self._tell_lost(error)
        finally:  # still open, it would be told of its error for ever
            self.connection.poller.close(self.sock)

    def _lose_soon(self, error: OSError) -> None:
        """Not from within a call of the tap's."""
        self._failing = True
        self._send = _swallow
        self.connection.poller.end_turn()  # until it is lost, we are told of its error again and again
        self.connection.loop.call_soon(self.lose, error)


def _swallow(data: bytes | memoryview) -> int:
    """Nobody is there to send to any more."""
    return len(data)
