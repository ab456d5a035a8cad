"""``sp-proxy demo``: see it work."""

from typing import Annotated

import typer

from sp_proxy.cli.options import say

CANNOT_GO_ON = 1
_PLAIN_WIDTH = 120
"""Columns where there is no terminal to ask."""


def demo(
    once: Annotated[
        bool, typer.Option("--once/--keep-running", help="End after the requests, or go on slowly until Ctrl-C.")
    ] = False,
    requests: Annotated[
        int, typer.Option("--requests", min=1, max=1_000_000, metavar="N", help="Requests of the customers.")
    ] = 100,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65535,
            metavar="PORT",
            help="Of the backend and its dashboard; without it 4318, or a free one if that is taken.",
        ),
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward", help="Forwarding mode: no namespaces, no redirect rules, nothing needs root.")
    ] = False,
) -> None:
    """Run a shop of three services, a daemon beside each, and the backend; show what is captured.

    As root on Linux the services live in network namespaces with real redirect rules; nothing of it remains. Exit codes:
    0 if everything sent was captured and accepted, 1 if not or if it could not run, 130 after Ctrl-C before the traffic.
    """
    from rich.console import Console

    from sp_proxy.demo.errors import DemoError
    from sp_proxy.demo.run import Options, run

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    try:
        code = run(Options(requests, once, port, forward), console)
    except DemoError as error:
        say(str(error))
        code = CANNOT_GO_ON
    raise typer.Exit(code)
