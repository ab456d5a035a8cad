"""One downstream connection and its one upstream connection.

What the two ends do to each other directly, they do to each other through here: bytes as they come, half-close, abort,
backpressure. The tap sees the bytes on their way and may hold the start of a head for a moment; once it has given up on the
connection (or there is none) the bytes go straight through.

Until upstream is connected, the first of the client's bytes wait here, and further ones in the kernel. An upstream that
refuses or cannot be reached shows as a reset, the nearest thing to what the client would have seen: its own connection has
already been accepted by the kernel.
"""

import asyncio
import errno
import logging
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, cast

from sp_proxy.core.exchange import ErrorType
from sp_proxy.relay.listener import Listener
from sp_proxy.relay.splice import End, Splice
from sp_proxy.taps.context import Endpoints, Signal, Tap
from sp_proxy.taps.discard import Discard
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.http2 import Http2Tap

if TYPE_CHECKING:
    from sp_proxy.relay.worker import Worker

log = logging.getLogger(__name__)

_CONNECTED = (0, errno.EISCONN)
_LINGER_RESET = struct.pack("ii", 1, 0)
_READ_BYTES = 262144
_MAX_DRAIN_BYTES = 8 * 1024 * 1024
"""More than a socket's receive buffer grows to by default (6 MiB, net.ipv4.tcp_rmem)."""
_LOGGED_TAP_FAULTS = 10
"""Faults of one life that are logged with their traceback; all are counted."""
_MAX_EARLY_BYTES = 65536
"""Kept of what a client sends before its upstream connection is there."""
GAVE_UP_AFTER = 0.5
"""A client that finishes sending so many seconds after its last bytes, and is not connected upstream yet, has gone: one that
half-closes behind its request does so at once.
"""
BULK_READ = 131072
"""A read this large says that the sender is ahead of us."""
MIN_SPLICE = 2 << 20
"""Fewer bytes are not worth the pipe and the six system calls around it."""
UNBOUNDED = 1 << 62
CLOSE_DELAY = 1.0
"""After a refusal, seconds to let the client read the answer before its unread bytes cause a reset (RFC 9112 section 9.6)."""


def _as_socket(transport: asyncio.Transport, family: int = 0) -> socket.socket:
    """A socket object over the transport's descriptor; the caller must ``detach`` it."""
    known = transport.get_extra_info("socket")
    # told the family, it need not ask the kernel: three calls less
    return socket.socket(family or known.family, socket.SOCK_STREAM, 0, known.fileno())


class _Side(asyncio.Protocol):
    """What both sides have in common. ``other`` is the side to which this one's bytes go."""

    __slots__ = ("connection", "ended", "lost", "other", "splice", "splice_due", "transport")

    transport: asyncio.Transport

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.other: _Side
        self.ended = False  # its end of stream has been seen
        self.lost = False
        self.splice_due = 0  # so many bytes will be spliced, once the other side has taken what was written
        self.splice: Splice | None = None  # reads from this side

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.lost = True
        self.connection.lost(self, exc)

    def pause_writing(self) -> None:
        """It takes no more for now: make the other end wait."""
        if not self.other.lost and not self.other.splice_due:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has taken what waited."""
        if self.connection.aborting:
            self.transport.abort()
        elif self.other.splice_due:
            self.connection.begin_splice(self.other)
        elif not self.other.lost:
            self.other.transport.resume_reading()

    def finish_writing(self) -> None:
        """Pass on an end of stream. When both ends have finished, closing does it."""
        if not self.ended and not self.lost and not self.transport.is_closing():
            self.transport.write_eof()

    def reset(self, *, now: bool = False) -> None:
        """Pass on an abort: what has been written still arrives (unless ``now``), then a reset."""
        if self.lost:
            return
        sock = _as_socket(self.transport)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        finally:
            sock.detach()
        if not now and self.transport.get_write_buffer_size():
            # resume_writing is called when all of it has been written
            self.transport.pause_reading()
            self.transport.set_write_buffer_limits(high=0)
            if not self.transport.get_write_buffer_size():
                self.transport.abort()
        else:
            self.transport.abort()

    def unread(self) -> bytes:
        """What the kernel still has of a connection which was lost while we wrote to it.

        A peer that answers early and closes resets us for what we go on sending; its answer is in our receive buffer all
        the same, where a client connected directly would find it.
        """
        pieces = []
        total = 0
        sock = _as_socket(self.transport)
        try:
            while total < _MAX_DRAIN_BYTES:
                piece = sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                if not piece:
                    break
                pieces.append(piece)
                total += len(piece)
        except OSError:
            pass  # the reset itself, behind the data
        finally:
            sock.detach()
        return b"".join(pieces)


class Downstream(_Side):
    """The client's side."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast(asyncio.Transport, transport)
        self.connection.accepted()

    def data_received(self, data: bytes) -> None:
        """Bytes came from this end."""
        connection = self.connection
        tap = connection.tap
        if tap is None:
            self.other.transport.write(data)
            if len(data) >= BULK_READ:
                connection.look_for_bulk(self)
            return
        try:
            out = tap.client(data)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not harm the traffic
            connection.tap_failed(data, error)
            return
        if out:
            self.other.transport.write(out)
        if tap.signal:
            connection.look_at_signal()
        elif len(data) >= BULK_READ:
            connection.look_for_bulk(self)

    def eof_received(self) -> bool:
        """It has finished sending; it may still receive."""
        self.ended = True
        connection = self.connection
        if self.other.lost and connection.client_gave_up():
            return True
        if connection.tap is not None and (held := connection.tap.client_eof()):
            self.other.transport.write(held)
        self.other.finish_writing()
        connection.ended()
        return True


