"""``sp-proxy run``: the daemon.

It must start where a container starts it: as any user, without HOME, without a terminal, with standard streams closed,
in a directory that it may not read.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

BAD_SETTINGS = 2
CANNOT_START = 1


def run(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML or JSON file: settings, or a WasmPlugin manifest.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; again for more of them.")
    ] = None,
) -> None:
    """Run the daemon in the foreground, until SIGTERM.

    Exit codes: 0 after a drain, 1 when it cannot start (an address in use), 2 for wrong settings, 128 and the signal's
    number when a second signal cut the drain short.
    """
    raise typer.Exit(run_daemon(config, assignments or []))


def run_daemon(path: Path | None, assignments: list[str]) -> int:
    """Run the daemon in this process until it ends. Returns the exit code; what went wrong is on standard error."""
    open_standard_streams()
    from sp_proxy.settings.errors import SettingsError
    from sp_proxy.settings.flags import parse_assignments
    from sp_proxy.settings.load import load

    try:
        loaded = load(path, os.environ, parse_assignments(assignments))
    except SettingsError as error:
        return _failed(error.problems, BAD_SETTINGS)

    from sp_proxy import logs
    from sp_proxy.supervisor.run import run as run_supervisor
    from sp_proxy.supervisor.sockets import BindError

    logs.configure(loaded.settings.log.level, loaded.settings.log.format)
    try:
        return run_supervisor(loaded, os.environ)
    except SettingsError as error:
        return _failed(error.problems, BAD_SETTINGS)
    except BindError as error:
        return _failed([str(error)], CANNOT_START)
    except KeyboardInterrupt:  # in the moment before signals are watched
        return 130


def open_standard_streams() -> None:
    """Make descriptors 0, 1 and 2 exist. Otherwise the first sockets would get these numbers, and a child process,
    whose own standard streams go there, would lose them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _failed(problems: list[str], exit_code: int) -> int:
    for problem in problems:
        print(f"sp-proxy: {problem}", file=sys.stderr)
    return exit_code
