"""``sp-proxy query``: what the backend has that fits."""

import json
from typing import Annotated

import typer

from sp_proxy.cli.asking import FilterArgument, UrlOption, asking, console, exchange_line, joined
from sp_proxy.cli.options import ConfigOption, SetOption

NOTHING_FOUND = 1


def query(
    words: FilterArgument = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Print the exchanges that a query asks for, newest first, one a line.

    Exit codes: 0 when there are some, 1 when there are none or nobody answers, 2 for a wrong query.
    """
    out = console()
    found = False
    with asking(url, config, assignments) as client:
        for exchange in client.exchanges(joined(words), limit):
            found = True
            if as_json:
                print(json.dumps(exchange))
            else:
                out.print(exchange_line(exchange))
    raise typer.Exit(0 if found else NOTHING_FOUND)
