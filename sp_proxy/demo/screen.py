"""What people see: the live table, the counts at the end, and one trace as a tree. Values in, rich renderables out."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from sp_proxy.demo.counts import Books
from sp_proxy.demo.shop.report import CUSTOMERS


def live_view(books: Books, recent: list[dict[str, Any]], url: str, *, ending: bool) -> RenderableType:
    """The whole of the live display."""
    hint = "ending: what is under way is delivered" if ending else "Ctrl-C ends the demo"
    footer = Text.assemble("dashboard ", (url, "bold underline"), f"   {hint}")
    return Group(counts_table(books), Text(""), recent_table(recent), Text(""), footer)


def counts_table(books: Books) -> Table:
    """A line for each daemon: what passed it, what became of it."""
    table = Table(title="Daemons", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("service")
    for column in ("requests in", "requests out", "captured", "accepted", "dropped"):
        table.add_column(column, justify="right", min_width=9)
    for service, counts in books.daemons.items():
        incoming = sum(number for (_, to), number in books.sent.items() if to == service)
        outgoing = sum(number for (source, _), number in books.sent.items() if source == service)
        table.add_row(
            service,
            str(incoming),
            str(outgoing),
            str(counts.captured),
            str(counts.accepted),
            Text(str(counts.dropped), style="bold red" if counts.dropped else ""),
        )
    return table


def recent_table(recent: list[dict[str, Any]]) -> Table:
    """The latest exchanges, as the backend's API has them."""
    # What was captured is shown as Text: a string would be read as markup.
    table = Table(title="Latest exchanges", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("time", "service", "direction", "request", "status", "ms", "session"):
        table.add_column(column, justify="right" if column in {"status", "ms"} else "left", no_wrap=True)
    for exchange in recent:
        table.add_row(
            _clock(exchange["start_unix_ns"]),
            Text(exchange["service"]),
            exchange["direction"],
            Text(f"{exchange['method']} {exchange['host']}{exchange['path']}"),
            _status(exchange["status"]),
            f"{exchange['duration_ns'] / 1e6:.1f}",
            Text(exchange["session_id"]),
        )
    return table


def one_line(books: Books) -> str:
    """The counts, for a log."""
    total = books.total
    return (
        f"sent {books.requests}, captured {total.captured}, accepted {total.accepted},"
        f" dropped {total.dropped}, stored {books.stored}"
    )


def totals(books: Books) -> str:
    """The counts that must agree, a line each."""
    by_customers = sum(number for (source, _), number in books.sent.items() if source == CUSTOMERS)
    total = books.total
    lines = [
        ("sent", books.requests, f"requests: {by_customers} by customers, {books.requests - by_customers} by services"),
        ("expected", books.expected_total, "exchanges: a request between services has an outbound and an inbound half"),
        ("captured", total.captured, "by the daemons"),
        ("accepted", total.accepted, "by the backend, say the daemons"),
        ("dropped", total.dropped, "or rejected"),
        ("stored", books.stored, "in the backend, says the backend"),
    ]
    return "\n".join(f"{name:9} {number:7}  {meaning}" for name, number, meaning in lines)


def trace_tree(trace: dict[str, Any]) -> Tree:
    """One trace, as the backend's API has it."""
    tree = Tree(f"trace {trace['trace_id']}", guide_style="dim")
    _grow(tree, trace["roots"])
    return tree


def _grow(tree: Tree, nodes: list[dict[str, Any]]) -> None:
    for node in nodes:
        exchange = node["span"]["exchange"]
        if exchange is None:
            label = Text(f"{node['span']['service']}  {node['span']['name']}")
        else:
            label = Text.assemble(
                (f"{exchange['service']} {exchange['direction']}", "bold"),
                f"  {exchange['method']} {exchange['path']}  ",
                _status(exchange["status"]),
                f"  {exchange['duration_ns'] / 1e6:.1f} ms",
            )
        _grow(tree.add(label), node["children"])


def _status(status: int) -> Text:
    style = "red" if status == 0 or status >= 500 else "yellow" if status >= 400 else "green"
    return Text(str(status) if status else "none", style=style)


def _clock(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).astimezone().strftime("%H:%M:%S")
