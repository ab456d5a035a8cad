"""Relays raw what was handed over and found no mitm worker to take it: a connection on its way must not be lost."""

import socket

import structlog
import trio

from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.failopen import Endpoint, connect, relay, reset, resolve

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class PassThrough:
    """``serve`` takes one connection."""

    def __init__(self, guard: LoopGuard) -> None:
        self._guard = guard

    async def serve(self, client: socket.socket, destination: Endpoint, prefix: bytes) -> None:
        """Relay it until both ends have ended; owns ``client``, of which ``prefix`` has been read already."""
        try:
            with trio.socket.from_stdlib_socket(client) as downstream:
                upstream = await self._connect(destination)
                if upstream is None:
                    reset(downstream)
                    return
                with upstream:
                    local_port = upstream.getsockname()[1]
                    try:
                        await trio.SocketStream(upstream).send_all(prefix)
                        await relay(downstream, upstream)
                    finally:
                        self._guard.closed(local_port)
        except (OSError, trio.BrokenResourceError):
            return
        except Exception:
            log.exception("pass_through_failed")

    async def _connect(self, destination: Endpoint) -> trio.socket.SocketType | None:
        for endpoint in await resolve(Address(*destination)):
            if (upstream := await connect(endpoint, self._guard)) is not None:
                return upstream
        return None
