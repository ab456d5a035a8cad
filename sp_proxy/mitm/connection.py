"""One downstream connection in mitmproxy's hands, adopted from the relay."""

import asyncio
import contextlib
import logging
import socket
import struct

from mitmproxy.connection import Server
from mitmproxy.options import Options
from mitmproxy.proxy import commands, server
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.mode_specs import ProxyMode

from sp_proxy.mitm.hooks import Hooks

READ_LIMIT = 262144
"""Bytes that wait in a stream before its sender is made to wait."""
_LINGER_RESET = struct.pack("ii", 1, 0)
TRANSPARENT = ProxyMode.parse("transparent")
REGULAR = ProxyMode.parse("regular")


class Handler(server.LiveConnectionHandler):
    """mitmproxy's handler, whose hooks are our table's."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        options: Options,
        hooks: Hooks,
        destination: tuple[str, int] | None,
    ) -> None:
        """``destination``: None for an explicit proxy's client."""
        super().__init__(reader, writer, options, REGULAR if destination is None else TRANSPARENT)
        self._hooks = hooks
        context = self.layer.context
        if destination is None:
            self.layer = modes.HttpProxy(context)
        else:
            context.client.sockname = destination
            context.server = Server(address=destination)
            self.layer = modes.TransparentProxy(context)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Called for every hook of a layer."""
        (data,) = hook.args()
        await self._hooks.call(hook.name, data)

    def log(self, message: str, level: int = logging.INFO, exc_info: object = None) -> None:
        """What mitmproxy has to say is for its own users; a crash is for ours."""
        if level >= logging.ERROR:
            super().log(message, level, exc_info)  # type: ignore[arg-type]

    def close(self) -> None:
        """End the connection now, both sides of it."""
        for io in list(self.transports.values()):
            if io.handler is not None:
                io.handler.cancel("closed by us")


def reset(sock: socket.socket) -> None:
    """End a connection that nobody serves, in the way that tells its client so."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    sock.close()


async def adopt(
    sock: socket.socket, prefix: bytes, options: Options, hooks: Hooks, destination: tuple[str, int] | None
) -> Handler:
    """A handler for an open connection of which ``prefix`` has been read. Raises OSError when it is gone already."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(READ_LIMIT, loop)
    if prefix:
        # Before there is a transport, so before anything else can be in it.
        reader.feed_data(prefix)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    return Handler(reader, writer, options, hooks, destination)
