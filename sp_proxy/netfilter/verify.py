"""Does the kernel do what the settings say? First its rules are compared, then real connections are tried.

The rules themselves say, for each probe, which of them must decide (``Ruleset.decide``); the proof is that the kernel counted a
packet at that very rule, and that the answer fits: a redirected connection is answered by this host at once, whether the
daemon listens yet or not. So nothing of the daemon is needed, and it may run (``pulse``).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

from sp_proxy.netfilter import probes, pulse
from sp_proxy.netfilter.istio import PASS_THROUGH
from sp_proxy.netfilter.probes import Answer
from sp_proxy.netfilter.pulse import Heart, Pulse, ReadCounters
from sp_proxy.netfilter.rules import (
    Chain,
    Connection,
    Family,
    Heartbeat,
    IPAddress,
    Match,
    NetfilterError,
    Redirect,
    Rule,
    Ruleset,
    Withdrawal,
)
from sp_proxy.netfilter.verdict import Result, Verdict, judge, judge_pulse

_PORTS = (9, 80, 443, 8080, 5432, 49151)
"""Tried in this order where all ports are included: discard first."""
_USERS = (65534, 65533, 12345)
"""Tried where the present user is bypassed."""


@dataclass(frozen=True, slots=True)
class Process:
    """Who sends the probes, as the rules see it."""

    user: int
    group: int
    cgroup: str = ""


def run_probes(
    ruleset: Ruleset,
    families: tuple[Family, ...],
    own: Process,
    listens: Callable[[int], bool],
    read_counters: ReadCounters,
) -> Iterator[Result]:
    """Tries every path, one result each. ``listens`` says whether anything listens on a port of this host."""
    found = pulse.feel(ruleset, listens, read_counters)
    heart = Heart(ruleset.heartbeat if found is Pulse.NO_DAEMON else None)
    if result := judge_pulse(ruleset, found):
        yield result
    if found is Pulse.MISSING:
        return
    prober = _Prober(ruleset, own, heart, listens, read_counters)
    yield from _local_probes(ruleset, families)
    if ruleset.redirects(Chain.OUTBOUND):
        for family in families:
            yield from _handed_on_probes(prober, family)
            yield from _outbound_probes(prober, family)
    if ruleset.restricts:
        for family in families:
            yield from _egress_probes(prober, family)
    if ruleset.redirects(Chain.INBOUND):
        yield from _inbound_probes(prober, families)


def _egress_probes(prober: "_Prober", family: Family) -> Iterator[Result]:
    """What the daemon has no business with."""
    destination = ip_address(probes.ELSEWHERE[family])
    user = next(rule.match.users[0] for rule in prober.ruleset.chain(Chain.EGRESS))
    line = f"egress    to {_shown(destination, _PORTS[0])} as user {user}"
    if not probes.route_source(str(destination)):
        yield Result(Verdict.SKIP, f"egress    IPv{family}: no route to {destination}: nothing leaves this host")
        return
    connection = replace(prober.outgoing(destination, _PORTS[0], user), chain=Chain.EGRESS)
    attempt = partial(probes.connect, str(destination), _PORTS[0], user=None if user == prober.own.user else user)
    yield from prober.probe(connection, line, attempt)


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


def _outbound_probes(prober: "_Prober", family: Family) -> Iterator[Result]:
    ruleset, own = prober.ruleset, prober.own
    rules = ruleset.chain(Chain.OUTBOUND)
    bypassed = {user for rule in rules if not isinstance(rule.action, Redirect) for user in rule.match.users}
    included = [user for rule in rules if isinstance(rule.action, Redirect) for user in rule.match.users]
    ordinary = [user for user in (own.user, *included, *_USERS) if user not in bypassed]
    target = next(
        (
            connection
            for destination, port in _targets(ruleset, Chain.OUTBOUND, family)
            for user in ordinary
            if _is_redirected(ruleset, connection := prober.outgoing(destination, port, user))
        ),
        None,
    )
    if target is None:
        reason = "no address and port that the rules redirect" if _wanted(ruleset, family) else "IPv6 is not redirected"
        yield Result(Verdict.SKIP, f"outbound  IPv{family}: {reason}")
        return
    if not probes.route_source(str(target.destination)):
        yield Result(Verdict.SKIP, f"outbound  IPv{family}: no route to {target.destination}: nothing leaves this host")
        return
    daemon = next(iter(prober.daemon), target.user)
    for user in dict.fromkeys([target.user, daemon]):
        connection = replace(target, user=user)
        line = f"outbound  to {_shown(target.destination, target.port)} as user {user}"
        attempt = partial(probes.connect, str(target.destination), target.port, user=None if user == own.user else user)
        yield from prober.probe(connection, line, attempt)


def _handed_on_probes(prober: "_Prober", family: Family) -> Iterator[Result]:
    """What Istio's Envoy hands to the application, where the rules take it."""
    rule = next((rule for rule in prober.ruleset.rules if rule.match.sources == PASS_THROUGH), None)
    if rule is None or not _wanted(prober.ruleset, family):
        return
    source = next(network.network_address for network in PASS_THROUGH if network.version == family)
    (envoy,) = rule.match.users
    address = probes.route_source(probes.REMOTE[family]) or ("127.0.0.1" if family == 4 else "::1")
    candidates = [
        Connection(Chain.OUTBOUND, source, ip_address(address), port, "lo", user=envoy)
        for port in (*_included_ports(prober.ruleset), *_PORTS)
    ]
    connection = next((one for one in candidates if _is_redirected(prober.ruleset, one)), candidates[0])
    line = f"inbound   from Envoy (user {envoy}, {source}) to {_shown(connection.destination, connection.port)}"
    user = None if envoy == prober.own.user else envoy
    attempt = partial(probes.connect, address, connection.port, user=user, source=str(source))
    yield from prober.probe(connection, line, attempt)


