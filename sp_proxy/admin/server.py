"""The admin server: the endpoints on Hypercorn's trio worker, on sockets that the supervisor has bound."""

import socket
from collections.abc import Sequence

import trio

from sp_proxy.admin.app import DaemonView, build_app
from sp_proxy.backend.server import run_server


async def serve(
    view: DaemonView,
    sockets: Sequence[socket.socket],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; requests in hand then have a moment to finish. Owns the sockets, which listen already."""
    await run_server(build_app(view), sockets, on_stop=_nothing_to_end, task_status=task_status)


def _nothing_to_end() -> None:
    """No response here is a long one."""
