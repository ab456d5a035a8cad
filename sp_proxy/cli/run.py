"""``sp-proxy run``: the daemon.

It must start where a container starts it: as any user, without HOME, without a terminal, with standard streams closed,
in a directory that it may not read.
"""

import os
import sys

from sp_proxy.cli.options import ConfigOption, SetOption, read_or_exit, say, source_or_exit

CANNOT_START = 1
INTERRUPTED = 130
WRONG_SETTINGS = 2


def run(config: ConfigOption = None, assignments: SetOption = None) -> int:
    """Run the daemon in the foreground, until SIGTERM or SIGINT. SIGHUP: read the settings again.

    Exit codes: 0 after a drain, 1 when it cannot start (an address in use), 2 for wrong settings, 128 and the signal's
    number when a second signal cut the drain short.
    """
    open_standard_streams()
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
