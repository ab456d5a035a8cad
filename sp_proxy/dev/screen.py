"""What people see of a run: values in, rich renderables out. Captured text is shown as text, whatever is in it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sp_proxy.dev.calls import OUTSIDE, Exchanges, Node, tree
from sp_proxy.terminal import safe

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
MAX_TREE = 14


class Row(Struct, frozen=True):
    """A service in the table."""

    name: str
    port: int | None
    state: str


def log_line(name: str, line: str, width: int) -> Text:
    """A line of a service's output; its own colours stay, and nothing else that instructs a terminal."""
    colour = _COLOURS[hashlib.sha256(name.encode()).digest()[0] % len(_COLOURS)]
    text = Text.from_ansi(line.replace("\t", "    "))
    text.plain = "".join(each for each in text.plain if each.isprintable())
    return Text.assemble((f"{name:{width}} | ", colour), text)


def live_view(rows: Sequence[Row], exchanges: Exchanges, url: str, *, ending: bool) -> RenderableType:
    """What stands below the services' output."""
    hint = "ending" if ending else "Ctrl-C ends all"
    footer = Text.assemble("dashboard ", (url, "bold underline"), f"   {hint}")
    lines = tree_lines(exchanges, [row.name for row in rows])
    shown = lines[:MAX_TREE]
    if len(lines) > MAX_TREE:
        shown.append(Text(f"and {len(lines) - MAX_TREE} more", style="dim"))
    return Group(Text(""), services_table(rows, exchanges), *([Text("")] if shown else []), *shown, Text(""), footer)


def services_table(rows: Iterable[Row], exchanges: Exchanges) -> Table:
    """A line for each service."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("service", no_wrap=True)
    for column in ("port", "in", "out", "failed"):
        table.add_column(column, justify="right", min_width=5)
    table.add_column("state", no_wrap=True)
    for row in rows:
        inbound, outbound, failed = exchanges.of(row.name)
        table.add_row(
            row.name,
            str(row.port or "-"),
            str(inbound),
            str(outbound),
            Text(str(failed), style="bold red" if failed else ""),
            Text(row.state, style=_state_style(row.state)),
        )
    return table


def tree_lines(exchanges: Exchanges, services: Iterable[str]) -> list[Text]:
    """Who called whom."""
    return [_node(node) for node in tree(exchanges.calls(frozenset(services)))]


def _node(node: Node) -> Text:
    call = node.call
    name = safe(call.target or "?")
    text = Text("  " * node.depth + ("-> " if call.source != OUTSIDE else ""))
    text.append(name, style="bold" if call.service else "")
    if call.requests:
        text.append(f"  {call.requests} request{'s' if call.requests != 1 else ''}")
        text.append(f", {call.errors} failed" if call.errors else "", style="bold red")
        text.append(f", {call.mean_ms:.1f} ms", style="dim")
    if node.again:
        text.append("  (above)", style="dim")
    return text


def exchange_line(exchange: Mapping[str, Any]) -> Text:
    """One exchange."""
    status = int(exchange["status"])
    style = "red" if exchange["failed"] or not status else "yellow" if status >= 400 else "green"
    way = "<-" if exchange["direction"] == "inbound" else "->"
    start = datetime.fromtimestamp(int(exchange["start_unix_ns"]) / 1e9, UTC).astimezone()
    return Text.assemble(
        (f"{start:%H:%M:%S} ", "dim"),
        (f"{status or 'none':>4} ", style),
        (f"{safe(exchange['service'])} {way} ", "cyan"),
        f"{safe(exchange['method'])} {safe(exchange['scheme'])}://{safe(exchange['host'])}{safe(exchange['path'])}",
        (f"  {int(exchange['duration_ns']) / 1e6:.1f} ms", "dim"),
    )


def totals(exchanges: Exchanges, services: Iterable[str]) -> str:
    """The end, in a line."""
    numbers = [exchanges.of(name) for name in services]
    inbound, outbound, failed = (sum(each[index] for each in numbers) for index in range(3))
    forgotten = f" (the last {len(exchanges)}; {exchanges.forgotten} before)" if exchanges.forgotten else ""
    plural = "" if len(exchanges) == 1 else "s"
    return f"captured {len(exchanges)} exchange{plural}: {inbound} inbound, {outbound} outbound, {failed} failed{forgotten}"


def mocked(stats: Mapping[str, Any]) -> str:
    """What came of ``--mock``, in a line; the backend's counts."""
    given, missing = stats["stored_answers_given"], stats["stored_answers_missing"]
    return f"mock: {given} answered from what was captured, {missing} without an answer there went on"


def _state_style(state: str) -> str:
    if state in {"up", "running", "ended (0)"}:
        return "green"
    return "yellow" if state == "starting" else "bold red"
