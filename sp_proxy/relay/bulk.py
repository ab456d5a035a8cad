"""An end whose large bodies the kernel moves (``splice``), from the moment when nobody needs to see them any more."""

from sp_proxy.relay.splice import End, Splice
from sp_proxy.relay.stream import Stream

MIN_SPLICE = 2 << 20
"""Fewer bytes are not worth the pipe and the six system calls around it."""
UNBOUNDED = 1 << 62


class BulkStream(Stream):
    """What both ends of a connection have in common."""

    __slots__ = ()

    def look_for_bulk(self) -> None:
        """Much has come at once: if much more will that nobody needs to see, let the kernel move it."""
        connection = self.connection
        tap = connection.tap
        size = UNBOUNDED if tap is None else tap.bulk(client=self is connection.downstream)
        other = self.other
        if size < MIN_SPLICE or self.splice_due or other.lost or other.closing or self.lost or self.closing:
            return
        self.pause()
        self.splice_due = size
        other.send_deferred()
        if not other.pending:
            self.begin_splice()

    def begin_splice(self) -> None:
        """See ``Stream``."""
        if self.splice is not None or self.lost:
            return
        connection = self.connection
        try:
            self.splice = Splice(
                connection.loop,
                self.sock.fileno(),
                self.other.sock.fileno(),
                self.splice_due,
                self._spliced,
                self._splice_ended,
            )
        except OSError:  # no descriptors left: the bytes go as before
            self._splice_ended(End.COMPLETE)
        else:
            connection.worker.counters["splices"] += 1

    def _spliced(self, size: int) -> None:
        connection = self.connection
        tap = connection.tap
        if tap is not None:
            tap.passed(size, client=self is connection.downstream)
            if tap.signal:
                connection.look_at_signal()

    def _splice_ended(self, end: End) -> None:
        self.splice = None
        self.splice_due = 0
        if end in {End.COMPLETE, End.SOURCE_EOF}:
            self.resume()  # and sees the end of stream itself
        else:
            (self if end is End.SOURCE_LOST else self.other).lose(ConnectionResetError())
