"""The connections that a mitm worker serves: what its addons and layers must know of each, found by mitmproxy's client id."""

import ipaddress
import time
from dataclasses import dataclass, field

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps import partials
from sp_proxy.taps.context import Endpoints, Tap, TapContext
from sp_proxy.taps.open_exchange import OpenExchange


@dataclass(slots=True)
class Live:
    """One downstream connection."""

    context: TapContext
    client: tuple[str, int]
    destination: tuple[str, int] | None
    """Original destination, or a name that a CONNECT gave; None for the explicit proxy, whose client names it in each request."""
    exchanges: dict[str, OpenExchange] = field(default_factory=dict)
    """Those of mitmproxy's flows which have not ended, by flow id."""
    taps: list[Tap] = field(default_factory=list)
    raw: bool = False
    """Bytes pass unread: nobody can tell whether it is idle."""
    touched: float = field(default_factory=time.monotonic)
    """When a flow of it last began or ended."""

    def endpoints(self, peer: tuple[str, int] | None) -> Endpoints:
        """The two ends, for the record; ``peer``: the other end of the upstream connection, if there is one."""
        server = self.destination
        if server is None or (peer is not None and not _is_address(server[0])):
            server = peer or ("", 0)
        return Endpoints(*self.client[:2], *server[:2])

    @property
    def idle(self) -> bool:
        """No exchange is going on."""
        return not self.raw and not self.exchanges and all(tap.idle for tap in self.taps)

    def record_open(self, before_ns: int) -> None:
        """Record exchanges that began before this and have not ended."""
        if self.exchanges:
            partials.record_open(self.exchanges.values(), before_ns)
        for tap in self.taps:
            tap.record_open(before_ns)

    def close(self, error: ErrorType) -> None:
        """It is over: exchanges that have not ended end with this error, but for those that were answered."""
        for exchange in self.exchanges.values():
            exchange.finish("" if exchange.response_ended else error)
        self.exchanges.clear()
        for tap in self.taps:
            tap.close(error)
        self.taps.clear()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Connections(dict[str, Live]):
    """By ``Client.id``."""
