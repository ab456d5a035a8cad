"""What is to be run, from the rules, the writer and what is in the kernel now. Pure: ``system`` reads and runs.

Changing the writer overlaps: the new rules are in force before the old ones go. The kernel asks the nat chains of a hook in
order of priority until one has translated the connection, so during the overlap nothing is translated twice.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from sp_proxy.netfilter import iptables, nft
from sp_proxy.netfilter.rules import Chain, Family, NetfilterError, Ruleset

LOCK_WAIT_SECONDS = 10
"""``iptables-restore`` waits this long for the lock that kube-proxy and others take."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program, its arguments and what it reads from standard input."""

    argv: tuple[str, ...]
    stdin: str = ""

    def __str__(self) -> str:
        """As a shell takes it."""
        line = shlex.join(self.argv)
        return f"{line} <<'EOF'\n{self.stdin}EOF" if self.stdin else line


@dataclass(frozen=True, slots=True)
class Saved:
    """The nat table as one of the iptables tools has it."""

    tool: str
    """Base name: ``iptables-nft``, ``ip6tables-legacy``."""
    form: str
    """``iptables-nft`` or ``iptables-legacy``: the writer that it belongs to."""
    family: Family
    text: str
    """From ``TOOL-save -c -t nat``."""


@dataclass(frozen=True, slots=True)
class State:
    """What the kernel holds, as far as it may be ours."""

    listing: str = ""
    """From ``nft -j list table inet sp_proxy``; empty where there is no such table."""
    saved: tuple[Saved, ...] = ()
    script: str = ""
    """The same table from ``nft -s list table``: what ``nft -f`` takes to make it again."""

    def writers(self) -> tuple[str, ...]:
        """The writers that have left something of ours."""
        found = ["nft"] if self.listing else []
        found += sorted({saved.form for saved in self.saved if iptables.is_installed(saved.text)})
        return tuple(found)

    def of(self, writer: str) -> tuple[Saved, ...]:
        """What one form of iptables has, a family each."""
        return tuple(saved for saved in self.saved if saved.form == writer)


def plan_apply(ruleset: Ruleset, writer: str, state: State, families: tuple[Family, ...]) -> tuple[Command, ...]:
    """Writes the rules, then removes what other writers left.

    ``writer`` is ``nft``, ``iptables-nft`` or ``iptables-legacy``. ``families`` are those which iptables writes; nft has
    both in one table.
    """
    if writer == "nft":
        commands = [Command(("nft", "-f", "-"), nft.render(ruleset, state.listing))]
    else:
        commands = []
        for saved in state.of(writer):
            if saved.family in families:
                commands.append(_restore(saved.tool, iptables.render(ruleset, saved.family, saved.text)))
            else:
                commands += _removal([saved])
    others = [saved for saved in state.saved if saved.form != writer]
    return (*commands, *_removal(others), *_nft_removal(state if writer != "nft" else State()))


def plan_remove(state: State) -> tuple[Command, ...]:
    """Removes all that is ours, whoever wrote it. Empty if nothing is."""
    return (*_nft_removal(state), *_removal(state.saved))


def plan_restore(before: State, now: State) -> tuple[Command, ...]:
    """Puts back what there was of ours, in place of what there is now."""
    commands = [Command(("nft", "-f", "-"), nft.REMOVAL + nft.unheard(before.script))] if before.script else []
    earlier = {saved.tool: saved.text for saved in before.saved if iptables.is_installed(saved.text)}
    present = {saved.tool: saved.text for saved in now.saved}
    for tool, text in earlier.items():
        commands.append(_restore(tool, iptables.render_again(text, present.get(tool, ""))))
    commands += _removal(saved for saved in now.saved if saved.tool not in earlier)
    return (*commands, *(() if before.script else _nft_removal(now)))


