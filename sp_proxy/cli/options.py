"""What the subcommands which take settings have in common: ``--config``, ``--set``, and how problems are told."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from sp_proxy.settings.load import Loaded
    from sp_proxy.settings.source import Source

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


def duration_or_exit(option: str, text: str) -> float:
    """Seconds, of an option's value. A wrong one ends the program as a wrong command line does."""
    from sp_proxy.settings.types import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"found {text!r}; allowed: {error}", param_hint=option) from None


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
    source = source_or_exit(config, assignments, flags, environ=environ)
    return read_or_exit(source, sends=sends, warning=warning)


def source_or_exit(
    config: Path | None,
    assignments: Iterable[str] | None = None,
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> "Source":
    """Where the settings of this command line come from, for who wants to read them more than once. Arguments as those of
    ``load_or_exit``.
    """
    from sp_proxy.settings.errors import SettingsError
    from sp_proxy.settings.flags import parse_assignments
    from sp_proxy.settings.source import Source

    try:
        named = parse_assignments(assignments or ())
    except SettingsError as error:
        _exit_with(error.problems)
    return Source(config, os.environ if environ is None else environ, {**(flags or {}), **named})


def read_or_exit(source: "Source", *, sends: bool = True, warning: Callable[[str], None] = warn) -> "Loaded":
    """The settings, or their problems and the end, as ``load_or_exit`` has it."""
    from sp_proxy.settings.errors import SettingsError

    try:
        loaded = source.load(sends=sends)
    except SettingsError as error:
        _exit_with(error.problems)
    for line in loaded.warnings:
        warning(line)
    return loaded


def _exit_with(problems: Iterable[str]) -> NoReturn:
    for problem in problems:
        say(problem)
    raise typer.Exit(WRONG_SETTINGS) from None
