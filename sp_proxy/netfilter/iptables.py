"""Rules → iptables and ip6tables: chains of our own in the nat table, and back from what ``iptables-save`` says.

``SP_PROXY_IN`` is jumped to from PREROUTING, ``SP_PROXY_OUT`` from OUTPUT, each exactly once and first: ahead of Docker's,
kube-proxy's and Istio's rules. One ``iptables-restore --noflush`` a family is one transaction.

What the daemon may open is looked at in the nat tables as well, where each connection is seen once and before anybody has
translated it. Nothing can be rejected there, so what is refused is sent to a closed port of this host. Noted
destinations are entries of a list of ``recent``, by address; it holds the last 100 (``ip_list_tot`` of ``xt_recent``).

Heartbeats are entries of a list of the ``recent`` match: one for all addresses (mask 0), one a family. It lies in the nat
tables too: the first packet of a heartbeat is all there is to see, and one transaction writes everything.

A transaction starts from what is there: it takes away every jump to a chain whose name starts with ``SP_PROXY``, and
every such chain, so an older version of these rules goes whole. Lines are written in the very form in which
``iptables-save`` prints them.
"""

import re
import shlex
from collections.abc import Collection, Iterator
from itertools import pairwise, product

from sp_proxy.netfilter.rules import (
    Action,
    Bypass,
    Chain,
    Family,
    Heartbeat,
    Match,
    Network,
    PastOthers,
    PortRange,
    Redirect,
    Refuse,
    Rule,
    Ruleset,
    Withdrawal,
    merge_networks,
)

PREFIX = "SP_PROXY"
CHAINS = {Chain.INBOUND: f"{PREFIX}_IN", Chain.OUTBOUND: f"{PREFIX}_OUT", Chain.EGRESS: f"{PREFIX}_EGRESS"}
RECENT = "sp_proxy"
"""The list in which heartbeats are noted (``/proc/net/xt_recent/sp_proxy``)."""
NOTED = {4: "sp_proxy_to4", 6: "sp_proxy_to6"}
"""The lists of addresses that redirected connections were going to. A list has one mask, so each IP version has its own."""
HOOKS = {Chain.INBOUND: "PREROUTING", Chain.OUTBOUND: "OUTPUT", Chain.EGRESS: "OUTPUT"}
_CLOSED_PORT = 1
"""Where nobody listens (tcpmux, which needs root): a connection that is sent there is refused."""
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_MULTIPORT_LIMIT = 15
"""Ports a ``-m multiport`` holds (XT_MULTI_PORTS); a range counts twice."""
_COUNTERS = re.compile(r"\[(\d+):\d+\] ")


def lines(ruleset: Ruleset, chain: Chain, family: Family) -> Iterator[tuple[int, str]]:
    """The lines of a chain in one family, each with the number of its rule (from 0) in the chain.

    iptables knows no sets: a rule becomes as many lines as its values need.
    """
    name = CHAINS[chain]
    for number, rule in enumerate(ruleset.chain(chain)):
        matcher = rule.match.of_family(family)
        if matcher is None:
            continue
        recent = _recent(ruleset, rule, family)
        for match in _matches(matcher, chain):
            target = _target(rule.action, matcher, family)
            parts = (f"-A {name}", match, recent, f'-m comment --comment "{rule.reason}" -j {target}')
            yield number, " ".join(part for part in parts if part)


def refuse(ruleset: Ruleset) -> str:
    """Why iptables cannot have these rules; empty if it can."""
    if any(rule.match.cgroups for rule in ruleset.rules):
        return "iptables cannot tell control groups by their path as nft does: use --writer nft, or leave them out"
    return ""


def _target(action: Action, matcher: Match, family: Family) -> str:
    match action:
        case Redirect(port):
            return f"REDIRECT --to-ports {port}"
        case Refuse() if matcher.protocol:
            return f"REDIRECT --to-ports {_CLOSED_PORT}"
        case Refuse():
            return f"DNAT --to-destination {_LOOPBACK[family]}"
        case PastOthers():
            return "ACCEPT"  # ends this table's OUTPUT, where Istio's rules stand
        case Bypass() | Heartbeat() | Withdrawal():
            return "RETURN"


