"""The whole of ``apply``, ``remove`` and ``verify``: what each reads, decides and runs, in this order, for the command line.

Everything is decided before anything is run: a ``Prepared`` has the commands, and printing it is the dry run. What
``apply`` has written it tries with real connections; if they do not go where they should, what was there before is put
back.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sp_proxy.netfilter import system
from sp_proxy.netfilter.egress import egress_rules
from sp_proxy.netfilter.istio import beside_istio_rules
from sp_proxy.netfilter.others import check_istio, check_mode
from sp_proxy.netfilter.plan import Command, State, counters, differences, plan_apply, plan_remove, plan_restore
from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.pulse import Pulse, feel
from sp_proxy.netfilter.rules import Family, NetfilterError, Ruleset
from sp_proxy.netfilter.standalone import standalone_rules
from sp_proxy.netfilter.verdict import Result, Verdict
from sp_proxy.netfilter.verify import Process, run_probes
from sp_proxy.settings.model import SettingsModel

HARMFUL = 3
"""Exit code where connections did not go where they should while the rules were there: not to be tried again unseen."""

type Check = Callable[[], Iterator[Result]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Commands that are ready to run, and what to say when they have run."""

    commands: tuple[Command, ...]
    writer: str
    done: str
    tools: system.Tools
    before: State = field(default=State(), compare=False)
    """What there was of ours."""
    check: Check | None = field(default=None, compare=False)
    """Whether it works; asked after the commands have run."""

    def __str__(self) -> str:
        """Exactly what runs, as a shell takes it."""
        return "".join(f"{command}\n" for command in self.commands)

    def run(self) -> str:
        """Changes the kernel's rules; gives the line to say. Raises ``NetfilterError``, after putting back what was there."""
        with self._taken_back_if_interrupted():
            system.apply(self.commands, self.writer, self.tools)
            try:
                results = list(self.check() if self.check else ())
            except NetfilterError as error:
                raise NetfilterError(f"the rules cannot be tried, {self._put_back()}: {error}") from error
        failed = [result.line for result in results if result.verdict is Verdict.FAIL]
        if not failed:
            return self.done
        back = self._put_back()
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        # Without heartbeats nobody was redirected anywhere: it can be tried again and harms nobody.
        code = 1 if all(line.startswith("heartbeat") for line in failed) else HARMFUL
        raise NetfilterError(f"the rules do not work, {back}: {' '.join(failed[0].split())}{more}", exit_code=code)

    @contextmanager
    def _taken_back_if_interrupted(self) -> Iterator[None]:
        """What has not been tried to its end does not stay, whoever ends this."""
        try:
            yield
        except NetfilterError:
            raise
        except BaseException:
            self._put_back()
            raise

    def _put_back(self) -> str:
        """What was there before, or else nothing of ours; says which. Raises ``NetfilterError`` if not even that is possible."""
        if not self.before.writers():
            for command in plan_remove(system.read_state(self.tools)):
                system.run(command, self.writer)
            return "they are removed again"
        try:
            for command in plan_restore(self.before, system.read_state(self.tools)):
                system.run(command, self.writer)
        except NetfilterError as error:
            for command in plan_remove(system.read_state(self.tools)):
                system.run(command, self.writer)
            return f"the earlier rules cannot be put back ({error}), and nothing is redirected now"
        return "the earlier rules are back"


def rules_of(settings: SettingsModel, ids: Ids = system.IDS) -> Ruleset:
    """The rules that the settings ask for. Raises ``NetfilterError``."""
    make = beside_istio_rules if settings.netfilter.mode == "beside-istio" else standalone_rules
    ruleset = make(settings, ids)
    egress = egress_rules(settings, ids, ids.user(settings.netfilter.user))
    return Ruleset(ruleset.mode, (*ruleset.rules, *egress))


def prepare_apply(settings: SettingsModel, writer: str | None, *, check: bool = True) -> Prepared:
    """Replaces whatever is there by the rules of the settings, and tries them. ``writer`` is over the settings' own."""
    ruleset = rules_of(settings)
    system.require_net_admin()
    tools = system.find_tools()
    chosen = system.choose_writer(writer or settings.netfilter.writer, tools, ruleset)
    check_istio(system.read_istio(tools), ruleset, chosen)
    families = _families(settings)
    if ruleset.restricts and chosen != "nft" and families != system.kernel_families():
        raise NetfilterError(
            "netfilter.restrict_egress with netfilter.ipv6 off needs nft: iptables would leave IPv6 open", exit_code=2
        )
    state = system.read_state(tools, chosen, families)
    commands = plan_apply(ruleset, chosen, state, families)
    done = f"applied {_count(ruleset)} with {chosen}, mode {ruleset.mode}"
    return Prepared(commands, chosen, done, tools, state, (lambda: verify(settings, chosen)) if check else None)


def prepare_remove() -> Prepared:
    """Removes all that is ours, whoever wrote it."""
    system.require_net_admin()
    tools = system.find_tools()
    state = system.read_state(tools)
    writers = ", ".join(state.writers())
    done = f"removed what {writers} had written" if writers else "nothing to remove"
    return Prepared(plan_remove(state), writers, done, tools)


def compare(settings: SettingsModel) -> tuple[Ruleset, list[str], tuple[str, ...]]:
    """The rules that the settings ask for, what in the kernel is not as they say, and who has written there. Sends nothing.

    Raises ``NetfilterError``.
    """
    ruleset = rules_of(settings)
    system.require_net_admin()
    tools = system.find_tools()
    state = system.read_state(tools)
    check_mode(system.read_istio(tools), ruleset)
    return ruleset, differences(ruleset, settings.netfilter.writer, state, _families(settings)), state.writers()


def feel_pulse(ruleset: Ruleset) -> Pulse:
    """Whether the daemon's heartbeats arrive, where the rules are in the kernel. Waits for one."""
    tools = system.find_tools()
    return feel(ruleset, system.listens, lambda: counters(ruleset, system.read_state(tools)))


def verify(settings: SettingsModel, writer: str | None) -> Iterator[Result]:
    """Compares the rules in the kernel, and if they are right sends probes. One result each. Raises ``NetfilterError``."""
    ruleset = rules_of(settings)
    system.require_net_admin()
    tools = system.find_tools()
    wanted = writer or settings.netfilter.writer
    expected = wanted if wanted == "auto" else system.choose_writer(wanted, tools, ruleset)
    families = _families(settings)
    state = system.read_state(tools)
    check_mode(system.read_istio(tools), ruleset)
    problems = differences(ruleset, expected, state, families)
    if problems:
        yield from (Result(Verdict.FAIL, f"rules     {problem}") for problem in problems)
        return
    found = f"rules     {_count(ruleset)} in the kernel, written by {state.writers()[0]}, as the settings say"
    yield Result(Verdict.OK, found)
    probed = tuple(family for family in system.addressed_families() if family in families)
    own = Process(os.geteuid(), os.getegid(), system.own_cgroup())
    yield from run_probes(ruleset, probed, own, system.listens, lambda: counters(ruleset, system.read_state(tools)))


def _families(settings: SettingsModel) -> tuple[Family, ...]:
    return system.kernel_families() if settings.netfilter.ipv6 else (4,)


def _count(ruleset: Ruleset) -> str:
    return f"{len(ruleset.rules)} rules"
