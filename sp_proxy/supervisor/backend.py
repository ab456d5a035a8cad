"""The embedded backend, kept running in a process of its own: its failures are logged and never end anything else.

Its listening sockets are the supervisor's, as the workers' are, so a restart refuses no connection.
"""

import random
import socket
from collections.abc import Sequence

import structlog
import trio

from sp_proxy.backend.model import BackendError
from sp_proxy.backend.process import run_process
from sp_proxy.core.restarts import RestartPolicy, Restarts
from sp_proxy.settings.backend import Backend, Daemon
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.types import Address

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def keep_backend(
    settings: SettingsModel, sockets: Sequence[socket.socket], policy: RestartPolicy | None = None
) -> None:
    """Keep it running until cancelled; then it ends in its own time, which is limited. The sockets stay ours."""
    restarts = Restarts(1, policy or RestartPolicy(), trio.current_time())
    while True:
        restarts.started(0, trio.current_time())
        try:
            await run_process(
                beside(settings), sockets=sockets, log_level=settings.log.level, log_format=settings.log.format
            )
        except (BackendError, OSError) as error:
            delay = restarts.exited(0, trio.current_time(), random.random())  # noqa: S311  # jitter
            # One line: what there is to say about the cause, the child has said.
            log.warning("backend_failed", reason=str(error), restart_in_seconds=round(delay, 3))
            await trio.sleep(delay)


def beside(settings: SettingsModel) -> Backend:
    """The backend's settings, with this daemon as the first of those whose health it shows."""
    if not settings.admin.enabled:
        return settings.backend
    listen = settings.admin.listen
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    address = Address(host, listen.port)
    others = [each for each in settings.backend.daemons if each.address != address]
    named = [each for each in settings.backend.daemons if each.address == address]
    own = named or [Daemon(address=address, name="this daemon")]
    return settings.backend.model_copy(update={"daemons": [*own, *others]})