def differences(ruleset: Ruleset, writer: str, state: State, families: tuple[Family, ...]) -> list[str]:
    """What in the kernel is not as the rules say, a line each. ``writer`` may be ``auto``: whichever has written."""
    found = state.writers()
    if not found:
        return ["no rules of sp_proxy in the kernel: run sp-proxy netfilter apply"]
    if len(found) > 1:
        return [f"rules of {' and '.join(found)} at once: run sp-proxy netfilter apply"]
    if writer not in {"auto", found[0]}:
        return [f"the rules were written by {found[0]}, not {writer}: run sp-proxy netfilter apply"]
    if found[0] == "nft":
        return _nft_differences(ruleset, state.listing)
    return [
        f"{saved.tool}: {difference}"
        for saved in state.of(found[0])
        for difference in _iptables_differences(ruleset, saved, saved.family in families)
    ]


def counters(ruleset: Ruleset, state: State) -> dict[tuple[Chain, int], int]:
    """Packets that met each rule (its chain, and its number from 0), where ``differences`` found none."""
    packets = {(chain, number): 0 for chain in Chain for number, _ in enumerate(ruleset.chain(chain))}
    for name, listed in (nft.parse_listing(state.listing) if state.listing else {}).items():
        chain = Chain(name)
        for (number, _), (_, count) in zip(
            nft.statements(ruleset, chain), listed.lines[len(nft.preface(chain)) :], strict=True
        ):
            packets[chain, number] += count
    for saved in state.saved:
        own = [(line, count) for line, count in iptables.own_lines(saved.text)]
        for chain, name in iptables.CHAINS.items():
            found = [count for line, count in own if line.startswith(f"-A {name} ")][1:]
            numbers = [number for number, _ in iptables.lines(ruleset, chain, saved.family)] if found else []
            for number, count in zip(numbers, found, strict=True):
                packets[chain, number] += count
    return packets


def _restore(tool: str, text: str) -> Command:
    return Command((f"{tool}-restore", "--noflush", "--wait", str(LOCK_WAIT_SECONDS)), text)


def _removal(saved: Iterable[Saved]) -> list[Command]:
    found = [(one.tool, iptables.render_removal(one.text)) for one in saved]
    return [_restore(tool, text) for tool, text in found if text]


def _nft_removal(state: State) -> list[Command]:
    return [Command(("nft", "-f", "-"), nft.REMOVAL)] if state.listing else []


def _nft_differences(ruleset: Ruleset, listing: str) -> list[str]:
    found, expected = nft.parse_listing(listing), nft.expected_chains(ruleset)
    problems = [f"nft: chain {name} is not in the settings" for name in found if name not in expected]
    if (sets := nft.parse_sets(listing)) != (wanted := nft.expected_sets(ruleset)):
        problems.append(f"nft: the sets and their timeouts are {sets} instead of {wanted}")
    for name, (base, lines) in expected.items():
        if name not in found:
            problems.append(f"nft: chain {name} is missing")
            continue
        if found[name].base != base:
            problems.append(f"nft: chain {name} is '{found[name].base}' instead of '{base}'")
        have = [statement for statement, _ in found[name].lines]
        problems += _line_differences(f"nft: chain {name}", list(map(str, have)), list(map(str, lines)))
    return problems


def _iptables_differences(ruleset: Ruleset, saved: Saved, written: bool) -> list[str]:
    expected = iptables.expected_lines(ruleset, saved.family) if written else []
    have = [line for line, _ in iptables.own_lines(saved.text)]
    try:
        problems = _line_differences("nat", _by_chain(have), _by_chain(expected))
    except ValueError as error:
        raise NetfilterError(f"cannot read what {saved.tool}-save prints: {error}") from error
    jumps = {iptables.jump(chain) for chain in iptables.CHAINS} & set(expected)
    for hook, rule in iptables.rules_before(saved.text, jumps).items():
        if not problems:
            problems.append(f"{hook}: the rule '{rule}' comes before ours: run sp-proxy netfilter apply")
    return problems


def _by_chain(lines: Iterable[str]) -> list[str]:
    """In canonical words and sorted by chain: the tools list chains in different orders."""
    return [shlex.join(words) for words in sorted(map(iptables.canonical, lines), key=lambda words: words[1])]


def _line_differences(place: str, have: list[str], expected: list[str]) -> list[str]:
    problems = [f"{place}: missing: {line}" for line in expected if line not in have]
    problems += [f"{place}: not in the settings: {line}" for line in have if line not in expected]
    if not problems and have != expected:
        problems.append(f"{place}: the order of the rules is another, or one is there twice")
    return problems
