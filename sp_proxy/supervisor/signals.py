"""Signals: the first SIGTERM or SIGINT begins the drain, a second one ends everything at once, SIGHUP reloads the settings.

A drain that was begun by a request to the admin server does not count as a first signal: Kubernetes calls a preStop hook
and then sends SIGTERM, and that must not cut the drain short.
"""

import signal
from collections.abc import AsyncIterator, Callable

import structlog

IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
"""They would end the daemon, and mean nothing to it: somebody sends them to every process of a container."""
WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *IGNORED)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def watch(
    arriving: AsyncIterator[int],
    begin_drain: Callable[[str], None],
    abort: Callable[[int], None],
    reload: Callable[[str], None],
) -> None:
    """Translate signals until the iterator ends: ``begin_drain`` and ``reload`` get the cause, ``abort`` the exit code, which
    is 128 and the signal's number as shells report it.
    """
    asked = False
    async for number in arriving:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            reload(name)
        elif number in IGNORED:
            log.warning("signal_ignored", signal=name)
        elif asked:
            log.warning("aborting", signal=name)
            abort(128 + number)
        else:
            asked = True
            begin_drain(name)
