"""``sp-proxy tail``: exchanges as they come."""

import json
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.asking import FilterArgument, UrlOption, asking, console, exchange_line, joined
from sp_proxy.cli.options import ConfigOption, SetOption, say

if TYPE_CHECKING:
    from sp_proxy.backend.client import Client

RETRY_SECONDS = 1.0
REMEMBERED = 2000
"""Exchanges shown at the beginning or after an interruption, which may come a second time."""


def tail(
    words: FilterArgument = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin with so many that there are.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Print exchanges as the backend gets them, one a line, until Ctrl-C. When the backend goes, wait for it.

    Exit codes: 1 when nobody answers at the start, 2 for a wrong query, 130 after Ctrl-C.
    """
    with asking(url, config, assignments) as client:
        _follow(client, joined(words), lines, as_json=as_json)


def _follow(client: "Client", query: str, lines: int, *, as_json: bool) -> None:
    from sp_proxy.backend.client import AskError

    out = console()
    shown: deque[tuple[str, str, bool]] = deque(maxlen=REMEMBERED)
    begun = lost = False

    def show(exchange: dict[str, Any]) -> None:
        identity = (exchange["trace_id"], exchange["span_id"], exchange["partial"])
        if identity in shown:
            return
        if as_json:
            print(json.dumps(exchange), flush=True)
        else:
            out.print(exchange_line(exchange))

    while True:
        try:
            with client.live(query) as events:
                if lost:
                    say("the backend is back")
                    lost = False
                # Asked for when the stream is open: what comes between is in both, and shown once.
                if not begun:
                    for exchange in reversed(list(client.exchanges(query, lines))):
                        show(exchange)
                        shown.append((exchange["trace_id"], exchange["span_id"], exchange["partial"]))
                    begun = True
                for event in events:
                    if event.name == "exchange":
                        show(event.data)
                    elif event.name == "dropped":
                        say(f"{event.data['count']} exchanges came faster than they could be shown")
        except AskError as error:
            if error.mistake or not begun:
                raise
            if not lost:
                say(str(error))
        if not lost:
            say("waiting for the backend")
            lost = True
        time.sleep(RETRY_SECONDS)
