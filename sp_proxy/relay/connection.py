"""One downstream connection and its one upstream connection.

What the two ends do to each other directly, they do to each other through here: bytes as they come, half-close, abort,
backpressure. The tap sees the bytes on their way and may hold the start of a head for a moment; once it has given up on the
connection (or there is none) the bytes go straight through.

An upstream that refuses or cannot be reached shows as a reset, the nearest thing to what the client would have seen: its own
connection has already been accepted by the kernel.
"""

import asyncio
import socket
from typing import TYPE_CHECKING

from sp_proxy.core.exchange import ErrorType
from sp_proxy.relay.downstream import Downstream
from sp_proxy.relay.faults import count_connection_fault, end_tap, tap_failed
from sp_proxy.relay.listener import Listener
from sp_proxy.relay.stream import Stream
from sp_proxy.relay.upstream import Upstream
from sp_proxy.taps.context import Endpoints, Signal, Tap
from sp_proxy.taps.discard import Discard
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.http2 import Http2Tap

if TYPE_CHECKING:
    from sp_proxy.relay.worker import Worker

CLOSE_DELAY = 1.0
"""After a refusal, seconds to let the client read the answer before its unread bytes cause a reset (RFC 9112 section 9.6)."""


class Connection:
    """Owns both sides and the tap."""

    __slots__ = (
        "_hold_timer",
        "buffer_size",
        "closed",
        "downstream",
        "early_at",
        "endpoints",
        "listener",
        "loop",
        "poller",
        "refused",
        "tap",
        "upstream",
        "worker",
    )

    def __init__(self, worker: "Worker", listener: Listener) -> None:
        self.worker = worker
        self.listener = listener
        self.loop = worker.loop
        self.poller = worker.poller
        self.buffer_size = worker.config.buffer_size
        self.early_at = 0.0
        """When the client's last bytes came, while upstream is being connected; 0: it has not been read meanwhile."""
        self._hold_timer: asyncio.TimerHandle | None = None
        self.endpoints = Endpoints("", 0, "", 0)
        self.closed = False
        """Both ends are gone."""
        self.refused = False
        """What becomes of one end is no longer passed on to the other."""
        self.tap: Tap | None = None
        self.downstream = Downstream(self)
        self.upstream = Upstream(self)
        self.downstream.other = self.upstream
        self.upstream.other = self.downstream

    # ---- beginning

    def accept(self, sock: socket.socket, source: tuple[str, int]) -> None:
        """A client's connection, not blocking, from this address: find out where it goes, and connect there."""
        worker, downstream, listener = self.worker, self.downstream, self.listener
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
        self.endpoints = Endpoints(source[0], source[1], *destination)
        if returns:  # by what the kernel remembers of another connection: unread, it has been read on its way out
            worker.counters["raw:own_connection"] += 1
            self.upstream.connect(destination, returned=True)
        else:
            self.begin(destination)

    def begin(self, destination: tuple[str, int]) -> None:
        """Its destination is known: connect there."""
        self.tap = self.worker.detection.first_tap(self.endpoints)
        if self.listener.resolve:
            self.upstream.connect_by_name(destination)
        else:
            self.upstream.connect(destination)

    def permitted(self, addresses: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those addresses of a name to which it may go."""
        return addresses

    def connected(self) -> None:
        """Upstream is there: let the bytes flow."""
        self.upstream.watch(reading=True)
        if not self.early_at:
            self.downstream.watch(reading=True)

    def unreachable(self) -> None:
        """Upstream will not be there."""
        if self.tap is not None:
            self.tap.close("upstream_unreachable")
        self.downstream.reset()

    # ---- on the way

    def look_at_signal(self) -> None:
        """The tap wants something other than to go on."""
        tap = self.tap
        if tap is None:
            return
        signal = tap.signal
        if signal is Signal.HOLDING:
            if self._hold_timer is None:
                self._hold_timer = self.loop.call_later(self.worker.config.detect_timeout, self._held_long_enough)
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
            self.refuse(tap.answer)
        elif signal is Signal.ABORT:
            self.abort()
        elif signal is Signal.HAND_OVER:
            self._hand_over(tap)
        elif signal is Signal.KEEP:
            self._keep(tap.take_held(), tap.take_kept())

    # ---- to the mitm worker

    def _keep(self, held: bytes, kept: bytes) -> None:
        """The connection is ours: give what was held to the tap for it."""
        self.tap = self.worker.detection.next_tap(self.listener.context, self.endpoints, held)
        if kept:
            self.upstream.received(kept)
        if held:
            self.downstream.received(held)

    def _hand_over(self, tap: Tap) -> None:
        """The connection is the mitm worker's, which connects upstream itself: nothing has been sent there."""
        worker, downstream, upstream = self.worker, self.downstream, self.upstream
        held = tap.take_held()
        fileno = downstream.sock.fileno()
        downstream.pause()
        downstream.send_deferred()  # what the mitm worker writes comes behind it
        direction, redirected = self.listener.context.direction, self.listener.transparent
        if not worker.detection.hand_over(
            worker.counters, fileno, direction, self.goes_to(), held, redirected=redirected
        ):
            self.stays(tap, held)
            return
        self.close_tap("")
        self.refused = True
        self.poller.unregister(fileno)  # the socket stays open: only our descriptor of it is closed
        downstream.abort()
        upstream.abort()

    def goes_to(self) -> Endpoints:
        """The client, and where it wants to go."""
        return self.endpoints

    def stays(self, tap: Tap, held: bytes) -> None:
        """The mitm worker does not take what this tap has given it."""
        del tap
        self.downstream.resume()
        self._keep(held, b"")

    # ---- to another tap, and to none

    def _switch_to_http2(self, tap: Http1Tap) -> None:
        self.worker.counters["connections_http2"] += 1
        http2 = self.tap = Http2Tap(self.listener.context, self.endpoints)
        http2.begin(bytes(tap.server_said), tap.preface_passed, tap.upgraded, tap.upgrading)
        self.downstream.received(tap.take_held())

    def hold_no_longer(self) -> None:
        """What is held of the client's bytes goes on, if it may."""
        while self._hold_timer is not None:  # the tap to which a connection is given may hold it in its turn
            self._hold_timer.cancel()
            self._held_long_enough()

    def _held_long_enough(self) -> None:
        self._hold_timer = None
        tap = self.tap
        if tap is None:
            return
        if data := tap.timeout():
            self.upstream.write(data)
        if tap.signal is Signal.KEEP:
            self.look_at_signal()

    def refuse(self, answer: bytes) -> None:
        """Strict reading: answer the client ourselves, abandon upstream, and close without cutting off the answer."""
        if self.refused:
            return
        self.refused = True
        self.tap = Discard()
        self.upstream.stop_connecting()
        self.upstream.reset()
        if answer:
            self.downstream.write(answer)
        self.downstream.finish()
        self.loop.call_later(CLOSE_DELAY, self._end_refused)

    def _end_refused(self) -> None:
        self.upstream.abort()
        self.downstream.abort()  # without a reset, unless the client has gone on sending

    # ---- ending

    def failed(self, error: Exception) -> None:
        """A fault of the relay's own: give the connection up."""
        count_connection_fault(self.worker.counters, error)
        self.abort()

    def gave_up(self, what: str) -> None:
        """An end was ``closed`` or ``reset``, and did not take what had been written before."""
        self.worker.counters[f"not_taken:{what}"] += 1

    def ended(self) -> None:
        """One end has finished sending; when both have, the connection is over."""
        if self.downstream.ended and self.upstream.ended:
            self.close_tap("")
            self.downstream.close()
            self.upstream.close()

    def lost(self, side: Stream, error: OSError | None) -> None:
        """One end is gone. Without an error we closed it ourselves."""
        cause: ErrorType = "client_aborted" if side is self.downstream else "upstream_aborted"
        if self.refused:
            if side is self.downstream:
                self.upstream.abort()
        elif error is not None and not side.other.lost and not side.other.closing:
            data = side.unread()
            if side.splice is not None:
                data = side.splice.rest() + data
            if data:
                side.received(data)
            if side is self.downstream and not self.listener.context.strict:
                self.hold_no_longer()  # directly, the server would have it too, before the reset
            self.close_tap(cause)
            side.other.reset()
        for each in (self.downstream, self.upstream):
            if each.splice is not None:
                each.splice.close()
                each.splice = None
        self.close_tap(cause)
        if side is self.downstream:
            self.upstream.stop_connecting()
        else:
            self.upstream.forget_port()
        if self.downstream.lost and self.upstream.lost and not self.closed:
            self.closed = True
            self.worker.connections.discard(self)

    def close_tap(self, error: ErrorType) -> None:
        """No byte is the tap's any more: what has not ended ends with this error, which has a default."""
        tap, self.tap = self.tap, None
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        if tap is not None:
            end_tap(self.worker.counters, tap, error or "upstream_aborted")

    @property
    def passes_urgent(self) -> bool:
        """Whether a byte may go on that no tap sees, as it is no part of the stream for most receivers."""
        return self.tap is None or not self.listener.context.strict

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
            tap_failed(self, self.downstream, b"", error)
            return
        if said and not self.downstream.lost:
            self.downstream.write(said)

    def close(self) -> None:
        """Close an idle connection, both ends in order."""
        self.close_tap("")
        self.downstream.close()
        self.upstream.close()

    def abort(self) -> None:
        """Reset both ends now."""
        self.close_tap("upstream_aborted")
        self.upstream.stop_connecting()
        self.downstream.reset(now=True)
        self.upstream.reset(now=True)