def _recent(ruleset: Ruleset, rule: Rule, family: Family) -> str:
    where = f"--name {RECENT} --mask {'0.0.0.0' if family == 4 else '::'} --rsource"
    whole = "255.255.255.255" if family == 4 else ":".join(["ffff"] * 8)
    noted = f"--name {NOTED[family]} --mask {whole} --rdest"
    match rule.action:
        case Heartbeat():
            return f"-m recent --set {where}"
        case Withdrawal():
            return f"-m recent --remove {where}"
        case Redirect(note=True):
            return f"-m recent --set {noted}"
    if rule.match.relayed:
        return f"-m recent --rcheck {noted}"
    heartbeat = ruleset.heartbeat
    if rule.match.without_heartbeat and heartbeat and isinstance(heartbeat.action, Heartbeat):
        return f"-m recent ! --rcheck --seconds {heartbeat.action.timeout_seconds} {where}"
    return ""


def preface(chain: Chain) -> str:
    """The line that every chain begins with: where no connection was tracked before, the kernel takes the next packet of an
    old one for the first of a new one.
    """
    flags = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"
    return f'-A {CHAINS[chain]} {flags} -m comment --comment "not the first packet" -j RETURN'


def jump(chain: Chain) -> str:
    """The jump rule, as ``iptables-save`` prints it."""
    return f"-A {HOOKS[chain]} {_jump(chain)}"


def _jump(chain: Chain) -> str:
    return f"-j {CHAINS[chain]}" if chain is Chain.EGRESS else f"-p tcp -j {CHAINS[chain]}"


def render(ruleset: Ruleset, family: Family, saved: str = "") -> str:
    """The transaction for ``iptables-restore --noflush``, where ``iptables-save -t nat`` says ``saved`` now."""
    chains = [chain for chain in Chain if any(lines(ruleset, chain, family))]
    stale = _chains(saved)
    names = [CHAINS[chain] for chain in chains]
    body = [f":{name} - [0:0]" for name in [*names, *(name for name in stale if name not in names)]]
    body += _without_jumps(saved)
    for chain in chains:
        body += [preface(chain), *(line for _, line in lines(ruleset, chain, family))]
    body += [f"-I {HOOKS[chain]} 1 {_jump(chain)}" for chain in chains]
    body += [f"-X {name}" for name in stale if name not in names]
    return _transaction(body)


def render_removal(saved: str) -> str:
    """The transaction that takes away all that is ours; empty if nothing is."""
    names = _chains(saved)
    if not names:
        return ""
    return _transaction(
        [f":{name} - [0:0]" for name in names] + _without_jumps(saved) + [f"-X {name}" for name in names]
    )


def render_again(earlier: str, saved: str) -> str:
    """The transaction that puts back what ``iptables-save`` said ``earlier`` of ours, where it says ``saved`` now."""
    names, stale = _chains(earlier), _chains(saved)
    own = [line for line, _ in own_lines(earlier)]
    jumps = [line.removeprefix("-A ") for line in own if not line.startswith(f"-A {PREFIX}")]
    return _transaction(
        [f":{name} - [0:0]" for name in dict.fromkeys([*names, *stale])]
        + _without_jumps(saved)
        + [line for line in own if line.startswith(f"-A {PREFIX}")]
        + [f"-I {jump.split()[0]} 1 {jump.split(maxsplit=1)[1]}" for jump in jumps]
        + [f"-X {name}" for name in stale if name not in names]
    )


def is_installed(saved: str) -> bool:
    """Whether anything of ours is there."""
    return bool(_chains(saved))


def own_lines(saved: str) -> list[tuple[str, int]]:
    """What is ours in an ``iptables-save -c -t nat``, without and with its packet counter: jumps, then chains."""
    found = []
    for line in saved.splitlines():
        counters = _COUNTERS.match(line)
        bare = line[counters.end() :] if counters else line
        if bare.startswith("-A ") and (bare.startswith(f"-A {PREFIX}") or _jumps_to_us(bare)):
            found.append((bare, int(counters[1]) if counters else 0))
    return found


