"""The admin server: the endpoints on Hypercorn's trio worker, on sockets that the supervisor has bound."""

import logging
import socket
from collections.abc import Sequence
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

from sp_proxy.admin.app import DaemonView, build_app

KEEP_ALIVE_SECONDS = 15.0
READ_TIMEOUT_SECONDS = 10


async def serve(
    view: DaemonView,
    sockets: Sequence[socket.socket],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Owns the sockets, which listen already, from now on."""
    config = Config()
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    config.accesslog = None
    # Through the standard logging, which is set up for the whole process, warnings and worse only.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.alpn_protocols = ["http/1.1"]
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.read_timeout = READ_TIMEOUT_SECONDS
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(hypercorn_serve, build_app(view), config, mode="asgi"))  # type: ignore[arg-type]
        task_status.started()
