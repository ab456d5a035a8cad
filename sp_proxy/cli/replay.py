"""``sp-proxy replay``: captured requests sent again, and their answers compared with the recorded ones."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sp_proxy.cli.asking import FilterArgument, UrlOption, asking, console, joined
from sp_proxy.cli.options import WRONG_SETTINGS, ConfigOption, SetOption, load_or_exit, say
from sp_proxy.terminal import safe

if TYPE_CHECKING:
    from sp_proxy.core.redaction import Redaction
    from sp_proxy.replay.recorded import Recorded
    from sp_proxy.replay.rules import File, RuleBook
    from sp_proxy.replay.run import Outcome, Report

COULD_NOT = 2
_PLAIN_WIDTH = 160
"""Columns where there is no terminal to ask."""
_ROWS = 200
"""Lines of the table: the files have all of them."""


def replay(
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="Where they are sent: scheme, host, path before theirs.")
    ],
    words: FilterArgument = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.001, max=1e6, metavar="N", help="N times as fast as recorded.")
    ] = 1.0,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as possible, whatever was recorded.")] = False,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=1024, help="Requests on their way at a time.")
    ] = 8,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for one answer.")] = 30.0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most: the newest.")] = 1000,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Send methods other than GET, HEAD and OPTIONS too.")
    ] = False,
    set_header: Annotated[
        list[str] | None, typer.Option("--set-header", metavar="NAME: VALUE", help="A field of every request.")
    ] = None,
    drop_header: Annotated[
        list[str] | None, typer.Option("--drop-header", metavar="NAME", help="A field that is not sent.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="PLACE=SOURCE",
            help="For what was redacted: header:NAME, query:NAME, form:NAME or json:PATH = env:NAME or file:PATH.",
        ),
    ] = None,
    keep_host: Annotated[bool, typer.Option("--keep-host", help="Send the recorded Host.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate.")] = False,
    rules: Annotated[
        Path | None, typer.Option("--rules", metavar="FILE", help="What counts as a difference, TOML or YAML.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="PATH", help="A JSON path that may differ.")
    ] = None,
    any_order: Annotated[
        list[str] | None, typer.Option("--any-order", metavar="PATH", help="An array whose order says nothing.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", min=0.0, help="So far numbers may be apart, as a part of them.")
    ] = None,
    compare_header: Annotated[
        list[str] | None, typer.Option("--compare-header", metavar="NAME", help="A field to compare, too.")
    ] = None,
    carry: Annotated[
        list[str] | None,
        typer.Option("--carry", metavar="PATH", help="A value made anew each time, which later requests name."),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page.")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Send captured requests again and compare the answers with the recorded ones (docs/replay.md).

    Exit codes: 0 no difference, 1 differences, 2 it could not be done (nobody answers, nothing to send, a wrong option).
    """
    from functools import partial

    import trio

    from sp_proxy.replay import prepare
    from sp_proxy.replay.junit import junit as junit_of
    from sp_proxy.replay.page import page
    from sp_proxy.replay.problems import ReplayError
    from sp_proxy.replay.rules import File, read_file, with_options
    from sp_proxy.replay.run import Options
    from sp_proxy.replay.run import replay as run
    from sp_proxy.replay.secrets import parse

    try:
        changes = prepare.changes(
            to,
            unsafe=unsafe,
            keep_host=keep_host,
            drop=tuple(drop_header or ()),
            set_fields=tuple(set_header or ()),
            secrets=parse(secret or (), os.environ),
        )
        file = with_options(
            read_file(rules) if rules else File(),
            ignore=tuple(ignore or ()),
            headers=tuple(compare_header or ()),
            unordered=tuple(any_order or ()),
            carry=tuple(carry or ()),
            tolerance=tolerance,
        )
        book, redaction = book_of(file, config, assignments)
    except ReplayError as error:
        say(str(error))
        raise typer.Exit(WRONG_SETTINGS) from None
    found = recorded_of(joined(words), limit, url, config, assignments)
    if not found:
        say("nothing was captured that fits")
        raise typer.Exit(COULD_NOT)
    _warn_of_mixture(found)
    options = Options(None if fast else speed, concurrency, timeout, not insecure)
    with _progress(len(found)) as advance:
        report = trio.run(partial(run, found, changes, book, options, redaction=redaction, on_outcome=advance))
    _print(report)
    for path, text in ((junit, junit_of), (html, lambda each: page(each).encode())):
        if path is not None:
            _write(path, text(report))
    raise typer.Exit(report.exit_code)


