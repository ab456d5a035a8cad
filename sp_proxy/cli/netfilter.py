"""``sp-proxy netfilter``: show, apply, remove and verify the redirect rules of this host or pod."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sp_proxy.netfilter import iptables, nft
from sp_proxy.netfilter.plan import counters, differences, plan_apply, plan_remove
from sp_proxy.netfilter.rules import Family, NetfilterError, describe
from sp_proxy.netfilter.standalone import standalone_rules
from sp_proxy.netfilter.system import (
    apply as run_plan,
)
from sp_proxy.netfilter.system import (
    choose_writer,
    find_tools,
    kernel_families,
    read_state,
    require_net_admin,
    user_id,
)
from sp_proxy.netfilter.verify import Verdict, run_probes
from sp_proxy.settings.flags import Flag, parse_assignments
from sp_proxy.settings.load import SettingsError, load
from sp_proxy.settings.model import SettingsModel

app = typer.Typer(help="Redirect rules of the kernel: show, apply, remove, verify.", no_args_is_help=True)


class WriterName(StrEnum):
    """``--writer``."""

    AUTO = "auto"
    NFT = "nft"
    IPTABLES = "iptables"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"


class Form(StrEnum):
    """``--format``."""

    TEXT = "text"
    NFT = "nft"
    IPTABLES = "iptables"
    IP6TABLES = "ip6tables"


Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file.", metavar="FILE")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting, over the file's.", metavar="KEY=VALUE")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print exactly what would run, as a shell takes it.")]
Writer = Annotated[WriterName | None, typer.Option("--writer", help="Which tool to use.")]


@app.command()
def show(
    config: Config = None,
    assignments: Set = None,
    form: Annotated[Form, typer.Option("--format", help="For people, or for nft -f and iptables-restore.")] = Form.TEXT,
) -> None:
    """Print the rules which the settings ask for. Reads and changes nothing of the kernel."""
    with _one_line_errors():
        settings = _settings(config, assignments)
        ruleset = standalone_rules(settings, user_id)
        match form:
            case Form.TEXT:
                print(describe(ruleset), end="")
            case Form.NFT:
                print(nft.render(ruleset), end="")
            case Form.IPTABLES:
                print(iptables.render(ruleset, 4), end="")
            case Form.IP6TABLES:
                print(iptables.render(ruleset, 6) if settings.netfilter.ipv6 else "", end="")


@app.command()
def apply(config: Config = None, assignments: Set = None, writer: Writer = None, dry_run: DryRun = False) -> None:
    """Write the rules; replace whatever sp-proxy has written before, with this tool or another."""
    with _one_line_errors():
        settings = _settings(config, assignments)
        ruleset = standalone_rules(settings, user_id)
        require_net_admin()
        tools = find_tools()
        chosen = choose_writer(writer or settings.netfilter.writer, tools, ruleset)
        commands = plan_apply(ruleset, chosen, read_state(tools, chosen), _families(settings))
        if dry_run:
            print("\n".join(map(str, commands)))
            return
        run_plan(commands, chosen, tools)
        print(f"applied {len(ruleset.rules)} rules with {chosen} (mode {ruleset.mode})")


@app.command()
def remove(dry_run: DryRun = False) -> None:
    """Remove every rule of sp-proxy, whichever tool wrote it. Fine if there is none."""
    with _one_line_errors():
        require_net_admin()
        tools = find_tools()
        state = read_state(tools)
        commands = plan_remove(state)
        if dry_run:
            print("\n".join(map(str, commands)), end="\n" if commands else "")
            return
        run_plan(commands, "", tools)
        print(f"removed the rules written by {', '.join(state.writers())}" if commands else "nothing to remove")


@app.command()
def verify(config: Config = None, assignments: Set = None, writer: Writer = None) -> None:
    """Compare the kernel's rules with the settings, then try real connections. Exit code 1 if anything is not right."""
    with _one_line_errors():
        settings = _settings(config, assignments)
        ruleset = standalone_rules(settings, user_id)
        require_net_admin()
        tools = find_tools()
        wanted = str(writer or settings.netfilter.writer)
        expected = wanted if wanted == "auto" else choose_writer(wanted, tools, ruleset)
        families = _families(settings)
        state = read_state(tools)
        problems = differences(ruleset, expected, state, families)
        for problem in problems:
            print(f"FAIL  rules: {problem}")
        if problems:
            raise typer.Exit(1)
        print(f"ok    rules: {len(ruleset.rules)} in the kernel, written by {state.writers()[0]}, as the settings say")
        results = run_probes(ruleset, families, os.geteuid(), lambda: counters(ruleset, read_state(tools)))
        failed = False
        for result in results:
            print(result, flush=True)
            failed = failed or result.verdict is Verdict.FAIL
        if failed:
            raise typer.Exit(1)


def _families(settings: SettingsModel) -> tuple[Family, ...]:
    return kernel_families() if settings.netfilter.ipv6 else (4,)


def _settings(config: Path | None, assignments: list[str] | None) -> SettingsModel:
    """The settings, without asking for the tenant's key: an init container that writes rules uploads nothing."""
    elsewhere = {"sp_backend_url": Flag("netfilter", "http://127.0.0.1")}
    return load(config, os.environ, {**parse_assignments(assignments or []), **elsewhere}).settings


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Errors that a person can do something about: to standard error, without a traceback."""
    try:
        yield
    except SettingsError as error:
        for problem in error.problems:
            typer.echo(f"sp-proxy: {problem}", err=True)
        raise typer.Exit(2) from None
    except NetfilterError as error:
        typer.echo(f"sp-proxy: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
