"""The mock as one task: answers on sockets that listen already until it is cancelled. For its subcommand and for ``dev``."""

import socket
from collections.abc import Sequence

import trio

from sp_proxy.backend.server import run_server
from sp_proxy.mock.app import Mock


async def serve(
    mock: Mock, sockets: Sequence[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; the sockets are closed at the end."""
    try:
        await run_server(mock, sockets, on_stop=lambda: None, task_status=task_status)
    finally:
        with trio.CancelScope(shield=True):
            await mock.aclose()