def _included_ports(ruleset: Ruleset) -> list[int]:
    rules = [rule for rule in ruleset.rules if isinstance(rule.action, Redirect) and rule.match.sources == PASS_THROUGH]
    return [ports.first for rule in rules for ports in rule.match.ports]


def _inbound_probes(prober: "_Prober", families: tuple[Family, ...]) -> Iterator[Result]:
    ruleset = prober.ruleset
    with ExitStack() as stack:
        try:
            peer = stack.enter_context(probes.outside_peer(families))
        except NetfilterError as error:
            counted = prober.read_counters()
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

            yield from prober.probe(chosen, line, attempt)


@dataclass(frozen=True, slots=True)
class _Prober:
    """What all probes need."""

    ruleset: Ruleset
    own: Process
    heart: Heart
    listens: Callable[[int], bool]
    read_counters: ReadCounters

    @property
    def daemon(self) -> tuple[int, ...]:
        """The daemon's user id; nothing where no rule speaks of it."""
        return next((rule.match.users for rule in self.ruleset.chain(Chain.OUTBOUND) if rule.match.users), ())

    def outgoing(self, destination: IPAddress, port: int, user: int) -> Connection:
        """A connection from here to elsewhere."""
        named = any(set(rule.match.interfaces) - {"lo"} for rule in self.ruleset.chain(Chain.OUTBOUND))
        return Connection(
            Chain.OUTBOUND,
            ip_address(probes.REMOTE[4 if destination.version == 4 else 6]),  # no rule looks for this source
            destination,
            port,
            interface=probes.route_interface(str(destination)) if named else "",
            user=user,
            group=self.own.group,
            cgroup=self.own.cgroup,
            local=False,
        )

    def probe(self, connection: Connection, line: str, attempt: Callable[[float], Answer]) -> Iterator[Result]:
        """Tries a connection; where no daemon sends heartbeats and they decide, without them too."""
        if self.heart.rule and _is_redirected(self.ruleset, connection):
            without = f"{line} without heartbeat"
            result = self._try(replace(connection, alive=False), without, attempt)
            if result.verdict is Verdict.FAIL and any(map(self.listens, pulse.redirect_ports(self.ruleset))):
                result = Result(Verdict.SKIP, f"{without}: the daemon has just begun to send them")
            yield result
        yield self._try(connection, line, attempt)

    def _try(self, connection: Connection, line: str, attempt: Callable[[float], Answer]) -> Result:
        ruleset = self.ruleset
        rule = ruleset.decide(connection)
        if rule is None:
            return Result(Verdict.SKIP, f"{line}: no rule speaks of it")
        redirected = isinstance(rule.action, Redirect)
        number = ruleset.chain(connection.chain).index(rule)
        heart = self.heart if redirected else Heart(None)
        before = self.read_counters()
        try:
            with heart.beating():
                answer = attempt(probes.ANSWER_TIMEOUT_SECONDS if redirected else probes.BYPASS_TIMEOUT_SECONDS)
        except NetfilterError as error:
            return Result(Verdict.SKIP, f"{line}: not probed: {error}")
        after = self.read_counters()
        own_beats = {(Chain.OUTBOUND, i) for i, one in enumerate(ruleset.chain(Chain.OUTBOUND)) if is_beat(one)}
        moved = {key for key, count in after.items() if count > before.get(key, 0)} - own_beats
        return judge(
            rule,
            counted=(connection.chain, number) in moved,
            others=_met(ruleset, moved),
            answer=answer,
            line=line,
            listening=isinstance(rule.action, Redirect) and self.listens(rule.action.port),
        )


def is_beat(rule: Rule) -> bool:
    """Whether a rule is for heartbeats or their withdrawal."""
    return isinstance(rule.action, Heartbeat | Withdrawal)


def _targets(ruleset: Ruleset, chain: Chain, family: Family) -> list[tuple[IPAddress, int]]:
    """Addresses and ports to try: of the last, including rule where it names some."""
    redirecting = [rule.match for rule in ruleset.chain(chain) if isinstance(rule.action, Redirect)]
    match = redirecting[-1] if redirecting else Match()
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
