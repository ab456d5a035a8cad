"""The result of a trial, for people and for programs (pure)."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from sp_proxy.terminal import safe
from sp_proxy.trial.trial import Group, Result


def as_json(result: Result) -> dict[str, Any]:
    """For programs."""
    return {
        "looked_at": result.looked_at,
        "stay": result.stay,
        "no_longer_captured": _plain(result.lost.values()),
        "cannot_be_told": _plain(result.unknown.values()),
        "redacted": _plain(result.redacted.values()),
        "rules_without_a_decision": result.unused,
        "unreadable": result.unreadable,
        "opens": result.opens,
        "differs": result.differs,
    }


def table(result: Result) -> Table:
    """For people: what, how many, why, and one of them."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("exchanges", justify="right")
    made.add_column("would", no_wrap=True)
    made.add_column("why")
    made.add_column("for example", overflow="fold")
    made.add_row(str(result.stay), Text("stay", style="green"), "", "")
    for groups, what, style in (
        (result.lost, "be lost", "bold red"),
        (result.unknown, "not be told", "yellow"),
        (result.redacted, "be redacted", "cyan"),
    ):
        for group in sorted(groups.values(), key=lambda group: -group.count):
            made.add_row(str(group.count), Text(what, style=style), Text(group.reason), Text(safe(group.example)))
    return made


def lines(result: Result) -> Iterator[str]:
    """What the table does not say."""
    for opening in result.opens or ():
        yield f"cannot be known, as it was not captured: {opening}"
    if not result.looked_at:
        yield "nothing was captured that could be looked at"
        return
    if result.unused:
        yield f"decided about nothing here: {', '.join(result.unused)}: never asked, or not captured until now"
    if result.opens is None:
        yield "what the configuration in force leaves out was not captured: what would be now cannot be known (--current)"
    if result.unreadable:
        yield f"{result.unreadable} lines of the backend could not be read"
    lost = sum(group.count for group in result.lost.values())
    exchanges = f"{result.looked_at} exchange{'' if result.looked_at == 1 else 's'}"
    yield (
        f"{exchanges}: {result.stay} stay, {lost} would no longer be captured"
        if result.lost or result.redacted
        else f"{exchanges}: no difference{' to what was captured' if result.opens else ''}"
    )


def _plain(groups: Iterable[Group]) -> list[dict[str, Any]]:
    ordered = sorted(groups, key=lambda group: (-group.count, group.reason))
    return [{"reason": group.reason, "count": group.count, "example": group.example} for group in ordered]