def expected_lines(ruleset: Ruleset, family: Family) -> list[str]:
    """What ``own_lines`` must find, in the order of ``iptables-save`` within a chain."""
    chains = [chain for chain in Chain if any(lines(ruleset, chain, family))]
    # Each jump was put first, so the last one is.
    return [jump(chain) for chain in reversed(chains)] + [
        line for chain in chains for line in (preface(chain), *(line for _, line in lines(ruleset, chain, family)))
    ]


def rules_before(saved: str, jumps: Collection[str]) -> dict[str, str]:
    """By hook, a rule that comes before one of these jumps and is none of them; nothing where ours come first."""
    found: dict[str, list[str]] = {}
    for line in saved.splitlines():
        bare = _COUNTERS.sub("", line, count=1)
        if bare.startswith("-A "):
            found.setdefault(bare.split()[1], []).append(bare)
    strangers: dict[str, str] = {}
    for hook, rules in found.items():
        ahead = rules[: sum(rule in jumps for rule in rules)]
        strangers.update((hook, rule) for rule in reversed(ahead) if rule not in jumps)
    return strangers


def canonical(line: str) -> tuple[str, ...]:
    """A line as words, with networks in one notation, for comparing."""
    words = shlex.split(line)
    for index, word in enumerate(words[:-1]):
        if word in {"-s", "-d"}:
            words[index + 1] = str(merge_networks([words[index + 1]])[0])
    return tuple(words)


def _chains(saved: str) -> list[str]:
    return [line[1:].split()[0] for line in saved.splitlines() if line.startswith(f":{PREFIX}")]


def _without_jumps(saved: str) -> list[str]:
    """A deletion for each jump of a chain that is not ours; the jumps between our own go when the chains are flushed."""
    return [f"-D {bare[3:]}" for bare, _ in own_lines(saved) if not bare.startswith(f"-A {PREFIX}")]


def _jumps_to_us(line: str) -> bool:
    if PREFIX not in line:  # nearly all of a node's: kube-proxy writes thousands
        return False
    words = shlex.split(line)  # a comment that says so is one word
    return any(
        word in {"-j", "-g", "--jump", "--goto"} and target.startswith(PREFIX) for word, target in pairwise(words)
    )


def _transaction(body: list[str]) -> str:
    return "\n".join(["*nat", *body, "COMMIT", ""])


def _matches(matcher: Match, chain: Chain) -> Iterator[str]:
    option = "-i" if chain is Chain.INBOUND else "-o"
    interfaces = [f"{option} {interface}" for interface in matcher.interfaces] or [""]
    remote = "-m addrtype ! --dst-type LOCAL" if matcher.remote_destination else ""
    owners = [
        f"-m owner {' '.join(options)}" if options else ""
        for options in product(
            *([f"--uid-owner {user}" for user in matcher.users],) * bool(matcher.users),
            *([f"--gid-owner {group}" for group in matcher.groups],) * bool(matcher.groups),
        )
    ]
    ports = [f"-m multiport --dports {chunk}" for chunk in _port_chunks(matcher.ports)] or [""]
    networks = product(_networks("-s", matcher.sources), _networks("-d", matcher.destinations))
    protocol = f"-p {matcher.protocol}" if matcher.protocol else "" if chain is Chain.EGRESS else "-p tcp"
    for (source, destination), interface, owner, dports in product(networks, interfaces, owners, ports):
        yield " ".join(part for part in (source, destination, interface, protocol, remote, owner, dports) if part)


def _networks(option: str, networks: tuple[Network, ...]) -> list[str]:
    """No option for a whole IP version: ``iptables-save`` prints none."""
    if not networks or any(network.prefixlen == 0 for network in networks):
        return [""]
    return [f"{option} {network}" for network in networks]


def _port_chunks(ports: tuple[PortRange, ...]) -> list[str]:
    chunks: list[list[str]] = [[]]
    room = _MULTIPORT_LIMIT
    for port in ports:
        size = 1 if port.first == port.last else 2
        if size > room:
            chunks.append([])
            room = _MULTIPORT_LIMIT
        chunks[-1].append(str(port).replace("-", ":"))
        room -= size
    return [",".join(chunk) for chunk in chunks if chunk]
