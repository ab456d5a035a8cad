"""``python -m sp_proxy.backend``: the child process that ``process.py`` describes. People have ``sp-proxy backend``."""

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial

import structlog
import trio

from sp_proxy import logs
from sp_proxy.backend.model import BackendError
from sp_proxy.backend.process import inherited_sockets, read_handover
from sp_proxy.backend.serve import serve
from sp_proxy.settings.model import Backend

CANNOT_START = 1

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def child(settings: Backend, listen_fds: Sequence[int], lifeline_fd: int | None) -> int:
    """Serve until a signal or the end of the lifeline. Returns the exit status."""
    sockets = inherited_sockets(listen_fds) or None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal, signals, nursery.cancel_scope)
            if lifeline_fd is not None:
                nursery.start_soon(_end_with_parent, lifeline_fd, nursery.cancel_scope)
            try:
                await nursery.start(partial(serve, settings, sockets=sockets))
            except BackendError as error:
                log.error("backend_cannot_start", reason=str(error))  # noqa: TRY400 - one line, no traceback
                nursery.cancel_scope.cancel()
                return CANNOT_START
    log.info("backend_stopped")
    return 0


async def _end_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


async def _end_with_parent(descriptor: int, scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(descriptor) as lifeline:
        while await lifeline.receive_some(1):
            pass
    scope.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, the process's own by default."""
    parser = argparse.ArgumentParser(prog="python -m sp_proxy.backend", allow_abbrev=False)
    parser.add_argument("--settings-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, action="append", default=[])
    parser.add_argument("--lifeline-fd", type=int)
    given = parser.parse_args(arguments)
    handover = read_handover(given.settings_fd)
    os.set_inheritable(given.settings_fd, False)
    logs.configure(handover.log_level, handover.log_format, process="backend")
    return trio.run(child, Backend.model_validate(handover.backend), given.listen_fd, given.lifeline_fd)


if __name__ == "__main__":
    sys.exit(main())
