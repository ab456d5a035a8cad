"""The sockets of all connections of a worker, in an epoll set of their own (epoll(7)), level-triggered.

The set's own descriptor is watched by the event loop, which goes on to serve timers, signals and all that is rare. A loop's
transports do the same work at twice the price for a connection that carries one request: 131 µs against 82 for a relay that
does nothing else (the kernel takes 65 of either).

Where two programs on one machine talk over one connection, most of a round trip is falling asleep and being woken: a worker that
waits awake for what comes within some µs makes 1.7 times the round trips, for the same CPU time a request. So it does, as long as
that mostly comes; when it does not, it tries again ever more seldom.
"""

import asyncio
import logging
import select
import socket
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

log = logging.getLogger(__name__)

URGENT: Final = select.EPOLLPRI
"""There is an urgent byte that has not been taken: told as long as it is, so only to those who read."""
READABLE: Final = select.EPOLLIN | URGENT
WRITABLE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR
HUNG_UP: Final = select.EPOLLHUP
"""Both directions have ended. Like BROKEN, it is told even to those who wait for nothing, again and again."""
MAX_EVENTS: Final = 64
"""Told in one round, at whose end the answers go out."""
TURN_NS: Final = 2_000_000
"""After so long a turn the loop has its own: timers, signals, the channel to the exporter."""
AWAKE_NS: Final = 100_000
"""How long to wait awake: a program on the same machine takes about 30 µs for a short answer, and seldom more than this."""
MAX_SKIPPED: Final = 511
"""A wait that is in vain costs 100 µs once in so many turns."""

Handler = Callable[[int], None]
"""Takes the events of one descriptor. Must not raise."""
Events = list[tuple[int, int]]
"""Descriptors, and what is to be told of them."""


class Poller:
    """One per worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._closing: list[socket.socket] = []
        self._turning = False
        self._end_of_turn = 0
        self._several = False  # more than one handler is told in this round
        self._at_end: list[Callable[[], None]] = []
        self._skipped = 0  # between the latest wait that was in vain and the next one
        self._to_skip = 0  # of them, those that are left
        self._again: asyncio.Handle | None = None  # the next turn, if it comes by itself
        loop.add_reader(self._epoll.fileno(), self._readable)

    def register(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call the handler whenever these events are there."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, events)

    def modify(self, descriptor: int, events: int) -> None:
        """Wait for these events from now on."""
        self._epoll.modify(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        """Forget it. What is told of it in this turn is lost."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self, sock: socket.socket) -> None:
        """Forget and close a socket that was registered and is nobody else's (else ``unregister`` it first).

        It is closed when all that was told with the present event has been: until then no other can get its number, to which
        events may still be told. The kernel forgets what is closed: asking it to would be one of 20 system calls of a connection.
        """
        self._handlers.pop(sock.fileno(), None)
        if self._turning:
            self._closing.append(sock)
        else:
            sock.close()

    def at_end(self, call: Callable[[], None]) -> bool:
        """Call this when all that is being told has been; False if nobody else is told anything. What it raises costs nobody else."""
        if self._several:
            self._at_end.append(call)
        return self._several

    def end_turn(self) -> None:
        """What was left to the loop shall not wait long, and who else waits for the same shall have it."""
        self._end_of_turn = 0

    def _readable(self) -> None:
        if self._again is None:  # else the next turn comes anyhow: two of them would be four the next time
            self._turn()

    def _turn_again(self) -> None:
        self._again = None
        self._turn()

    def _turn(self) -> None:
        self._end_of_turn = perf_counter_ns() + TURN_NS
        poll = self._epoll.poll
        found = poll(0, MAX_EVENTS) or self._wait_awake()
        while found:
            self._tell(found)
            if perf_counter_ns() > self._end_of_turn:
                if self._end_of_turn:
                    self._again = self._loop.call_soon(
                        self._turn_again
                    )  # or the loop would fall asleep until the next comes
                return
            found = poll(0, MAX_EVENTS) or self._wait_awake()

    def _tell(self, found: Events) -> None:
        self._turning = True
        self._several = len(found) > 1
        handlers = self._handlers
        try:
            for descriptor, events in found:
                handler = handlers.get(descriptor)
                if handler is not None:
                    handler(events)
        finally:
            self._turning = self._several = False
            at_end = self._at_end
            if at_end:
                self._at_end = []
                for call in at_end:
                    try:
                        call()
                    except Exception:
                        log.exception("fault at the end of a round")
            closing = self._closing
            if closing:
                self._closing = []
                for sock in closing:
                    sock.close()

    def _wait_awake(self) -> Events:
        """What comes within the time to wait awake, if it is one of the turns in which to do that."""
        if self._to_skip:
            self._to_skip -= 1
            return []
        poll = self._epoll.poll
        end = perf_counter_ns() + AWAKE_NS
        while True:
            found = poll(0, MAX_EVENTS)
            if found:
                self._skipped >>= 1  # one in vain outweighs two that are not
                return found
            if perf_counter_ns() > end:
                self._to_skip = self._skipped = min(MAX_SKIPPED, self._skipped << 2 | 1)
                return found

    def stop(self) -> None:
        """The worker ends."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
