"""``sp-proxy mock``: an HTTP server that gives captured answers again, for tests."""

import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sp_proxy.cli.asking import FilterArgument, UrlOption, console, joined
from sp_proxy.cli.options import WRONG_SETTINGS, ConfigOption, SetOption, say
from sp_proxy.cli.replay import COULD_NOT, recorded_of
from sp_proxy.terminal import safe

if TYPE_CHECKING:
    import socket

    from sp_proxy.mock.app import Mock
    from sp_proxy.mock.book import AnswerBook

MISSES = 1
_LISTED = 200


class Latency(StrEnum):
    """When an answer begins."""

    NONE = "none"
    RECORDED = "recorded"


def mock(
    words: FilterArgument = None,
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="Where to listen on 127.0.0.1; 0: a free port.")
    ] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many answers at most: the newest.")] = 10_000,
    rules: Annotated[
        Path | None, typer.Option("--rules", metavar="FILE", help="Which requests are alike, TOML or YAML.")
    ] = None,
    latency: Annotated[
        Latency, typer.Option("--latency", help="Answer at once, or as late as recorded.")
    ] = Latency.NONE,
    fallthrough: Annotated[
        str | None, typer.Option("--fallthrough", metavar="URL", help="Where requests go that are not known.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if any request was not known.")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Give captured answers again to the same requests, until Ctrl-C; then list those that were not known (docs/replay.md).

    Exit codes: 0, 1 with --strict when a request was not known, 2 when it could not be done.
    """
    import trio

    from sp_proxy.mock.app import Mock
    from sp_proxy.mock.book import AnswerBook
    from sp_proxy.mock.rules import File, MatchRules, read_file
    from sp_proxy.replay.prepare import base_of
    from sp_proxy.replay.problems import ReplayError

    try:
        to = base_of("--fallthrough", fallthrough) if fallthrough else ""
        book_rules = MatchRules(read_file(rules) if rules else File())
    except ReplayError as error:
        say(str(error))
        raise typer.Exit(WRONG_SETTINGS) from None
    book = AnswerBook(recorded_of(joined(words), limit, url, config, assignments), book_rules)
    for reason, count in sorted(book.skipped.items()):
        say(f"warning: not used: {count} x {safe(reason)}")
    if not len(book):
        say("nothing was captured that fits and can be given again")
        raise typer.Exit(COULD_NOT)
    sock = _listen(port)
    server = Mock(book, fallthrough=to, as_recorded=latency is Latency.RECORDED)
    answers = f"{len(book)} answer{'' if len(book) == 1 else 's'}"
    print(f"sp-proxy mock: http://127.0.0.1:{sock.getsockname()[1]} ({answers}; Ctrl-C ends it)", flush=True)
    trio.run(_serve, server, sock)
    _report(server, book)
    raise typer.Exit(MISSES if strict and server.account.missed else 0)


def _listen(port: int) -> "socket.socket":
    import os
    import socket

    try:
        sock = socket.create_server(("127.0.0.1", port), backlog=512)
    except OSError as error:
        say(f"--port {port}: {os.strerror(error.errno or 0).lower()}")
        raise typer.Exit(COULD_NOT) from None
    sock.setblocking(False)
    return sock


async def _serve(server: "Mock", sock: "socket.socket") -> None:
    from functools import partial

    import trio

    from sp_proxy.mock.serve import serve

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, server, [sock]))
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


def _report(server: "Mock", book: "AnswerBook") -> None:
    account = server.account
    out = console()
    for (request, reason), count in account.misses.most_common(_LISTED):
        out.print(f"{count} x {safe(request)}: {safe(reason)}")
    if len(account.misses) > _LISTED:
        out.print(f"… and {len(account.misses) - _LISTED} more")
    out.print(
        f"{account.exact} answered, {account.by_rules} by likeness, {account.missed} not known"
        f"{f' ({account.forwarded} went on)' if account.forwarded else ''}, {book.unused} of {len(book)} answers not used"
    )
