"""Does the kernel do what the settings say? First its rules are compared, then real connections are tried.

The rules themselves say, for each probe, which of them must decide (``Ruleset.decide``); the proof is that the kernel counted a
packet at that very rule, and that the answer fits: a redirected connection is answered by this host at once, whether the
daemon listens yet or not. So nothing of the daemon is needed, and it may run.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from ipaddress import ip_address

from sp_proxy.netfilter import probes
from sp_proxy.netfilter.probes import Answer
from sp_proxy.netfilter.rules import (
    Chain,
    Connection,
    Family,
    IPAddress,
    Match,
    NetfilterError,
    Redirect,
    Rule,
    Ruleset,
)

type ReadCounters = Callable[[], dict[tuple[Chain, int], int]]

_PORTS = (9, 80, 443, 8080, 5432, 49151)
"""Tried in this order where all ports are included: discard first."""
_USERS = (65534, 65533, 12345)
"""Tried where the present user is bypassed."""


class Verdict(StrEnum):
    """The first word of a line."""

    OK = "ok"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Result:
    """One probe."""

    verdict: Verdict
    line: str

    def __str__(self) -> str:
        return f"{self.verdict:4}  {self.line}"


def run_probes(
    ruleset: Ruleset, families: tuple[Family, ...], own_user: int, read_counters: ReadCounters
) -> Iterator[Result]:
    """Tries every path, one result each. ``own_user`` is the user id of this process."""
    yield from _local_probes(ruleset, families)
    if ruleset.chain(Chain.OUTBOUND):
        for family in families:
            yield from _outbound_probes(ruleset, family, own_user, read_counters)
    if ruleset.chain(Chain.INBOUND):
        yield from _inbound_probes(ruleset, families, read_counters)


def _local_probes(ruleset: Ruleset, families: Iterable[Family]) -> Iterator[Result]:
    if not ruleset.rules:
        return
    for family in families:
        own = probes.route_source(probes.REMOTE[family])
        for address in dict.fromkeys(["127.0.0.1" if family == 4 else "::1", own]):
            if not address:
                continue
            line = f"local     to {address}, this host's own"
            try:
                direct = probes.reaches_own_listener(address)
            except NetfilterError as error:
                yield Result(Verdict.SKIP, f"{line}: not probed: {error}")
                continue
            if direct:
                yield Result(Verdict.OK, f"{line}: direct, as expected")
            else:
                yield Result(Verdict.FAIL, f"{line}: did not arrive at its listener; expected: direct")


def _outbound_probes(ruleset: Ruleset, family: Family, own_user: int, read_counters: ReadCounters) -> Iterator[Result]:
    users = [rule.match.users for rule in ruleset.chain(Chain.OUTBOUND) if rule.match.users]
    daemon = users[0][0] if users else own_user
    bypassed = {user for group in users for user in group}
    ordinary = next(user for user in (own_user, *_USERS) if user not in bypassed)
    target = next(
        (
            (destination, port)
            for destination, port in _targets(ruleset, Chain.OUTBOUND, family)
            if _is_redirected(ruleset, _outgoing(destination, port, ordinary))
        ),
        None,
    )
    if target is None:
        reason = "no address and port that the rules redirect" if _wanted(ruleset, family) else "IPv6 is not redirected"
        yield Result(Verdict.SKIP, f"outbound  IPv{family}: {reason}")
        return
    destination, port = target
    if not probes.route_source(str(destination)):
        yield Result(Verdict.SKIP, f"outbound  IPv{family}: no route to {destination}: nothing leaves this host")
        return
    for user in dict.fromkeys([ordinary, daemon]):
        connection = _outgoing(destination, port, user)
        line = f"outbound  to {_shown(destination, port)} as user {user}"
        attempt = partial(probes.connect, str(destination), port, user=None if user == own_user else user)
        yield _probe(ruleset, connection, line, attempt, read_counters)


def _inbound_probes(ruleset: Ruleset, families: tuple[Family, ...], read_counters: ReadCounters) -> Iterator[Result]:
    with ExitStack() as stack:
        try:
            peer = stack.enter_context(probes.outside_peer(families))
        except NetfilterError as error:
            counted = read_counters()
            seen = sum(
                counted[Chain.INBOUND, number]
                for number, rule in enumerate(ruleset.chain(Chain.INBOUND))
                if isinstance(rule.action, Redirect)
            )
            text = f"inbound   not probed: {error}; {seen} connections were redirected since the rules were applied"
            yield Result(Verdict.SKIP, text)
            return
        for family in families:
            ours, theirs = peer.ends(family)
            candidates = [
                Connection(Chain.INBOUND, theirs, ours, port, peer.interface)
                for _, port in _targets(ruleset, Chain.INBOUND, family)
            ]
            chosen = next((one for one in candidates if _is_redirected(ruleset, one)), candidates[0])
            line = f"inbound   from {theirs} to {_shown(ours, chosen.port)}"

            def attempt(timeout: float, to: Connection = chosen) -> Answer:
                return peer.call(lambda: probes.connect(str(to.destination), to.port, timeout))

            yield _probe(ruleset, chosen, line, attempt, read_counters)


def _probe(
    ruleset: Ruleset,
    connection: Connection,
    line: str,
    attempt: Callable[[float], Answer],
    read_counters: ReadCounters,
) -> Result:
    rule = ruleset.decide(connection)
    if rule is None:
        return Result(Verdict.SKIP, f"{line}: no rule speaks of it")
    redirected = isinstance(rule.action, Redirect)
    number = ruleset.chain(connection.chain).index(rule)
    before = read_counters()
    try:
        answer = attempt(probes.ANSWER_TIMEOUT_SECONDS if redirected else probes.BYPASS_TIMEOUT_SECONDS)
    except NetfilterError as error:
        return Result(Verdict.SKIP, f"{line}: not probed: {error}")
    after = read_counters()
    moved = {key for key, count in after.items() if count > before.get(key, 0)}
    return judge(
        rule, counted=(connection.chain, number) in moved, others=_met(ruleset, moved), answer=answer, line=line
    )


def judge(rule: Rule, *, counted: bool, others: str, answer: Answer, line: str) -> Result:
    """What a probe has shown. ``others`` names the rules that counted something, for the case that ours did not."""
    if not counted:
        found = f"counted at: {others}" if others else "no rule counted it"
        return Result(Verdict.FAIL, f"{line}: expected: {rule.action} ({rule.reason}); {found}")
    match rule.action, answer:
        case Redirect(port), Answer.CONNECTED:
            return Result(Verdict.OK, f"{line}: redirected to port {port}, which answered")
        case Redirect(port), Answer.REFUSED:
            return Result(Verdict.OK, f"{line}: redirected to port {port}, where nothing listens yet")
        case Redirect(port), _:
            text = f"redirected to port {port}, but {answer} came from there: is a firewall in between?"
            return Result(Verdict.FAIL, f"{line}: {text}")
        case _:
            return Result(Verdict.OK, f"{line}: bypassed ({rule.reason}), as expected")


def _outgoing(destination: IPAddress, port: int, user: int) -> Connection:
    source = ip_address(probes.REMOTE[4 if destination.version == 4 else 6])  # outbound rules do not look at it
    return Connection(Chain.OUTBOUND, source, destination, port, user=user, local=False)


def _targets(ruleset: Ruleset, chain: Chain, family: Family) -> list[tuple[IPAddress, int]]:
    """Addresses and ports to try: of the last, including rule where it names some."""
    match = next((rule.match for rule in ruleset.chain(chain) if isinstance(rule.action, Redirect)), Match())
    addresses = [
        network[min(1, network.num_addresses - 1)] for network in match.destinations if network.version == family
    ]
    ports = [port for ports in match.ports for port in {ports.first, ports.last}]
    return [
        (address, port) for address in (addresses or [ip_address(probes.REMOTE[family])]) for port in (ports or _PORTS)
    ]


def _is_redirected(ruleset: Ruleset, connection: Connection) -> bool:
    rule = ruleset.decide(connection)
    return rule is not None and isinstance(rule.action, Redirect)


def _wanted(ruleset: Ruleset, family: Family) -> bool:
    return not any(rule.match == Match(family=family) for rule in ruleset.rules)


def _met(ruleset: Ruleset, moved: Iterable[tuple[Chain, int]]) -> str:
    return ", ".join(f"{chain} {ruleset.chain(chain)[number].reason}" for chain, number in sorted(moved))


def _shown(address: IPAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
