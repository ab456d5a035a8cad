"""Our addon about upstream connections: known to the loop guard, and never made to ourselves."""

import socket
from collections.abc import Sequence

from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from sp_proxy.relay.loop_guard import LoopGuard

_THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1", "0.0.0.0", "::"))


class OwnServers:
    """The addon. ``listening``: sockets of the explicit proxy."""

    def __init__(self, guard: LoopGuard, listening: Sequence[socket.socket]) -> None:
        self._guard = guard
        self._own = {sock.getsockname()[1]: sock.getsockname()[0] for sock in listening}
        self._ports: dict[str, int] = {}

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """A client of the explicit proxy that asks it for itself would be served for ever."""
        address = data.server.address
        if address is None or address[1] not in self._own:
            return
        host = address[0].lower()
        if host in _THIS_MACHINE or host in {self._own[address[1]], data.client.sockname[0]}:
            data.server.error = "this is the proxy itself"

    def server_connected(self, data: ServerConnectionHookData) -> None:
        """The relay must know it again, should a wrong redirect rule send it back to us.

        mitmproxy tells no sooner, so the relay may accept such a connection before; what it then hands over is refused by
        the worker itself, for it hands over what has been said, and nothing is said before this.
        """
        local, peer = data.server.sockname, data.server.peername
        if local is not None and peer is not None:
            self._ports[data.server.id] = local[1]
            self._guard.opened(local[:2], peer[:2])

    def server_disconnected(self, data: ServerConnectionHookData) -> None:
        """It is gone."""
        port = self._ports.pop(data.server.id, None)
        if port is not None:
            self._guard.closed(port)
