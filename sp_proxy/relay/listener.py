"""A listening socket and what is common to all connections that arrive on it."""

import ipaddress
import socket
from dataclasses import dataclass

from sp_proxy.relay.original_dst import original_dst
from sp_proxy.taps.context import TapContext


@dataclass(frozen=True, slots=True)
class Listener:
    """Transparent, with a fixed upstream, or an explicit proxy."""

    listening: socket.socket
    context: TapContext
    upstream: tuple[str, int] | None
    """Fixed upstream; None for the others."""
    resolve: bool
    """The fixed upstream is a name."""
    proxy: bool = False

    @property
    def transparent(self) -> bool:
        """Whether its connections go where the kernel says."""
        return self.upstream is None and not self.proxy

    def destination(self, accepted: socket.socket) -> tuple[str, int] | None:
        """Where an accepted connection goes; None if it was made to a transparent listener itself. For an explicit proxy, nothing
        that means anything: its client is asked.

        Without redirection the kernel knows no original destination, or names the address that was connected to: our own.
        Relaying there would arrive here again, for ever. Raises OSError when the connection is already gone.
        """
        if self.upstream is not None:
            return self.upstream
        if self.proxy:
            return "", 0
        destination = original_dst(accepted)
        if destination is None or destination == accepted.getsockname()[:2]:
            return None
        return destination

    def leads_here(self, address: tuple[str, int], local: tuple[str, int]) -> bool:
        """Whether connecting to this address comes to this listener itself; ``local``: where a client has reached it."""
        own, port = self.listening.getsockname()[:2]
        if address[1] != port:
            return False
        to = ipaddress.ip_address(address[0])
        if ipaddress.ip_address(own).is_unspecified:
            return to.is_loopback or to.is_unspecified or address == local
        return address[0] == own or (to.is_unspecified and ipaddress.ip_address(own).is_loopback)
