"""``sp-proxy spool``: the sending queue on disk, for people."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, load_or_exit, say

if TYPE_CHECKING:
    from sp_proxy.core.spool_index import Entry
    from sp_proxy.exporter.spool_tools import SpoolView
    from sp_proxy.settings.load import Loaded

app = typer.Typer(help="Look at the sending queue on disk, check, send or export it.", add_completion=False)

NOT_WELL = 1


@app.command("ls")
def list_entries(config: ConfigOption = None, assignments: SetOption = None) -> None:
    """List the payloads on disk, oldest first, for each exporter. Can be used beside a running daemon."""
    for view in _find(load_or_exit(config, assignments, sends=False)):
        print(_title(view))
        for entry in view.entries:
            print(_line(entry))


@app.command()
def check(config: ConfigOption = None, assignments: SetOption = None) -> None:
    """Verify the checksums of everything on disk. Nothing is changed.

    Exit code 1 when something is damaged. Can be used beside a running daemon.
    """
    from sp_proxy.exporter.spool_tools import contents

    bad = 0
    for view in _find(load_or_exit(config, assignments, sends=False)):
        print(_title(view))
        for entry, found in contents(view):
            if isinstance(found, str):
                bad += 1
                print(f"{_line(entry)}  {found}")
    print(f"{bad} damaged")
    raise typer.Exit(NOT_WELL if bad else 0)


@app.command()
def drain(
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="End after this long; what is left stays.")
    ] = 60.0,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Send what is on disk to its destination, without a daemon. A daemon that runs does so by itself.

    Exit code 0 when nothing is left, 1 when something is, or when a daemon owns the spool.
    """
    import random
    import time
    from functools import partial

    import trio

    from sp_proxy import logs
    from sp_proxy.exporter.spool_tools import find, send

    settings = load_or_exit(config, assignments).settings
    logs.configure(settings.log.level, settings.log.format)
    work = partial(send, settings, os.environ, seconds=timeout, clock=time.time, randomness=random.random)
    try:
        results = trio.run(work)
    except ValueError as error:
        say(str(error))
        raise typer.Exit(NOT_WELL) from None
    except OSError as error:
        say(f"{error.filename}: {error.strerror}")
        raise typer.Exit(NOT_WELL) from None
    well = True
    for result in results:
        well &= not result.held and not result.spool.problem
        dropped = "".join(f", {count} dropped ({reason})" for reason, count in sorted(result.dropped.items()))
        print(f"{result.name}: {result.accepted} accepted, {result.rejected} rejected{dropped}, {result.held} left")
        if result.spool.problem:
            say(f"{result.name}: {result.spool.problem}")
        elif result.held and result.last_error:
            say(f"{result.name}: {result.last_error}")
    others = [view.directory for view in find(settings, os.environ) if view.entries and not view.exporter]
    for directory in others:
        say(f"{directory}: of no exporter in these settings; left as it is")
    if not results and not others:
        say("nothing is on disk")
    raise typer.Exit(0 if well else NOT_WELL)


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; standard output by default.")
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Write what is on disk as OTLP-JSON, one request a line. Nothing is removed.

    Exit code 1 when something is damaged: it is left out, and named on standard error.
    """
    views = _find(load_or_exit(config, assignments, sends=False))
    if output is None:
        sys.stdout.flush()
        bad = _export(views, sys.stdout.fileno())
    else:
        try:
            with output.open("wb") as file:
                bad = _export(views, file.fileno())
        except OSError as error:
            say(f"{output}: {error.strerror}")
            raise typer.Exit(NOT_WELL) from None
    raise typer.Exit(NOT_WELL if bad else 0)


def _export(views: "list[SpoolView]", fd: int) -> int:
    from sp_proxy.exporter.lines import write_all
    from sp_proxy.exporter.otlp_json import json_line
    from sp_proxy.exporter.spool_tools import contents

    bad = 0
    for view in views:
        for entry, found in contents(view):
            if isinstance(found, str):
                bad += 1
                say(f"{view.directory.name}: entry {entry.sequence}: {found}")
            else:
                write_all(fd, json_line(found))
    return bad


def _find(loaded: "Loaded") -> "list[SpoolView]":
    from sp_proxy.exporter.spool_tools import find

    try:
        views = find(loaded.settings, os.environ)
    except OSError as error:
        say(f"{error.filename}: {error.strerror}")
        raise typer.Exit(NOT_WELL) from None
    if not views:
        say("nothing is on disk")
    return views


def _title(view: "SpoolView") -> str:
    records = sum(entry.records for entry in view.entries)
    size = sum(entry.size for entry in view.entries)
    owner = view.exporter or "of no exporter in these settings"
    aside = f", {view.set_aside} damaged files set aside" if view.set_aside else ""
    return f"{view.directory} ({owner}): {len(view.entries)} entries, {records} records, {size} bytes{aside}"


def _line(entry: "Entry") -> str:
    stored = datetime.fromtimestamp(entry.created_unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"  {entry.sequence:8}  {stored}  {entry.records:6} records  {entry.size:9} bytes"