def book_of(file: "File", config: Path | None, assignments: list[str] | None) -> tuple["RuleBook", "Redaction"]:
    """The rules, and what redacts the new answers: the settings' redaction. Raises ReplayError."""
    import msgspec

    from sp_proxy import regex
    from sp_proxy.core.redact.redactor import Redactor
    from sp_proxy.replay.rules import RuleBook
    from sp_proxy.settings.project import redaction_config

    redaction = redaction_config(load_or_exit(config, assignments, sends=False, warning=lambda _: None).settings)
    replacements = (redaction.replacement, *(rule.replacement for rule in redaction.rules))
    file = msgspec.structs.replace(file, placeholders=file.placeholders + replacements)
    return RuleBook(file), Redactor(redaction, regex)


def recorded_of(
    query: str, limit: int, url: str | None, config: Path | None, assignments: list[str] | None
) -> list["Recorded"]:
    """What the backend has that fits, newest first. Whatever goes wrong ends the program with COULD_NOT."""
    import json

    from sp_proxy.replay.recorded import read

    found: list[Recorded] = []
    rest = b""

    def take(data: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + data).split(b"\n")
        found.extend(read(json.loads(line)) for line in lines)

    try:
        with asking(url, config, assignments) as client:
            client.download("jsonl", query, take, limit + 1)
    except typer.Exit:
        raise typer.Exit(COULD_NOT) from None
    if len(found) > limit:
        say(f"warning: there are more than {limit}: the newest are taken (--limit)")
    return found[:limit]


def _warn_of_mixture(found: list["Recorded"]) -> None:
    kinds = sorted({(each.service, each.direction) for each in found})
    if len(kinds) > 1:
        shown = ", ".join(f"{safe(service)} {direction}" for service, direction in kinds[:4])
        say(f"warning: all go to the same place, but they are of several ({shown}{', …' if len(kinds) > 4 else ''})")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[object], None]]:
    """A bar where a person looks."""
    out = console(errors=True)
    if not out.is_terminal:
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=out, transient=True) as progress:
        task = progress.add_task("replay", total=total)
        yield lambda _: progress.advance(task)


def _print(report: "Report") -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    different = [each for each in report.outcomes if each.differs]
    if different:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("exchange", "request", "where", "recorded", "now"):
            table.add_column(column, overflow="fold", min_width=16 if column == "exchange" else None)
        rows = [(each, row) for each in different for row in _rows(each)]
        for outcome, row in rows[:_ROWS]:
            recorded = outcome.recorded
            request = f"{safe(recorded.method)} {safe(recorded.target)}"
            table.add_row(recorded.span_id, Text(request), *(Text(safe(each)) for each in row))
        if not out.is_terminal:
            out.width = _PLAIN_WIDTH
        out.print(table, soft_wrap=False)
        if len(rows) > _ROWS:
            out.print(f"… and {len(rows) - _ROWS} more (--html, --junit)")
    reasons: dict[str, int] = {}
    for outcome in report.outcomes:
        for line in (outcome.skipped, *(outcome.comparison.notes if outcome.comparison else ())):
            if line:
                reasons[line] = reasons.get(line, 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_ROWS]:
        out.print(Text(f"{count} x {safe(reason)}", "yellow"))
    style = {0: "bold green", 1: "bold red"}.get(report.exit_code, "bold yellow")
    same = report.sent - report.different
    out.print(
        Text(f"{report.sent} sent, {same} as recorded, {report.different} different, {report.skipped} not sent", style)
    )
    if report.sent and not report.reached:
        say(f"nobody answers at {report.to}")


def _rows(outcome: "Outcome") -> list[tuple[str, str, str]]:
    if outcome.comparison is None:
        return [("answer", str(outcome.recorded.status), f"none: {outcome.no_answer}")]
    rows = [(each.place, each.expected, each.found) for each in outcome.comparison.differences]
    return rows + ([("…", "", f"{outcome.comparison.more} more")] if outcome.comparison.more else [])


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except (OSError, ValueError) as error:
        say(f"{path}: {getattr(error, 'strerror', None) or error}")
        raise typer.Exit(COULD_NOT) from None
