"""Our addon about upstream connections: the loop guard must know them."""

from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from sp_proxy.relay.loop_guard import LoopGuard


class OwnServers:
    """The addon."""

    def __init__(self, guard: LoopGuard) -> None:
        self._guard = guard
        self._ports: dict[str, int] = {}

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
