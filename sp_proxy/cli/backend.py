"""``sp-proxy backend``: the embedded backend alone, in the foreground; ``sp-proxy backend export``: what it has."""

import signal
import sys
from collections.abc import AsyncIterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.asking import FAILED, FilterArgument, UrlOption, asking, joined
from sp_proxy.cli.options import ConfigOption, SetOption, load_or_exit, say

if TYPE_CHECKING:
    import trio

    from sp_proxy.backend.client import Client
    from sp_proxy.settings.backend import Backend

CANNOT_START = 1


app = typer.Typer(invoke_without_command=True, add_completion=False)


class Format(StrEnum):
    """What an export may be."""

    JSONL = "jsonl"
    HAR = "har"
    OTLP = "otlp"
    CURL = "curl"
    HTTPIE = "httpie"


@app.callback()
def backend(
    context: typer.Context,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="[HOST:]PORT", help="Where to listen: backend.listen.")
    ] = None,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Where to store: backend.database.")
    ] = None,
    daemons: Annotated[
        list[str] | None,
        typer.Option(
            "--daemon",
            metavar="[NAME=]HOST:PORT",
            help="Admin server of a daemon whose health the page shows: backend.daemons. Can be repeated.",
        ),
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Take OTLP traces and logs, keep them in a SQLite file and show them on a page, until Ctrl-C.

    Exit codes: 0 after Ctrl-C or SIGTERM, 1 when it cannot start (an address in use), 2 for wrong settings.
    """
    if context.invoked_subcommand is not None:
        return

    from sp_proxy.settings.flags import Flag

    flags: dict[str, Any] = {}
    if listen is not None:
        flags["backend.listen"] = Flag("--listen", listen)
    if database is not None:
        flags["backend.database"] = Flag("--database", str(database))
    if daemons:
        named = [daemon.rpartition("=") for daemon in daemons]
        flags["backend.daemons"] = Flag("--daemon", [{"name": name, "address": address} for name, _, address in named])
    settings = load_or_exit(config, assignments, flags, sends=False).settings

    import trio

    from sp_proxy import logs

    logs.configure("warning" if settings.log.level == "info" else settings.log.level, settings.log.format)
    raise typer.Exit(trio.run(_serve, settings.backend))


@app.command()
def export(
    words: FilterArgument = None,
    form: Annotated[Format, typer.Option("--format", help="What to write, unless --parquet is given.")] = Format.JSONL,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of printing.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many at most; 0: all.")] = 0,
    url: UrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Write the exchanges that a query asks for to a file, newest first, asked of a running backend.

    Exit codes: 0, 1 when nobody answers or the file cannot be written, 2 for a wrong query.
    """
    target = parquet or output
    try:
        with asking(url, config, assignments) as client:
            if parquet is not None:
                _to_parquet(client, joined(words), parquet, limit)
            elif output is not None:
                with output.open("wb") as file:
                    client.download(form, joined(words), file.write, limit)
            else:
                client.download(form, joined(words), sys.stdout.buffer.write, limit)
                sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        say(f"{target or 'standard output'}: {error.strerror or error}")
        raise typer.Exit(FAILED) from None


def _to_parquet(client: "Client", query: str, path: Path, limit: int) -> None:
    try:
        from sp_proxy.backend.export.parquet import ParquetFile
    except ImportError:
        say("--parquet needs pyarrow: install sp-proxy[parquet]")
        raise typer.Exit(FAILED) from None
    file = ParquetFile(str(path))
    try:
        client.download("jsonl", query, file.feed, limit)
    except BaseException:
        path.unlink(missing_ok=True)  # half of one is no Parquet file
        raise
    file.close()
    say(f"{path}: {file.rows} exchanges")


async def _serve(settings: "Backend") -> int:
    import trio

    from sp_proxy.backend.model import BackendError
    from sp_proxy.backend.serve import database_name, serve

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal, signals, nursery.cancel_scope)
            try:
                url = await nursery.start(partial(serve, settings))
            except BackendError as error:
                say(str(error))
                nursery.cancel_scope.cancel()
                return CANNOT_START
            print(f"sp-proxy backend: {url} (database {database_name(settings)}; Ctrl-C ends it)", flush=True)
    return 0


async def _end_on_signal(signals: AsyncIterator[int], scope: "trio.CancelScope") -> None:
    async for _ in signals:
        scope.cancel()
        return
