"""Where relay workers hand connections over, and what becomes of those that no mitm worker takes.

They go through one socket whose receiving end is held here too, so what is sent waits in the kernel while a worker starts, and
survives its death. While no worker can serve, relay workers are told so (they then keep what they would hand over), and what is on
its way already is passed through raw by this process.
"""

import os
import socket
from collections.abc import Awaitable, Callable

import structlog
import trio

from sp_proxy.relay.handoff import STATE_BYTES, EngineState, HandOverEndedError, receive

PassThrough = Callable[[socket.socket, tuple[str, int], bytes], Awaitable[None]]
"""Takes over a client's connection, its destination and what it has said, and relays it raw."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class HandedOver:
    """Must be made inside trio."""

    def __init__(self, pass_through: PassThrough) -> None:
        self._pass_through = pass_through
        self._sending, self._receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._receiving.setblocking(False)
        self._state_fd = os.memfd_create("sp-proxy-engine-state")
        os.truncate(self._state_fd, STATE_BYTES)
        self._shared = EngineState(self._state_fd)
        self._shared.takes = True
        self._down = trio.Event()
        self.diverted_total = 0
        """Connections on their way to a worker that died or did not start: passed through raw."""

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a relay worker inherits: where it sends to, and the state. Valid until ``close``."""
        return self._sending.fileno(), self._state_fd

    @property
    def receiving(self) -> int:
        """What a mitm worker inherits."""
        return self._receiving.fileno()

    def close(self) -> None:
        """Release the sockets."""
        self._sending.close()
        self._receiving.close()
        os.close(self._state_fd)

    def are_taken(self, taken: bool) -> None:  # the whole of what it says
        """Whether a worker takes connections, or is started when one comes."""
        self._shared.takes = taken
        if not taken:
            self._down.set()
        elif self._down.is_set():
            self._down = trio.Event()

    async def wait(self) -> None:
        """Return when something has been handed over."""
        await trio.lowlevel.wait_readable(self._receiving)

    async def divert(self, nursery: trio.Nursery) -> None:
        """Pass through what was handed over and has no worker to take it."""
        while True:
            await self._down.wait()
            await self.wait()
            if not self._down.is_set():
                continue
            try:
                taken = receive(self._receiving)
            except BlockingIOError:
                continue
            except HandOverEndedError:
                return
            except OSError as error:
                log.warning("hand_over_failed", reason=os.strerror(error.errno or 0).lower())
                await trio.sleep(1)
                continue
            if taken is not None:
                self.diverted_total += 1
                nursery.start_soon(self._pass_through, taken[0], taken[1].destination, taken[1].prefix)
