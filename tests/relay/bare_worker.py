"""A connection without a worker process: what it asks of its worker, in this one."""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any, cast

from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.relay.connection import Connection
from sp_proxy.relay.listener import Listener
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.relay.poller import Poller
from sp_proxy.taps.context import Endpoints
from tests.relay.running_worker import listening


class BareWorker:
    """What a connection asks of its worker, without a tap."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.poller = Poller(loop)
        self.config = WorkerConfig(1, -1, (), HeaderConfig("orders"), PolicyConfig(), buffer_size=65536)
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.connections: set[Connection] = set()
        self.loop_guard = LoopGuard()
        self.detection = self
        self.tap: Any = None
        self.tasks: list[asyncio.Task[None]] = []

    def first_tap(self, _: Endpoints) -> Any:
        return self.tap

    def hand_over(self, _counters: object, fileno: int, *_: object, **__: object) -> bool:
        """To the mitm worker: whatever the tap makes of it."""
        self.tap.handed_over(fileno)
        return True

    def own(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self.loop.create_task(coroutine))

    def accept(self, name: tuple[str, int], *, resolve: bool) -> tuple[socket.socket, Connection]:
        """A client, and its connection, which goes to this name."""
        with listening() as listener:
            client = socket.create_connection(listener.getsockname())
            sock, source = listener.accept()
            to = Listener(listener, cast("Any", None), name, resolve)
        sock.setblocking(False)
        client.setblocking(False)
        connection = Connection(cast("Any", self), to)
        connection.accept(sock, source)
        return client, connection
