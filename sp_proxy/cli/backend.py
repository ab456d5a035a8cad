"""``sp-proxy backend``: the embedded backend alone, in the foreground."""

import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, load_or_exit, say

if TYPE_CHECKING:
    import trio

    from sp_proxy.settings.backend import Backend

CANNOT_START = 1


def backend(
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="[HOST:]PORT", help="Where to listen: backend.listen.")
    ] = None,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Where to store: backend.database.")
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Take OTLP traces, keep them in a SQLite file and show them on a page, until Ctrl-C.

    Exit codes: 0 after Ctrl-C or SIGTERM, 1 when it cannot start (an address in use), 2 for wrong settings.
    """
    from sp_proxy.settings.flags import Flag

    flags: dict[str, Any] = {}
    if listen is not None:
        flags["backend.listen"] = Flag("--listen", listen)
    if database is not None:
        flags["backend.database"] = Flag("--database", str(database))
    settings = load_or_exit(config, assignments, flags, sends=False).settings

    import trio

    from sp_proxy import logs

    logs.configure("warning" if settings.log.level == "info" else settings.log.level, settings.log.format)
    raise typer.Exit(trio.run(_serve, settings.backend))


async def _serve(settings: "Backend") -> int:
    import trio

    from sp_proxy.backend.model import BackendError
    from sp_proxy.backend.serve import serve

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal, signals, nursery.cancel_scope)
            try:
                url = await nursery.start(partial(serve, settings))
            except BackendError as error:
                say(str(error))
                nursery.cancel_scope.cancel()
                return CANNOT_START
            print(f"sp-proxy backend: {url} (database {settings.database}; Ctrl-C ends it)", flush=True)
    return 0


async def _end_on_signal(signals: AsyncIterator[int], scope: "trio.CancelScope") -> None:
    async for _ in signals:
        scope.cancel()
        return
