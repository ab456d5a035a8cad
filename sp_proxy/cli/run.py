"""``sp-proxy run``: the daemon.

It must start where a container starts it: as any user, without HOME, without a terminal, with standard streams closed,
in a directory that it may not read.
"""

import os
import signal
import sys
import time
from typing import Annotated

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, duration_or_exit, read_or_exit, say, source_or_exit

CANNOT_START = 1
INTERRUPTED = 130
WRONG_SETTINGS = 2


LingerOption = Annotated[
    str,
    typer.Option(
        "--linger",
        metavar="DURATION",
        help="When it cannot start, end only this long after its beginning: in a pod, what waits for it begins meanwhile.",
    ),
]


def run(config: ConfigOption = None, assignments: SetOption = None, linger: LingerOption = "0s") -> int:
    """Run the daemon in the foreground, until SIGTERM or SIGINT. SIGHUP: read the settings again.

    Exit codes: 0 after a drain, 1 when it cannot start (an address in use), 2 for wrong settings, 128 and the signal's
    number when a second signal cut the drain short.
    """
    began = time.monotonic()
    open_standard_streams()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the supervisor listens: the settings are yet to be read anyhow
    until = began + duration_or_exit("--linger", linger)
    try:
        code = _run(config, assignments)
    except typer.Exit as end:  # the settings were wrong, which has been said
        code = end.exit_code
    if code in {CANNOT_START, WRONG_SETTINGS}:
        _wait(until - time.monotonic())
    return code


def _wait(seconds: float) -> None:
    """Unless a signal asks for the end. As a container's first process it has none that would end it by itself."""
    if seconds > 0:
        asked = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, asked)
        signal.sigtimedwait(asked, seconds)


def _run(config: ConfigOption, assignments: SetOption) -> int:
    # The supervisor says the warnings, in the log.
    source = source_or_exit(config, assignments)
    loaded = read_or_exit(source, warning=lambda _line: None)
    import structlog

    from sp_proxy import logs
    from sp_proxy.settings.errors import SettingsError
    from sp_proxy.supervisor.run import run as run_supervisor
    from sp_proxy.supervisor.sockets import BindError

    logs.configure(loaded.settings.log.level, loaded.settings.log.format)
    try:
        return run_supervisor(loaded, source, os.environ)
    except SettingsError as error:
        for problem in error.problems:
            say(problem)
        return WRONG_SETTINGS
    except BindError as error:
        say(str(error))
        return CANNOT_START
    except Exception:  # noqa: BLE001  # the outermost place
        # A fault of ours. It is logged like everything else, so that it is found where everything else is.
        structlog.get_logger(__name__).critical("supervisor_failed", exc_info=True)
        return CANNOT_START
    except KeyboardInterrupt:  # in the moment before signals are watched
        return INTERRUPTED


def open_standard_streams() -> None:
    """Make descriptors 0, 1 and 2 exist. Otherwise the first sockets would get these numbers, and a child process,
    whose own standard streams go there, would lose them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
