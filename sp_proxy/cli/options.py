"""What the subcommands which take settings have in common: ``--config``, ``--set``, and how problems are told."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sp_proxy.settings.load import Loaded

WRONG_SETTINGS = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML or JSON: settings, or WasmPlugin manifests."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, for example listen.inbound=17006. Can be repeated."),
]


def say(line: str) -> None:
    """One line for a person, on standard error."""
    print(f"sp-proxy: {line}", file=sys.stderr)


def warn(line: str) -> None:
    """One warning for a person, on standard error."""
    say(f"warning: {line}")


def load_or_exit(
    config: Path | None,
    assignments: Iterable[str] | None = None,
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    sends: bool = True,
    warning: Callable[[str], None] = warn,
) -> "Loaded":
    """The settings for this command line. Problems go to standard error, one a line, and end the program with 2.

    ``assignments`` are the arguments of ``--set``; ``flags`` are other flags that stand for settings, by dotted key,
    as ``sp_proxy.settings.flags.Flag`` to be called by their own name, and weaker than ``--set``. ``sends=False`` is for
    subcommands that upload nothing, so need no ``public_key``. ``environ`` is the process's own by default.
    """
    from sp_proxy.settings.errors import SettingsError
    from sp_proxy.settings.flags import parse_assignments
    from sp_proxy.settings.load import load

    try:
        named = parse_assignments(assignments or ())
        loaded = load(config, os.environ if environ is None else environ, {**(flags or {}), **named}, sends=sends)
    except SettingsError as error:
        for problem in error.problems:
            say(problem)
        raise typer.Exit(WRONG_SETTINGS) from None
    for line in loaded.warnings:
        warning(line)
    return loaded
