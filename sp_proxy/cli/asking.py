"""What the subcommands that ask a backend have in common: whom they ask, and how an exchange looks on one line.

Captured content goes to a terminal here, as ``terminal.safe`` writes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.options import WRONG_SETTINGS, load_or_exit, say
from sp_proxy.terminal import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from sp_proxy.backend.client import Client

FAILED = 1
_LONGEST = len("upstream_unreachable")
"""Characters of an error that are shown: all of ours. What others send may be of any length."""
UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The backend; by default the one at backend.listen of the settings."),
]
FilterArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILTER]...", help="A query, for example: 'service:orders status>=500' (docs/backend.md)."),
]


@contextmanager
def asking(url: str | None, config: Path | None, assignments: list[str] | None) -> Iterator["Client"]:
    """A client of the backend; what goes wrong with it ends the program with one line: 2 for a wrong query, else 1."""
    settings = load_or_exit(config, assignments, sends=False).settings.backend

    from sp_proxy.backend.client import AskError, Client
    from sp_proxy.settings.types import Address

    if url is None:
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.listen.host, settings.listen.host)
        url = f"http://{Address(host, settings.listen.port)}"
    elif not url.startswith(("http://", "https://")):
        say(f"--url: found {safe(url)!r}; allowed: http:// or https:// and a host")
        raise typer.Exit(WRONG_SETTINGS)
    try:
        with Client(url.rstrip("/"), settings.token.get_secret_value()) as client:
            yield client
    except AskError as error:
        say(str(error))
        raise typer.Exit(WRONG_SETTINGS if error.mistake else FAILED) from None


def joined(words: list[str] | None) -> str:
    """The query of a command line: its words need no quotes but the shell's."""
    return " ".join(words or ())


def console(*, errors: bool = False) -> "Console":
    """Colours where a person looks; NO_COLOR and pipes have none."""
    from rich.console import Console

    return Console(stderr=errors, highlight=False, markup=False, emoji=False, soft_wrap=True)


def exchange_line(exchange: dict[str, Any]) -> "Text":
    """One exchange on one line."""
    from rich.text import Text

    status = str(exchange["status"] or exchange["error"] or "none")
    ways = {"inbound": "<-", "outbound": "->"}
    peer = f" {safe(exchange['peer'])}" if exchange["peer"] else ""
    took = "goes on" if exchange["partial"] else duration(exchange["duration_ns"])
    return Text.assemble(
        (moment(exchange["start_unix_ns"]), "dim"),
        " ",
        (f"{safe(status)[:_LONGEST]:>4}", status_style(exchange)),
        f" {safe(exchange['method']):<6} ",
        (f"{safe(exchange['service'])} {ways.get(exchange['direction'], '--')}{peer}", "cyan"),
        " ",
        (safe(exchange["host"]), "dim"),
        safe(exchange["path"]),
        (f"  {took}  {size(exchange['response_size'])}", "dim"),
    )


def status_style(exchange: dict[str, Any]) -> str:
    """The colour of a status."""
    status = exchange["status"]
    if exchange["failed"] or status >= 500 or not status:
        return "bold red"
    return "yellow" if status >= 400 else "green" if status >= 200 else ""


def moment(unix_ns: int) -> str:
    """A time of day on this machine's clock, with milliseconds."""
    try:
        second = datetime.fromtimestamp(unix_ns // 1_000_000_000).astimezone()
    except (OverflowError, ValueError, OSError):
        return f"{unix_ns}ns"
    return f"{second:%H:%M:%S}.{unix_ns // 1_000_000 % 1000:03}"


def duration(nanoseconds: int) -> str:
    """A duration with three digits that matter."""
    for unit, length in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1000)):
        if nanoseconds >= length:
            return (
                f"{nanoseconds / length:.3g}{unit}" if nanoseconds < 1000 * length else f"{nanoseconds // length}{unit}"
            )
    return f"{nanoseconds}ns"


def size(count: int) -> str:
    """Bytes, in short."""
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:.1f}{unit}"
    return f"{count}B"
