"""Large bodies from socket to socket inside the kernel (splice(2)), once nobody needs to see them.

A pair of uvloop transports copies every byte out of the kernel and back: about half the rate of a proxy in C. When the tap only
counts what is left of a body, or the connection has no tap any more, the bytes go through a pipe instead. A ``Splice`` borrows
both sockets by duplicated descriptors while the source's transport does not read; it says when it is done, and
what ended it.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable
from enum import Enum

from sp_proxy.relay.urgent import at_mark

PIPE_BYTES = 1 << 20
"""What an unprivileged user may ask for (fs.pipe-max-size); 256 KiB was 10 % slower."""
_BUDGET = 8 << 20
"""Bytes moved before other connections get their turn."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class End(Enum):
    """What ended a splice."""

    COMPLETE = 1
    """All bytes that were asked for have been moved, or all that stand before urgent data."""
    SOURCE_EOF = 2
    """The source has finished sending; everything it sent has been moved."""
    SOURCE_LOST = 3
    """The source was reset; everything that came before has been moved, if the destination still took it."""
    DESTINATION_LOST = 4


class Splice:
    """Moves up to ``size`` bytes from one socket to another."""

    __slots__ = (
        "_capacity",
        "_destination",
        "_done",
        "_in_pipe",
        "_left",
        "_loop",
        "_moved",
        "_pipe_in",
        "_pipe_out",
        "_source",
        "_source_end",
        "_waits_for",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: int,
        destination: int,
        size: int,
        moved: Callable[[int], None],
        done: Callable[[End], None],
    ) -> None:
        """``source`` and ``destination``: descriptors to duplicate. ``moved`` is told of each piece that reached the
        destination, ``done`` once at the end. Raises OSError when there are no descriptors left.
        """
        self._loop = loop
        self._left = size  # still to be taken from the source
        self._moved = moved
        self._done = done
        self._in_pipe = 0
        self._source_end: End | None = None
        self._pipe_out, self._pipe_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._capacity = fcntl.fcntl(self._pipe_in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:  # beyond what one user may have (fs.pipe-user-pages-soft)
            self._capacity = fcntl.fcntl(self._pipe_in, fcntl.F_GETPIPE_SZ)
        self._source = self._destination = -1
        try:
            self._source = os.dup(source)
            self._destination = os.dup(destination)
        except OSError:
            for descriptor in (self._source, self._pipe_in, self._pipe_out):
                if descriptor >= 0:
                    os.close(descriptor)
            raise
        self._waits_for = self._source
        self._loop.add_reader(self._source, self._pump)

    def _pump(self) -> None:
        budget = _BUDGET
        while budget > 0:
            progress = 0
            room = min(self._left, self._capacity - self._in_pipe)
            if room and self._source_end is None:
                try:
                    taken = os.splice(self._source, self._pipe_in, room, flags=_FLAGS)
                except BlockingIOError:
                    taken = -1
                except OSError:
                    taken = 0
                    self._source_end = End.SOURCE_LOST
                if taken > 0:
                    self._in_pipe += taken
                    self._left -= taken
                    progress += taken
                elif not taken:
                    self._source_end = self._source_end or End.SOURCE_EOF
            if self._in_pipe:
                try:
                    given = os.splice(self._pipe_out, self._destination, self._in_pipe, flags=_FLAGS)
                except BlockingIOError:
                    self._wait_for(self._destination)
                    return
                except OSError:
                    self._end(End.DESTINATION_LOST)
                    return
                self._in_pipe -= given
                progress += given
                self._moved(given)
            if not self._in_pipe and (self._source_end is not None or not self._left):
                self._end(self._source_end or End.COMPLETE)
                return
            if not progress:
                if at_mark(self._source):  # what splice(2) stops at, and would be told of for ever
                    self._end(End.COMPLETE)
                else:
                    self._wait_for(self._source)
                return
            budget -= progress
        self._wait_for(self._destination if self._in_pipe else self._source)

    def _wait_for(self, descriptor: int) -> None:
        if descriptor == self._waits_for:
            return
        self._stop_waiting()
        self._waits_for = descriptor
        if descriptor == self._destination:
            self._loop.add_writer(descriptor, self._pump)
        else:
            self._loop.add_reader(descriptor, self._pump)

    def _stop_waiting(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._destination)

    def _end(self, end: End) -> None:
        self.close()
        self._done(end)

    def rest(self) -> bytes:
        """What has been taken from the source and not been given on; the splice must be closed next."""
        self._stop_waiting()
        pieces = []
        while self._in_pipe:
            piece = os.read(self._pipe_out, self._in_pipe)
            self._in_pipe -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Give up. Twice is fine; what is in the pipe is lost."""
        if self._source < 0:
            return
        self._stop_waiting()
        for descriptor in (self._source, self._destination, self._pipe_in, self._pipe_out):
            os.close(descriptor)
        self._source = self._destination = -1
