"""The worker's end of the channel: bounded, and it never waits.

Records are gathered for a few milliseconds and written as one frame: a write for each loop turn cost 4 to 8 µs a
request. What the socket does not take stays in a buffer of limited size; when that is full, records are dropped and
counted (``channel_dropped:channel_full``), and the next totals that get through announce how many.
"""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable

from sp_proxy.channel.backlog import Backlog
from sp_proxy.channel.frames import LENGTH, MAX_FRAME_BYTES, Message, Records, Totals, frame, frame_into
from sp_proxy.core.exchange import Exchange

MAX_BUFFERED_BYTES = 16 * 1024 * 1024
"""About 120 records with both bodies full, or 8,000 small ones: more than an exporter that runs leaves behind in a turn."""
FLUSH_INTERVAL = 0.005
"""Seconds that a record waits for others; what a worker that is killed loses beside its unfinished exchanges."""
MAX_FRAME_RECORDS = 128
MAX_FRAME_CONTENT = 96 * 1024
"""Bytes of bodies and fields after which a frame is closed. The memory of a frame beyond 128 KiB is not the heap's but mapped, and
grows and shrinks page by page: 1.9 µs a record of 3 KB instead of 0.4, most of the time. With one more
record of the largest size that bodies can be set to (two of 16 MiB) it stays well below ``frames.MAX_FRAME_BYTES``, which a receiver
insists on.
"""
MAX_KEPT_FRAME = 256 * 1024
"""The memory of a frame is used for the next one, which takes 0.7 instead of 1.9 µs a record of 1 KiB. That of a larger one is given
back: there it costs more to make it fit again than to have fresh memory (54 and 13 µs a record of 64 KiB).
"""


class Sender:
    """Owns the socket. All calls come from the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        self._loop = loop
        self._socket = sock
        self._counters = counters
        self._records: list[Exchange] = []
        self._gathered = 0
        self._timed = False  # records are sent at the end of an interval, if not before
        self._backlog = Backlog()
        self._frame = bytearray(LENGTH.size)
        self._writing = False
        self._closed = False
        self._closed_by_receiver: Callable[[], None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def record(self, exchange: Exchange) -> None:
        """Send this record soon, or drop it, counted."""
        records = self._records
        if not self._timed:
            self._timed = True
            self._loop.call_later(FLUSH_INTERVAL, self._interval_over)
        records.append(exchange)
        self._gathered += (
            len(exchange.request_body)
            + len(exchange.response_body)
            + len(exchange.request_fields)
            + len(exchange.response_fields)
        )
        if len(records) >= MAX_FRAME_RECORDS or self._gathered >= MAX_FRAME_CONTENT:
            self._flush_records()

    def message(self, message: Message) -> None:
        """Send a message that is not a record, behind the records so far.

        Totals are skipped while the buffer is full: later ones include them.
        """
        self._flush_records()
        if self._closed or (isinstance(message, Totals) and len(self._backlog) > MAX_BUFFERED_BYTES):
            return
        self._write(frame(message))

    def _interval_over(self) -> None:
        self._timed = False
        self._flush_records()

    def _flush_records(self) -> None:
        records = self._records
        if not records:
            return
        self._records = []
        self._gathered = 0
        if self._closed or len(self._backlog) > MAX_BUFFERED_BYTES:
            self._counters["channel_dropped:channel_closed" if self._closed else "channel_dropped:channel_full"] += len(
                records
            )
            return
        self._write_records(records)

    def _write_records(self, records: list[Exchange]) -> None:
        data = self._frame
        frame_into(data, Records(records))
        if len(data) > MAX_KEPT_FRAME:
            self._frame = bytearray(LENGTH.size)
        if len(data) <= MAX_FRAME_BYTES:
            self._write(data)
        elif len(records) == 1:  # heads have no upper limit of their own
            self._counters["channel_dropped:too_large"] += 1
        else:
            middle = len(records) // 2
            self._write_records(records[:middle])
            self._write_records(records[middle:])

    def _write(self, data: bytes | bytearray) -> None:
        if self._backlog:
            self._backlog.append(data)
            self._writable()  # busy with traffic, the loop asks once in 2 ms: a receiver takes more in that time than a socket holds
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            with memoryview(data) as view, view[sent:] as rest:
                self._backlog.append(rest)
            if not self._writing:
                self._writing = True
                self._empty.clear()
                self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        backlog = self._backlog
        try:
            with backlog.first(1 << 20) as piece:
                sent = self._socket.send(piece)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        backlog.drop(sent)
        if not backlog:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._empty.set()
            self._loop.remove_writer(self._socket.fileno())

    async def drained(self) -> None:
        """Return when everything has been written or the receiver is gone."""
        self._flush_records()
        await self._empty.wait()

    def close(self) -> None:
        """The receiver is gone, or the worker ends: nothing is sent any more."""
        if self._closed:
            return
        self._closed = True
        self._stop_writing()
        self._backlog.clear()
        # Before the descriptor is closed: libuv aborts the process when it polls one that is no more. What the reader waited
        # for has happened.
        callback, self._closed_by_receiver = self._closed_by_receiver, None
        if callback is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_soon(callback)
        self._socket.close()

    def on_closed_by_receiver(self, callback: Callable[[], None]) -> None:
        """Call back once when the receiver has closed its end (nothing is ever received on this channel)."""
        self._closed_by_receiver = callback
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data and self._closed_by_receiver is not None:
            callback, self._closed_by_receiver = self._closed_by_receiver, None
            self._loop.remove_reader(self._socket.fileno())
            callback()
