"""The whole of ``apply``, ``remove`` and ``verify``: what each reads, decides and runs, in this order, for the command line.

Everything is decided before anything is run: a ``Prepared`` has the commands, and printing it is the dry run.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from sp_proxy.netfilter import system
from sp_proxy.netfilter.plan import Command, counters, differences, plan_apply, plan_remove
from sp_proxy.netfilter.rules import Family, Ruleset
from sp_proxy.netfilter.standalone import standalone_rules
from sp_proxy.netfilter.verify import Result, Verdict, run_probes
from sp_proxy.settings.model import SettingsModel


@dataclass(frozen=True, slots=True)
class Prepared:
    """Commands that are ready to run, and what to say when they have run."""

    commands: tuple[Command, ...]
    writer: str
    done: str
    tools: system.Tools

    def __str__(self) -> str:
        """Exactly what runs, as a shell takes it."""
        return "".join(f"{command}\n" for command in self.commands)

    def run(self) -> str:
        """Changes the kernel's rules; gives the line to say. Raises ``NetfilterError``."""
        system.apply(self.commands, self.writer, self.tools)
        return self.done


def rules_of(settings: SettingsModel) -> Ruleset:
    """The rules that the settings ask for. Raises ``NetfilterError``."""
    return standalone_rules(settings, system.user_id)


def prepare_apply(settings: SettingsModel, writer: str | None) -> Prepared:
    """Replaces whatever is there by the rules of the settings. ``writer`` is over the settings' own."""
    ruleset = rules_of(settings)
    system.require_net_admin()
    tools = system.find_tools()
    chosen = system.choose_writer(writer or settings.netfilter.writer, tools, ruleset)
    families = _families(settings)
    commands = plan_apply(ruleset, chosen, system.read_state(tools, chosen, families), families)
    return Prepared(commands, chosen, f"applied {_count(ruleset)} with {chosen}, mode {ruleset.mode}", tools)


def prepare_remove() -> Prepared:
    """Removes all that is ours, whoever wrote it."""
    system.require_net_admin()
    tools = system.find_tools()
    state = system.read_state(tools)
    writers = ", ".join(state.writers())
    done = f"removed what {writers} had written" if writers else "nothing to remove"
    return Prepared(plan_remove(state), writers, done, tools)


def verify(settings: SettingsModel, writer: str | None) -> Iterator[Result]:
    """Compares the rules in the kernel, and if they are right sends probes. One result each. Raises ``NetfilterError``."""
    ruleset = rules_of(settings)
    system.require_net_admin()
    tools = system.find_tools()
    wanted = writer or settings.netfilter.writer
    expected = wanted if wanted == "auto" else system.choose_writer(wanted, tools, ruleset)
    families = _families(settings)
    state = system.read_state(tools)
    problems = differences(ruleset, expected, state, families)
    if problems:
        yield from (Result(Verdict.FAIL, f"rules     {problem}") for problem in problems)
        return
    found = f"rules     {_count(ruleset)} in the kernel, written by {state.writers()[0]}, as the settings say"
    yield Result(Verdict.OK, found)
    probed = tuple(family for family in system.addressed_families() if family in families)
    yield from run_probes(ruleset, probed, os.geteuid(), lambda: counters(ruleset, system.read_state(tools)))


def _families(settings: SettingsModel) -> tuple[Family, ...]:
    return system.kernel_families() if settings.netfilter.ipv6 else (4,)


def _count(ruleset: Ruleset) -> str:
    return f"{len(ruleset.rules)} rules"
