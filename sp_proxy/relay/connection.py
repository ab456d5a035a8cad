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
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sp_proxy.core.exchange import ErrorType
from sp_proxy.relay import proxied
from sp_proxy.relay.listener import Listener
from sp_proxy.relay.poller import WRITABLE
from sp_proxy.relay.splice import End, Splice
from sp_proxy.relay.stream import AHEAD, Stream
from sp_proxy.taps.context import Endpoints, Signal, Tap
from sp_proxy.taps.discard import Discard
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.http1_proxy import ProxyTap
from sp_proxy.taps.http2 import Http2Tap
from sp_proxy.taps.proxy_front import ESTABLISHED, UNREACHABLE, ProxyFront

if TYPE_CHECKING:
    from sp_proxy.relay.worker import Worker

log = logging.getLogger(__name__)

_CONNECTED = (0, errno.EISCONN)
_LOGGED_FAULTS = 10
"""Faults of one life that are logged with their traceback; all are counted."""
GAVE_UP_AFTER = 0.5
"""A client that finishes sending so many seconds after its last bytes, and is not connected upstream yet, has gone: one that
half-closes behind its request does so at once.
"""
MIN_SPLICE = 2 << 20
"""Fewer bytes are not worth the pipe and the six system calls around it."""
UNBOUNDED = 1 << 62
CLOSE_DELAY = 1.0
"""After a refusal, seconds to let the client read the answer before its unread bytes cause a reset (RFC 9112 section 9.6)."""


class Downstream(Stream):
    """The client's end."""

    __slots__ = ()

    def received(self, data: bytes) -> None:
        """See ``Stream``."""
        connection = self.connection
        tap = connection.tap
        if tap is None:
            self.other.write(data)
            if self.bulky >= AHEAD:
                connection.look_for_bulk(self)
            return
        try:
            out = tap.client(data)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not harm the traffic
            connection.tap_failed(self, data, error)
            return
        if out:
            self.other.write(out)
        if tap.signal:
            connection.look_at_signal()
        elif self.bulky >= AHEAD:
            connection.look_for_bulk(self)

    def received_end(self) -> None:
        """See ``Stream``."""
        connection = self.connection
        if self.other.awaited and connection.client_gave_up():
            return
        tap = connection.tap
        if tap is not None:
            if held := tap.client_eof():
                self.other.write(held)
            if tap.signal is Signal.ANSWER:
                connection.look_at_signal()
                return
        if not self.other.ended:
            self.other.finish()
        connection.ended()


class Upstream(Stream):
    """The end of the original destination."""

    __slots__ = ()

    def received(self, data: bytes) -> None:
        """See ``Stream``."""
        connection = self.connection
        tap = connection.tap
        if tap is None:
            self.other.write(data)
            if self.bulky >= AHEAD:
                connection.look_for_bulk(self)
            return
        try:
            out = tap.server(data)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not harm the traffic
            connection.tap_failed(self, data, error)
            return
        if out:
            self.other.write(out)
        if tap.signal:
            connection.look_at_signal()
        elif self.bulky >= AHEAD:
            connection.look_for_bulk(self)

    def received_end(self) -> None:
        """See ``Stream``."""
        connection = self.connection
        if connection.tap is not None:
            if kept := connection.tap.server_eof():
                self.other.write(kept)
            if connection.tap.signal:
                connection.look_at_signal()
        if not self.other.ended:
            self.other.finish()
        connection.ended()


