"""``sp-proxy netfilter``: show, apply, remove and verify the redirect rules of this host or pod."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Annotated

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, load_or_exit, say

app = typer.Typer(help="Write, apply, verify or remove redirect rules.", add_completion=False)


class Writer(StrEnum):
    """``--writer``: the values of ``netfilter.writer``."""

    AUTO = "auto"
    NFT = "nft"
    IPTABLES = "iptables"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"


class Format(StrEnum):
    """How ``show`` writes."""

    TEXT = "text"
    NFT = "nft"
    IPTABLES = "iptables"
    IP6TABLES = "ip6tables"


FormatOption = Annotated[
    Format,
    typer.Option("--format", help="text for people; nft for nft -f; (ip6)tables for iptables-restore --noflush."),
]
WriterOption = Annotated[Writer | None, typer.Option("--writer", help="The tool to use, over netfilter.writer.")]
CheckOption = Annotated[
    bool,
    typer.Option("--verify/--no-verify", help="Verify afterwards, and put back what was there before if it fails."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print exactly what would run, as a shell takes it.")]


@app.command()
def show(config: ConfigOption = None, assignments: SetOption = None, form: FormatOption = Format.TEXT) -> None:
    """Print the rules which the settings ask for. Looks at nothing in the kernel, and needs no privilege."""
    settings = load_or_exit(config, assignments, sends=False).settings
    from sp_proxy.netfilter import iptables, nft
    from sp_proxy.netfilter.install import rules_of
    from sp_proxy.netfilter.rules import NetfilterError, describe

    with _errors_in_one_line():
        ruleset = rules_of(settings)
        if form in {Format.IPTABLES, Format.IP6TABLES} and (reason := iptables.refuse(ruleset)):
            raise NetfilterError(reason, exit_code=2)
    match form:
        case Format.TEXT:
            text = describe(ruleset)
        case Format.NFT:
            text = nft.render(ruleset)
        case Format.IPTABLES:
            text = iptables.render(ruleset, 4)
        case Format.IP6TABLES:
            text = iptables.render(ruleset, 6) if settings.netfilter.ipv6 else ""
    print(text, end="")


@app.command()
def apply(
    config: ConfigOption = None,
    assignments: SetOption = None,
    writer: WriterOption = None,
    dry_run: DryRunOption = False,
    check: CheckOption = True,
) -> None:
    """Write the rules, in place of whatever sp-proxy has written before, with this tool or another, and try them."""
    settings = load_or_exit(config, assignments, sends=False).settings
    from sp_proxy.netfilter.install import prepare_apply

    with _errors_in_one_line():
        prepared = prepare_apply(settings, writer, check=check)
        with _ended_in_order():
            print(str(prepared) if dry_run else f"{prepared.run()}\n", end="")


@app.command()
def remove(config: ConfigOption = None, assignments: SetOption = None, dry_run: DryRunOption = False) -> None:
    """Remove every rule of sp-proxy, whichever tool wrote it and whatever the settings say. Fine if there is none."""
    del config, assignments  # taken so that the same options go with every command; a broken file must not hinder this
    from sp_proxy.netfilter.install import prepare_remove

    with _errors_in_one_line():
        prepared = prepare_remove()
        print(str(prepared) if dry_run else f"{prepared.run()}\n", end="")


@app.command()
def verify(config: ConfigOption = None, assignments: SetOption = None, writer: WriterOption = None) -> None:
    """Compare the kernel's rules with the settings, then try real connections. Exit code 1 if anything is not right."""
    settings = load_or_exit(config, assignments, sends=False).settings
    from sp_proxy.netfilter.install import verify as results
    from sp_proxy.netfilter.verdict import Verdict

    failed: list[str] = []
    with _errors_in_one_line():
        for result in results(settings, writer):
            print(result, flush=True)
            if result.verdict is Verdict.FAIL:
                failed.append(result.line)
    if not failed:
        return
    if failed[0].startswith("rules ") and "netfilter apply" not in failed[0]:
        say("the rules in the kernel are not those of these settings: sp-proxy netfilter apply writes them")
    raise typer.Exit(1)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """A signal becomes an exception, so that rules which have not been tried to their end are taken back: a terminal that goes
    away (SIGHUP) and a unit that is stopped meanwhile (SIGTERM) would leave them else. One signal: a second changes nothing.
    """

    def end(number: int, _: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        with suppress(OSError):  # the terminal may be gone
            say(f"{signal.Signals(number).name}: taking back what is written and not tried")
        raise SystemExit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():  # of a test: no signal comes to it
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            if before[number] is not signal.SIG_IGN:  # of nohup
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    from sp_proxy.netfilter.rules import NetfilterError

    try:
        yield
    except NetfilterError as error:
        say(str(error))
        raise typer.Exit(error.exit_code) from None
