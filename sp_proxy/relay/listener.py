"""A listening socket and what is common to all connections that arrive on it."""

import socket
from dataclasses import dataclass

from sp_proxy.relay.original_dst import original_dst
from sp_proxy.taps.context import TapContext


@dataclass(frozen=True, slots=True)
class Listener:
    """Transparent, or with a fixed upstream."""

    listening: socket.socket
    context: TapContext
    upstream: tuple[str, int] | None
    """Fixed upstream; None for a transparent listener."""
    resolve: bool
    """The fixed upstream is a name."""

    def destination(self, accepted: socket.socket) -> tuple[str, int] | None:
        """Where an accepted connection goes; None if it was made to a transparent listener itself.

        Without redirection the kernel knows no original destination, or names the address that was connected to: our own.
        Relaying there would arrive here again, for ever. Raises OSError when the connection is already gone.
        """
        if self.upstream is not None:
            return self.upstream
        destination = original_dst(accepted)
        if destination is None or destination == accepted.getsockname()[:2]:
            return None
        return destination