class Upstream(_Side):
    """The side of the original destination."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast(asyncio.Transport, transport)
        self.lost = False
        self.connection.connected()

    def data_received(self, data: bytes) -> None:
        """Bytes came from this end."""
        connection = self.connection
        tap = connection.tap
        if tap is None:
            self.other.transport.write(data)
            if len(data) >= BULK_READ:
                connection.look_for_bulk(self)
            return
        try:
            out = tap.server(data)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not harm the traffic
            connection.tap_failed(b"", error)
            self.other.transport.write(data)
            return
        if out:
            self.other.transport.write(out)
        if tap.signal:
            connection.look_at_signal()
        elif len(data) >= BULK_READ:
            connection.look_for_bulk(self)

    def eof_received(self) -> bool:
        """It has finished sending; it may still receive."""
        self.ended = True
        connection = self.connection
        if connection.tap is not None:
            if kept := connection.tap.server_eof():
                self.other.transport.write(kept)
            if connection.tap.signal:
                connection.look_at_signal()
        self.other.finish_writing()
        connection.ended()
        return True


class _NotYetConnected:
    """Stands for the upstream transport until there is one: keeps what the client has already sent.

    The client is read meanwhile, up to a limit: only who reads learns that it has gone. What it asked for must not reach an
    origin that can be reached again a minute later.
    """

    __slots__ = ("_downstream", "_size", "data", "written_at")

    def __init__(self, downstream: Downstream, now: float) -> None:
        self._downstream = downstream
        self._size = 0
        self.data: list[bytes] = []
        self.written_at = now

    def write(self, data: bytes) -> None:
        self.written_at = asyncio.get_running_loop().time()
        self.data.append(data)
        self._size += len(data)
        if self._size > _MAX_EARLY_BYTES:
            self._downstream.transport.pause_reading()

    def is_closing(self) -> bool:
        return False


class Connection:
    """Owns both sides and the tap."""

    __slots__ = (
        "_closed",
        "_early",
        "_endpoints",
        "_hold_timer",
        "_listener",
        "_local_port",
        "_others",
        "_refused",
        "_up_socket",
        "_worker",
        "aborting",
        "downstream",
        "tap",
        "upstream",
    )

    def __init__(self, worker: "Worker", listener: Listener) -> None:
        self._worker = worker
        self._listener = listener
        self._hold_timer: asyncio.TimerHandle | None = None
        self._up_socket: socket.socket | None = None
        self._local_port = 0
        self._others: list[tuple[str, int]] = []  # further addresses of a named upstream
        self._endpoints = Endpoints("", 0, "", 0)
        self._closed = False
        self._refused = False
        self.aborting = False
        self.tap: Tap | None = None
        self.downstream = Downstream(self)
        self.upstream = Upstream(self)
        self.downstream.other = self.upstream
        self.upstream.other = self.downstream
        self.upstream.lost = True  # until it is connected
        self._early = _NotYetConnected(self.downstream, worker.loop.time())
        self.upstream.transport = cast(asyncio.Transport, self._early)

    # ---- beginning

    def accepted(self) -> None:
        """Find out where the connection goes, and connect there."""
        worker, downstream = self._worker, self.downstream
        worker.connections.add(self)
        sock = _as_socket(downstream.transport, self._listener.listening.family)
        try:
            source, local = sock.getpeername()[:2], sock.getsockname()[:2]
            destination = self._listener.destination(sock, local)
        except OSError:
            worker.counters["refused:already_reset"] += 1
            downstream.transport.abort()
            return
        finally:
            sock.detach()
        if destination is None:
            worker.counters["refused:not_redirected"] += 1
            downstream.reset()
            return
        if worker.loop_guard.is_ours(source, local if self._listener.upstream else destination):
            worker.counters["refused:loop"] += 1
            downstream.reset()
            return
        self._endpoints = Endpoints(source[0], source[1], *destination)
        self.tap = worker.detection.first_tap(self._endpoints)
        if self._listener.resolve:
            worker.own(self._resolve_and_connect(destination))
        else:
            self._connect(destination)

    async def _resolve_and_connect(self, destination: tuple[str, int]) -> None:
        try:
            found = await self._worker.loop.getaddrinfo(*destination, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # a name that is none cannot be encoded
            self._unreachable()
            return
        if not self._closed and not self._refused:
            first, *self._others = [cast("tuple[str, int]", each[4][:2]) for each in found]
            self._connect(first)

    def _connect(self, destination: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
        try:
            sock = self._up_socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            error = sock.connect_ex(destination)
            if error == errno.EINPROGRESS:
                error = sock.connect_ex(destination)  # to this machine itself it is done, or refused, by now
        except OSError:  # no descriptors left
            self._unreachable()
            return
        if error in _CONNECTED or error == errno.EALREADY:
            local = sock.getsockname()
            self._local_port = local[1]
            self._worker.loop_guard.opened(local[:2], destination)
            if error == errno.EALREADY:
                self._worker.loop.add_writer(sock.fileno(), self._connect_ended)
            else:
                self._worker.own(self._adopt())
        else:
            self._unreachable()

    def _connect_ended(self) -> None:
        sock = self._up_socket
        assert sock is not None
        self._worker.loop.remove_writer(sock.fileno())
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._unreachable()
        else:
            self._worker.own(self._adopt())

    async def _adopt(self) -> None:
        sock, self._up_socket = self._up_socket, None
        if sock is None:
            return  # the client has gone in the meantime
        try:
            await self._worker.loop.create_connection(lambda: self.upstream, sock=sock)
        except OSError:
            self._unreachable()
        finally:
            # libuv closes the descriptor. uvloop 0.23 tells the socket object so only when the transport closes after this
            # point; if it was closed within connection_made, the object would close a descriptor that is another's by then.
            sock.detach()

    def connected(self) -> None:
        """The upstream connection is there: let the bytes flow."""
        downstream, upstream = self.downstream, self.upstream
        if self._refused or downstream.lost or downstream.transport.is_closing():
            upstream.transport.abort()
            return
        limit = self._worker.config.buffer_size
        upstream.transport.set_write_buffer_limits(high=limit)
        downstream.transport.set_write_buffer_limits(high=limit)
        for data in self._early.data:
            upstream.transport.write(data)
        if downstream.ended:
            upstream.transport.write_eof()
        else:
            downstream.transport.resume_reading()

    def _unreachable(self) -> None:
        self._worker.counters["upstream_connect_failed"] += 1
        self._forget_socket()
        if self._others and not self.downstream.lost and not self._refused:
            self._connect(self._others.pop(0))
            return
        if self.tap is not None:
            self.tap.close("upstream_unreachable")
        self.downstream.reset()

    def _forget_socket(self) -> None:
        sock = self._up_socket
        if sock is not None:
            self._up_socket = None
            self._worker.loop.remove_writer(sock.fileno())
            sock.close()
            self._forget_port()

    def _forget_port(self) -> None:
        if self._local_port:
            self._worker.loop_guard.closed(self._local_port)
            self._local_port = 0

    # ---- on the way

    def look_at_signal(self) -> None:
        """The tap wants something other than to go on."""
        tap = self.tap
        if tap is None:
            return
        signal = tap.signal
        if signal is Signal.HOLDING:
            if self._hold_timer is None:
                self._hold_timer = self._worker.loop.call_later(
                    self._worker.config.detect_timeout, self._held_long_enough
                )
        elif signal is Signal.RAW or signal is Signal.HTTP2:
            if signal is Signal.HTTP2 and isinstance(tap, Http1Tap):
                self._switch_to_http2(tap)
                return
            self.tap = None
            if held := tap.take_held():
                self.upstream.transport.write(held)
            if kept := tap.take_kept():
                self.downstream.transport.write(kept)
        elif signal is Signal.ANSWER:
            self._refuse(tap.answer)
        elif signal is Signal.ABORT:
            self.abort()
        elif signal is Signal.HAND_OVER:
            self._hand_over(tap)
        elif signal is Signal.KEEP:
            self._keep(tap.take_held(), tap.take_kept())

    def _keep(self, held: bytes, kept: bytes) -> None:
        """The connection is ours: give what was held to the tap for it."""
        self.tap = self._worker.detection.next_tap(self._listener.context, self._endpoints, held)
        if kept:
            self.upstream.data_received(kept)
        if held:
            self.downstream.data_received(held)

    def _hand_over(self, tap: Tap) -> None:
        """The connection is the mitm worker's, which connects upstream itself: nothing has been sent there."""
        worker, downstream, upstream = self._worker, self.downstream, self.upstream
        held = tap.take_held()
        fileno = downstream.transport.get_extra_info("socket").fileno()
        downstream.transport.pause_reading()
        if not worker.detection.hand_over(
            worker.counters, fileno, self._listener.context.direction, self._endpoints, held
        ):
            if not upstream.lost:  # else reading begins when it is connected
                downstream.transport.resume_reading()
            self._keep(held, b"")
            return
        self._close_tap("")
        self._refused = True  # what becomes of one end is no longer passed on to the other
        downstream.transport.abort()  # closes our descriptor of a socket that stays open
        self._forget_socket()
        if upstream.lost:
            self._forget_port()
        else:
            upstream.transport.abort()

    def tap_failed(self, data: bytes, error: Exception) -> None:
        """A fault in the tap: count and log it, and go on without, with the client's bytes that it had not given back."""
        tap, self.tap = self.tap, None
        assert tap is not None
        self._worker.counters["tap_faults"] += 1
        if self._worker.counters["tap_faults"] <= _LOGGED_TAP_FAULTS:
            log.error("fault in a tap: the connection goes on uncaptured", exc_info=error)
        held = tap.take_held()
        out = held if held.endswith(data) else held + data
        if out:
            self.upstream.transport.write(out)
        tap.close("protocol_error")

    def _switch_to_http2(self, tap: Http1Tap) -> None:
        self._worker.counters["connections_http2"] += 1
        http2 = self.tap = Http2Tap(self._listener.context, self._endpoints)
        http2.begin(bytes(tap.server_said), tap.preface_passed)
        self.downstream.data_received(tap.take_held())

    def _held_long_enough(self) -> None:
        self._hold_timer = None
        tap = self.tap
        if tap is None:
            return
        if (data := tap.timeout()) and not self.upstream.transport.is_closing():
            self.upstream.transport.write(data)
        if tap.signal is Signal.KEEP:
            self.look_at_signal()

    def _refuse(self, answer: bytes) -> None:
        """Strict reading: answer the client ourselves, abandon upstream, and close without cutting off the answer."""
        if self._refused:
            return
        self._refused = True
        self.tap = Discard()
        self._forget_socket()
        self.upstream.reset()
        transport = self.downstream.transport
        if answer:
            transport.write(answer)
        transport.write_eof()
        self._worker.loop.call_later(CLOSE_DELAY, self._end_refused)

    def _end_refused(self) -> None:
        if not self.upstream.lost:
            self.upstream.transport.abort()
        if not self.downstream.lost:
            self.downstream.transport.abort()  # without a reset, unless the client has gone on sending

    # ---- large bodies

    def look_for_bulk(self, side: _Side) -> None:
        """Much has come at once: if much more will that nobody needs to see, let the kernel move it."""
        tap = self.tap
        size = UNBOUNDED if tap is None else tap.bulk(client=side is self.downstream)
        other = side.other
        if size < MIN_SPLICE or side.splice_due or other.lost or other.transport.is_closing():
            return
        if side.lost or side.transport.is_closing():
            return
        side.transport.pause_reading()
        side.splice_due = size
        other.transport.set_write_buffer_limits(high=0)
        if not other.transport.get_write_buffer_size():
            self.begin_splice(side)

    def begin_splice(self, side: _Side) -> None:
        """What was written before has gone: from here on the kernel moves the bytes."""
        if side.splice is not None or side.lost:
            return
        source, destination = side.transport.get_extra_info("socket"), side.other.transport.get_extra_info("socket")
        try:
            side.splice = Splice(
                self._worker.loop,
                source.fileno(),
                destination.fileno(),
                side.splice_due,
                partial(self._spliced, side),
                partial(self._splice_ended, side),
            )
        except OSError:  # no descriptors left: the bytes go as before
            self._splice_ended(side, End.COMPLETE)
        else:
            self._worker.counters["splices"] += 1

    def _spliced(self, side: _Side, size: int) -> None:
        tap = self.tap
        if tap is not None:
            tap.passed(size, client=side is self.downstream)
            if tap.signal:
                self.look_at_signal()

    def _splice_ended(self, side: _Side, end: End) -> None:
        side.splice = None
        side.splice_due = 0
        other = side.other
        if end in {End.COMPLETE, End.SOURCE_EOF}:
            if not other.lost and not other.transport.is_closing():
                other.transport.set_write_buffer_limits(high=self._worker.config.buffer_size)
            if not side.lost and not side.transport.is_closing():
                side.transport.resume_reading()  # and sees the end of stream itself
            return
        gone = side if end is End.SOURCE_LOST else other
        self.lost(gone, ConnectionResetError())
        gone.transport.abort()

    # ---- ending

    def client_gave_up(self) -> bool:
        """Its end of stream has come while upstream is being connected: whether it has gone, and so has the connection."""
        waiting = self.upstream.transport is self._early
        if not waiting or self._worker.loop.time() - self._early.written_at < GAVE_UP_AFTER:
            return False
        self._close_tap("client_aborted")
        self._forget_socket()
        self.downstream.transport.abort()
        return True

    def ended(self) -> None:
        """One end has finished sending; when both have, the connection is over."""
        if self.downstream.ended and self.upstream.ended:
            self._close_tap("")
            self.downstream.transport.close()
            self.upstream.transport.close()

    def lost(self, side: _Side, exc: Exception | None) -> None:
        """One end is gone. Without an exception we closed it ourselves."""
        if self._refused:
            if side is self.downstream and not self.upstream.lost:
                self.upstream.transport.abort()
        elif exc is not None and not side.other.lost and not side.other.transport.is_closing():
            data = side.unread()
            if side.splice is not None:
                data = side.splice.rest() + data
            if data:
                side.data_received(data)
            side.other.reset()
            self.aborting = True
        for each in (self.downstream, self.upstream):
            if each.splice is not None:
                each.splice.close()
                each.splice = None
        if side is self.downstream:
            self._close_tap("client_aborted")
            self._forget_socket()
        else:
            self._close_tap("upstream_aborted")
            self._forget_port()
        if self.downstream.lost and self.upstream.lost and not self._closed:
            self._closed = True
            self._worker.connections.discard(self)

    def _close_tap(self, error: ErrorType) -> None:
        tap, self.tap = self.tap, None
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        if tap is not None:
            tap.close(error or "upstream_aborted")

    @property
    def idle(self) -> bool:
        """No exchange is going on: the connection may be closed without harm."""
        return self.tap is not None and self.tap.idle

    def record_open(self, before_ns: int) -> None:
        """Record exchanges that began before this and have not ended."""
        if self.tap is not None:
            self.tap.record_open(before_ns)

    def drain(self, *, patient: bool) -> None:
        """Tell the client, if its protocol knows how, not to use this connection again."""
        if self.tap is not None and (said := self.tap.drain(patient=patient)) and not self.downstream.lost:
            self.downstream.transport.write(said)

    def close(self) -> None:
        """Close an idle connection, both ends in order."""
        self._close_tap("")
        self.downstream.transport.close()
        if not self.upstream.lost:
            self.upstream.transport.close()

    def abort(self) -> None:
        """Reset both ends now."""
        self.aborting = True
        self._close_tap("upstream_aborted")
        self._forget_socket()
        self.downstream.reset(now=True)
        self.upstream.reset(now=True)