class Connection:
    """Owns both sides and the tap."""

    __slots__ = (
        "_closed",
        "_connecting",
        "_endpoints",
        "_hold_timer",
        "_listener",
        "_local_port",
        "_named",
        "_others",
        "_refused",
        "_returned",
        "_worker",
        "buffer_size",
        "downstream",
        "early_at",
        "loop",
        "poller",
        "tap",
        "upstream",
    )

    def __init__(self, worker: "Worker", listener: Listener) -> None:
        self._worker = worker
        self._listener = listener
        self.loop = worker.loop
        self.poller = worker.poller
        self.buffer_size = worker.config.buffer_size
        self.early_at = 0.0
        """When the client's last bytes came, while upstream is being connected; 0: it has not been read meanwhile."""
        self._hold_timer: asyncio.TimerHandle | None = None
        self._connecting: socket.socket | None = None
        self._local_port = 0
        self._others: list[tuple[str, int]] = []  # further addresses of a named upstream
        self._named: tuple[str, int] | None = None  # by a CONNECT
        self._endpoints = Endpoints("", 0, "", 0)
        self._closed = False
        self._refused = False
        self._returned = False  # it is an upstream connection of ours, which has come back
        self.tap: Tap | None = None
        self.downstream = Downstream(self)
        self.upstream = Upstream(self)
        self.downstream.other = self.upstream
        self.upstream.other = self.downstream

    # ---- beginning

    def accept(self, sock: socket.socket, source: tuple[str, int]) -> None:
        """A client's connection, not blocking, from this address: find out where it goes, and connect there."""
        worker, downstream, listener = self._worker, self.downstream, self._listener
        worker.connections.add(self)
        downstream.take(sock)
        try:
            destination = listener.destination(sock)
            returns = 0
            if destination is not None and worker.loop_guard.knows(source[1]):
                reached = destination if listener.transparent else sock.getsockname()[:2]
                returns = worker.loop_guard.returns(source, reached)
        except OSError:
            worker.counters["refused:already_reset"] += 1
            downstream.abort()
            return
        if destination is None:
            worker.counters["refused:not_redirected"] += 1
            downstream.reset()
            return
        if returns and (returns > 1 or not listener.transparent):
            worker.counters["refused:loop"] += 1
            downstream.reset()
            return
        self._endpoints = Endpoints(source[0], source[1], *destination)
        if returns:  # by what the kernel remembers of another connection: unread, it has been read on its way out
            worker.counters["raw:own_connection"] += 1
            self._returned = True
            self._connect(destination)
            return
        if listener.proxy:
            worker.counters["connections_proxy"] += 1
            self.tap = worker.detection.proxy_front(worker.counters)
            downstream.watch(reading=True)
            return
        self.tap = worker.detection.first_tap(self._endpoints)
        if listener.resolve:
            self._wait_for_upstream()
            worker.own(self._resolve_and_connect(destination))
        else:
            self._connect(destination)

    async def _resolve_and_connect(self, destination: tuple[str, int]) -> None:
        try:
            found = await self.loop.getaddrinfo(*destination, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # a name that is none cannot be encoded
            self._unreachable()
            return
        if not self._closed and not self._refused:
            addresses = [cast("tuple[str, int]", each[4][:2]) for each in found]
            if self._listener.proxy:
                addresses = proxied.elsewhere(addresses, self._listener, self.downstream.sock)
            if addresses:
                first, *self._others = addresses
                self._connect(first)
            else:
                self._unreachable()

    def _connect(self, destination: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
        try:
            sock = self._connecting = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address = _with_scope(destination)
            error = sock.connect_ex(address)
            if error == errno.EINPROGRESS:
                error = sock.connect_ex(address)  # to this machine itself it is done, or refused, by now
        except OSError:  # no descriptors left, or no such scope
            self._unreachable()
            return
        if error in _CONNECTED or error == errno.EALREADY:
            local = sock.getsockname()
            self._local_port = local[1]
            self._worker.loop_guard.opened(local[:2], destination, returned=self._returned)
            if error == errno.EALREADY:
                self.poller.register(sock.fileno(), WRITABLE, self._connect_ended)
                self._wait_for_upstream()
            else:
                self._connected(sock)
        else:
            self._unreachable()

    def _wait_for_upstream(self) -> None:
        """The client is read meanwhile: only who reads learns that it has gone. What it asked for must not reach an origin that can
        be reached again a minute later.
        """
        self.upstream.awaited = True
        # Not for a further address: the client may have been made to wait since, or have finished.
        if not self.early_at:
            self.early_at = self.loop.time()
            self.downstream.watch(reading=True)

    def _connect_ended(self, _: int) -> None:
        sock = self._connecting
        assert sock is not None
        self.poller.unregister(sock.fileno())
        try:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._unreachable()
            else:
                self._connected(sock)
        except Exception as error:  # noqa: BLE001 (a fault of ours costs this connection, not the worker)
            self.failed(error)

    def _connected(self, sock: socket.socket) -> None:
        """The upstream connection is there: let the bytes flow."""
        self._connecting = None
        self.upstream.take(sock)
        if isinstance(self.tap, ProxyFront):
            self._serve_named(self.tap)
        self.upstream.watch(reading=True)
        if not self.early_at:
            self.downstream.watch(reading=True)

    def _unreachable(self) -> None:
        self._worker.counters["upstream_connect_failed"] += 1
        self._stop_connecting()
        if self._others and not self.downstream.lost and not self._refused:
            self._connect(self._others.pop(0))
            return
        tap = self.tap
        if isinstance(tap, ProxyFront):
            proxied.record_unreachable(tap, self._listener.context, self._endpoints)
            self._refuse(UNREACHABLE)
            return
        if tap is not None:
            tap.close("upstream_unreachable")
        self.downstream.reset()

    def _stop_connecting(self) -> None:
        self.upstream.awaited = False
        sock = self._connecting
        if sock is not None:
            self._connecting = None
            self.poller.close(sock)
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
                self._hold_timer = self.loop.call_later(self._worker.config.detect_timeout, self._held_long_enough)
        elif signal is Signal.RAW or signal is Signal.HTTP2:
            if signal is Signal.HTTP2 and isinstance(tap, Http1Tap):
                self._switch_to_http2(tap)
                return
            self.tap = None
            if held := tap.take_held():
                self.upstream.write(held)
            if kept := tap.take_kept():
                self.downstream.write(kept)
        elif signal is Signal.ANSWER:
            self._refuse(tap.answer)
        elif signal is Signal.ABORT:
            self.abort()
        elif signal is Signal.HAND_OVER:
            self._hand_over(tap)
        elif signal is Signal.KEEP:
            self._keep(tap.take_held(), tap.take_kept())
        elif isinstance(tap, ProxyFront):
            tap.signal = Signal.NONE
            self._wait_for_upstream()
            self._worker.own(self._resolve_and_connect(tap.destination))
        elif isinstance(tap, ProxyTap):
            self._begin_again(tap)

    # ---- as an explicit proxy

    def _serve_named(self, front: ProxyFront) -> None:
        """The origin that the client named is connected: serve what it said, and has said since."""
        self._endpoints, self.tap = proxied.tap_for(front, self._listener.context, self._endpoints, self.upstream.sock)
        if self.tap is None:
            self._named = front.destination
            self.downstream.write(ESTABLISHED)
            self.tap = self._worker.detection.first_tap(proxied.at(self._endpoints, front.destination))
        if data := front.take_held() + self.upstream.take_back():
            self.downstream.received(data)
        if self.downstream.ended:
            self._pass_last()

    def _pass_last(self) -> None:
        """The client has finished sending: what was held of it goes on."""
        if self.tap is not None and (held := self.tap.client_eof()):
            self.upstream.write(held)

    def _begin_again(self, tap: ProxyTap) -> None:
        """Its client asks for another origin: a new connection takes its place, once this one has nothing more to say."""
        downstream = self.downstream
        if downstream.lost:
            return
        if not tap.over:
            downstream.pause()
            return
        held = tap.take_held()
        self._close_tap("")
        successor = Connection(self._worker, self._listener)
        successor.succeed(downstream, self._endpoints)
        self._refused = True  # what becomes of one end is no longer passed on to the other
        self.downstream = self.upstream.other = Downstream(self)
        self.downstream.other = self.upstream
        if self.upstream.lost:
            self._worker.connections.discard(self)
        else:
            self.upstream.close()
        downstream.resume()
        downstream.received(held)

    def succeed(self, downstream: Downstream, endpoints: Endpoints) -> None:
        """Take a client over from another connection."""
        downstream.connection, downstream.other = self, self.upstream
        self.upstream.other = self.downstream = downstream
        self._endpoints = endpoints
        self._worker.connections.add(self)
        self.tap = self._worker.detection.proxy_front(self._worker.counters)

    # ---- to the mitm worker

    def _keep(self, held: bytes, kept: bytes) -> None:
        """The connection is ours: give what was held to the tap for it."""
        self.tap = self._worker.detection.next_tap(self._listener.context, self._endpoints, held)
        if kept:
            self.upstream.received(kept)
        if held:
            self.downstream.received(held)

    def _hand_over(self, tap: Tap) -> None:
        """The connection is the mitm worker's, which connects upstream itself: nothing has been sent there."""
        worker, downstream, upstream = self._worker, self.downstream, self.upstream
        held = tap.take_held()
        fileno = downstream.sock.fileno()
        downstream.pause()
        to = self._endpoints if self._named is None else proxied.at(self._endpoints, self._named)
        direction, redirected = self._listener.context.direction, self._listener.transparent
        if not worker.detection.hand_over(worker.counters, fileno, direction, to, held, redirected=redirected):
            if isinstance(tap, ProxyFront):
                self._refuse(UNREACHABLE)
                return
            downstream.resume()
            self._keep(held, b"")
            return
        self._close_tap("")
        self._refused = True  # what becomes of one end is no longer passed on to the other
        self.poller.unregister(fileno)  # the socket stays open: only our descriptor of it is closed
        downstream.abort()
        upstream.abort()

    def failed(self, error: Exception) -> None:
        """A fault of the relay's own: count and log it, and give the connection up."""
        self._worker.counters["connection_faults"] += 1
        if self._worker.counters["connection_faults"] <= _LOGGED_FAULTS:
            log.error("fault in the relay: a connection is given up", exc_info=error)
        self.abort()

    def tap_failed(self, side: Stream, data: bytes, error: Exception) -> None:
        """A fault in the tap at this data: count and log it, and go on without, with the bytes that it had not given back."""
        tap, self.tap = self.tap, None
        assert tap is not None
        self._count_tap_fault(error)
        held, kept = tap.take_held(), b"" if side is self.downstream else data
        if isinstance(tap, Http2Tap):  # has kept the data
            kept = tap.take_kept()
        elif side is self.downstream and not held.endswith(data):
            held += data
        self._end_tap(tap, "protocol_error")
        if isinstance(tap, Http2Tap) and tap.encodes_anew:  # nobody but the tap can forward what follows
            self.abort()
            return
        if held:
            self.upstream.write(held)
        if kept:
            self.downstream.write(kept)

    def _count_tap_fault(self, error: Exception) -> None:
        self._worker.counters["tap_faults"] += 1
        if self._worker.counters["tap_faults"] <= _LOGGED_FAULTS:
            log.error("fault in a tap: the connection goes on uncaptured", exc_info=error)

    def _switch_to_http2(self, tap: Http1Tap) -> None:
        self._worker.counters["connections_http2"] += 1
        http2 = self.tap = Http2Tap(self._listener.context, self._endpoints)
        http2.begin(bytes(tap.server_said), tap.preface_passed)
        self.downstream.received(tap.take_held())

    def _held_long_enough(self) -> None:
        self._hold_timer = None
        tap = self.tap
        if tap is None:
            return
        if data := tap.timeout():
            self.upstream.write(data)
        if tap.signal is Signal.KEEP:
            self.look_at_signal()

    def _refuse(self, answer: bytes) -> None:
        """Strict reading: answer the client ourselves, abandon upstream, and close without cutting off the answer."""
        if self._refused:
            return
        self._refused = True
        self.tap = Discard()
        self._stop_connecting()
        self.upstream.reset()
        if answer:
            self.downstream.write(answer)
        self.downstream.finish()
        self.loop.call_later(CLOSE_DELAY, self._end_refused)

    def _end_refused(self) -> None:
        self.upstream.abort()
        self.downstream.abort()  # without a reset, unless the client has gone on sending

    # ---- large bodies

    def look_for_bulk(self, side: Stream) -> None:
        """Much has come at once: if much more will that nobody needs to see, let the kernel move it."""
        tap = self.tap
        size = UNBOUNDED if tap is None else tap.bulk(client=side is self.downstream)
        other = side.other
        if size < MIN_SPLICE or side.splice_due or other.lost or other.closing or side.lost or side.closing:
            return
        side.pause()
        side.splice_due = size
        if not other.pending:
            self.begin_splice(side)

    def begin_splice(self, side: Stream) -> None:
        """What was written before has gone: from here on the kernel moves the bytes."""
        if side.splice is not None or side.lost:
            return
        try:
            side.splice = Splice(
                self.loop,
                side.sock.fileno(),
                side.other.sock.fileno(),
                side.splice_due,
                partial(self._spliced, side),
                partial(self._splice_ended, side),
            )
        except OSError:  # no descriptors left: the bytes go as before
            self._splice_ended(side, End.COMPLETE)
        else:
            self._worker.counters["splices"] += 1

    def _spliced(self, side: Stream, size: int) -> None:
        tap = self.tap
        if tap is not None:
            tap.passed(size, client=side is self.downstream)
            if tap.signal:
                self.look_at_signal()

    def _splice_ended(self, side: Stream, end: End) -> None:
        side.splice = None
        side.splice_due = 0
        other = side.other
        if end in {End.COMPLETE, End.SOURCE_EOF}:
            side.resume()  # and sees the end of stream itself
        else:
            (side if end is End.SOURCE_LOST else other).lose(ConnectionResetError())

    # ---- ending

    def client_gave_up(self) -> bool:
        """Its end of stream has come while upstream is being connected: whether it has gone, and so has the connection."""
        if self.loop.time() - self.early_at < GAVE_UP_AFTER:
            return False
        self._close_tap("client_aborted")
        self.downstream.abort()
        return True

    def gave_up(self, what: str) -> None:
        """An end was ``closed`` or ``reset``, and did not take what had been written before."""
        self._worker.counters[f"not_taken:{what}"] += 1

    def ended(self) -> None:
        """One end has finished sending; when both have, the connection is over."""
        if self.downstream.ended and self.upstream.ended:
            self._close_tap("")
            self.downstream.close()
            self.upstream.close()

    def lost(self, side: Stream, error: OSError | None) -> None:
        """One end is gone. Without an error we closed it ourselves."""
        cause: ErrorType = "client_aborted" if side is self.downstream else "upstream_aborted"
        if self._refused:
            if side is self.downstream:
                self.upstream.abort()
        elif error is not None and not side.other.lost and not side.other.closing:
            data = side.unread()
            if side.splice is not None:
                data = side.splice.rest() + data
            if data:
                side.received(data)
            self._close_tap(cause)
            side.other.reset()
        for each in (self.downstream, self.upstream):
            if each.splice is not None:
                each.splice.close()
                each.splice = None
        self._close_tap(cause)
        if side is self.downstream:
            self._stop_connecting()
        else:
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
            self._end_tap(tap, error or "upstream_aborted")

    def _end_tap(self, tap: Tap, error: ErrorType) -> None:
        try:
            tap.close(error)
        except Exception as fault:  # noqa: BLE001  # a fault of ours must not keep the connection from ending
            self._count_tap_fault(fault)

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
        if self.tap is None:
            return
        try:
            said = self.tap.drain(patient=patient)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not end the drain of all others
            self.tap_failed(self.downstream, b"", error)
            return
        if said and not self.downstream.lost:
            self.downstream.write(said)

    def close(self) -> None:
        """Close an idle connection, both ends in order."""
        self._close_tap("")
        self.downstream.close()
        self.upstream.close()

    def abort(self) -> None:
        """Reset both ends now."""
        self._close_tap("upstream_aborted")
        self._stop_connecting()
        self.downstream.reset(now=True)
        self.upstream.reset(now=True)


def _with_scope(destination: tuple[str, int]) -> tuple[Any, ...]:
    """The address to connect to: ``socket`` takes an IPv6 scope (``fe80::1%eth0``) as a number only. Raises OSError."""
    host, port = destination
    if "%" not in host:
        return destination
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
