"""A connection to the explicit proxy (``listen.proxy``): its client says where it goes, and where to from there.

It begins with a tap of its own (``taps/proxy_front.py``). Behind a CONNECT it is then a connection like any other. A request in
absolute form goes to its origin; a request for another origin ends that upstream connection when its answers are there, and another
``ProxiedConnection`` takes the client over.
"""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from sp_proxy.relay.connection import Connection
from sp_proxy.relay.downstream import Downstream
from sp_proxy.relay.listener import Listener
from sp_proxy.taps.context import Endpoints, Signal, Tap, TapContext
from sp_proxy.taps.http1_proxy import ProxyTap
from sp_proxy.taps.proxy_front import ESTABLISHED, UNREACHABLE, ProxyFront

if TYPE_CHECKING:
    from sp_proxy.relay.worker import Worker

_MAPPED = "::ffff:"
_READ_NO_MORE = frozenset((Signal.AGAIN, Signal.REJECTING))


class ProxiedConnection(Connection):
    """One for each origin that a client asks for, one after the other."""

    __slots__ = ("_named",)

    def __init__(self, worker: "Worker", listener: Listener) -> None:
        super().__init__(worker, listener)
        self._named: tuple[str, int] | None = None  # by a CONNECT

    # ---- to the origin that the client names

    def begin(self, destination: tuple[str, int]) -> None:
        """See ``Connection``: the client is asked."""
        del destination
        self.worker.counters["connections_proxy"] += 1
        self._ask()
        self.downstream.watch(reading=True)

    def _ask(self) -> None:
        self.tap = self.worker.detection.proxy_front(self.worker.counters)

    def look_at_signal(self) -> None:
        """See ``Connection``."""
        tap = self.tap
        if isinstance(tap, ProxyFront) and tap.signal is Signal.NAMED:
            tap.signal = Signal.NONE
            self.upstream.connect_by_name(tap.destination)
        elif isinstance(tap, ProxyTap) and tap.signal in _READ_NO_MORE:
            self._begin_again(tap)
        else:
            super().look_at_signal()

    def permitted(self, addresses: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """See ``Connection``: not the proxy's own."""
        return elsewhere(addresses, self.listener, self.downstream.sock)

    def connected(self) -> None:
        """See ``Connection``: serve what the client has said, and has said since."""
        if isinstance(self.tap, ProxyFront):
            self._serve_named(self.tap)
        super().connected()

    def _serve_named(self, front: ProxyFront) -> None:
        self.endpoints, self.tap = tap_for(front, self.listener.context, self.endpoints, self.upstream.sock)
        if self.tap is None:
            self._named = front.destination
            self.downstream.write(ESTABLISHED)
            self.tap = self.worker.detection.first_tap(at(self.endpoints, front.destination))
        if data := front.take_held() + self.upstream.take_back():
            self.downstream.received(data)
        if self.downstream.ended:
            self._pass_last()

    def _pass_last(self) -> None:
        """The client has finished sending: what was held of it goes on."""
        if self.tap is not None and (held := self.tap.client_eof()):
            self.upstream.write(held)

    def unreachable(self) -> None:
        """See ``Connection``: a client that has named its origin is told."""
        tap = self.tap
        if isinstance(tap, ProxyFront):
            record_unreachable(tap, self.listener.context, self.endpoints)
            self.refuse(UNREACHABLE)
        else:
            super().unreachable()

    # ---- to another origin

    def _begin_again(self, tap: ProxyTap) -> None:
        """A new connection takes its place, once this one has nothing more to say."""
        downstream = self.downstream
        if downstream.lost:
            return
        if not tap.over:
            downstream.pause()
            return
        held = tap.take_held()
        self.close_tap("")
        successor = ProxiedConnection(self.worker, self.listener)
        successor.succeed(downstream, self.endpoints)
        self.refused = True  # what becomes of one end is no longer passed on to the other
        self.downstream = self.upstream.other = Downstream(self)
        self.downstream.other = self.upstream
        if self.upstream.lost:
            self.worker.connections.discard(self)
        else:
            self.upstream.close()
        downstream.resume()
        downstream.received(held)

    def succeed(self, downstream: Downstream, endpoints: Endpoints) -> None:
        """Take a client over from another connection."""
        downstream.connection, downstream.other = self, self.upstream
        self.upstream.other = self.downstream = downstream
        self.endpoints = endpoints
        self.worker.connections.add(self)
        self._ask()

    @property
    def passes_urgent(self) -> bool:
        """See ``Connection``: no origin may see what is meant for another, so all that goes there is read."""
        return self._named is not None and super().passes_urgent

    # ---- to the mitm worker

    def goes_to(self) -> Endpoints:
        """See ``Connection``: what a CONNECT has named."""
        return self.endpoints if self._named is None else at(self.endpoints, self._named)

    def stays(self, tap: Tap, held: bytes) -> None:
        """See ``Connection``: what only the mitm worker can serve has no other way."""
        if isinstance(tap, ProxyFront):
            self.refuse(UNREACHABLE)
        else:
            super().stays(tap, held)


def elsewhere(addresses: Sequence[tuple[str, int]], listener: Listener, client: socket.socket) -> list[tuple[str, int]]:
    """The addresses to which a client may be connected: not to the proxy itself, which would be asked for itself for ever.

    IPv4 addresses in the clothes of IPv6 are undressed, so that the loop guard knows their connections again.
    """
    plain = [(host.removeprefix(_MAPPED) if "." in host else host, port) for host, port in addresses]
    try:
        local = client.getsockname()[:2]
    except OSError:  # it has been reset
        return []
    return [address for address in plain if not listener.leads_here(address, local)]


def at(endpoints: Endpoints, server: tuple[str, int]) -> Endpoints:
    """The same client with another server."""
    return structs.replace(endpoints, server_address=server[0], server_port=server[1])


def tap_for(
    front: ProxyFront, context: TapContext, endpoints: Endpoints, upstream: socket.socket
) -> tuple[Endpoints, ProxyTap | None]:
    """The ends of a connection whose origin is connected, and what serves its requests; None for a tunnel."""
    try:
        ends = at(endpoints, upstream.getpeername()[:2])
    except OSError:  # it has been reset
        ends = at(endpoints, front.destination)
    return ends, None if front.tunnel or front.named is None else ProxyTap(context, ends, front.named)


def record_unreachable(front: ProxyFront, context: TapContext, endpoints: Endpoints) -> None:
    """Make the record of a request whose origin cannot be reached; a CONNECT is no exchange of ours."""
    if not front.tunnel and front.named is not None:
        tap = ProxyTap(context, at(endpoints, front.destination), front.named)
        tap.client(front.take_held())
        tap.close("upstream_unreachable")
