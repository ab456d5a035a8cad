"""Rules → nftables: one table of our own, ``inet sp_proxy``, and back from what the kernel holds.

The table has a base chain a direction at priority -110: before Docker's, kube-proxy's and Istio's chains (-100), so that a
connection is redirected with the destination which the application asked for. ``return`` at the end of a base chain is its
policy, accept: the chains of others then see the connection as if ours were not there.

Heartbeats keep one element alive in a set whose elements time out; it has nothing to say but that it is there, so its value is
what all connections have in common, the protocol. Sets with ``size 1`` refuse a new element until the expired one has been
collected. What was withdrawn stays in the set's hash chain until it is collected, about a second later: amid hundreds of
withdrawals a second one heartbeat in seven is lost (measured on Linux 6.18; none amid 64), which fails open until the next one.

A ruleset is replaced in one transaction: the table is added (so that deleting it cannot fail), deleted and added anew.
Everything an older version left in it goes with it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sp_proxy.netfilter.rules import (
    Action,
    Bypass,
    Chain,
    Family,
    Heartbeat,
    Match,
    NetfilterError,
    PastOthers,
    PortRange,
    Redirect,
    Refuse,
    Ruleset,
    Withdrawal,
    merge_networks,
    merge_ports,
)

TABLE = "inet sp_proxy"
PRIORITY = -110
EGRESS_PRIORITY = -150
"""Before any translation of addresses, so that it is judged where the daemon itself wants to go."""
ALIVE = "alive"
"""Name of the set whose element says that the daemon is at work."""
_HEARD = re.compile(rf"(set {ALIVE} \{{[^{{}}]*?)\s*elements = \{{[^{{}}]*\}}")
HOOKS = {Chain.INBOUND: "prerouting", Chain.OUTBOUND: "output", Chain.EGRESS: "output"}
_BASES = {
    Chain.INBOUND: f"nat {HOOKS[Chain.INBOUND]} {PRIORITY} accept",
    Chain.OUTBOUND: f"nat {HOOKS[Chain.OUTBOUND]} {PRIORITY} accept",
    Chain.EGRESS: f"filter {HOOKS[Chain.EGRESS]} {EGRESS_PRIORITY} accept",
}
"""Type, hook, priority and policy of each chain."""
_RELAYED = {4: ("relayed4", "ip daddr . tcp dport", "ipv4_addr"), 6: ("relayed6", "ip6 daddr . tcp dport", "ipv6_addr")}
"""Names, keys and first types of the sets of noted destinations."""
NOTED_SECONDS = 3600
"""How long a destination is remembered after the last connection that was redirected on its way there. The relay connects
within milliseconds; mitmproxy may connect again as long as its client stays.
"""
MAX_KEPT = 4096
"""Noted destinations that go over into a new version of the table."""
REMOVAL = f"add table {TABLE}\ndelete table {TABLE}\n"
"""Removes the table, also where there is none."""

_NEEDS_PROTOCOL = ("redirect to", "dnat")
"""Parts of verdicts before which nft wants to see that there is a port."""

type Term = tuple[str, str, tuple[str, ...]]
"""A key, an operator (``==`` or ``!=``) and the values, in nft's words; networks with their prefix length."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of a chain, in the form in which a written and a listed one are equal."""

    terms: tuple[Term, ...]
    verdict: str
    comment: str

    def __str__(self) -> str:
        terms = [
            f"{key}{'' if operator == '==' else ' !='} {_values(key, values)}" for key, operator, values in self.terms
        ]
        if _needs_protocol(self.verdict):
            terms.append("meta l4proto tcp")
        comment = [f'comment "{self.comment}"'] if self.comment else []
        return " ".join([*terms, "counter", self.verdict, *comment])


def _needs_protocol(verdict: str) -> bool:
    return any(part in verdict for part in _NEEDS_PROTOCOL)


def statements(ruleset: Ruleset, chain: Chain) -> Iterator[tuple[int, Statement]]:
    """The lines of a chain, each with the number of its rule (from 0) in the chain.

    A rule with networks becomes a line for each IP version that it has.
    """
    for number, rule in enumerate(ruleset.chain(chain)):
        match = rule.match
        noting = isinstance(rule.action, Redirect) and rule.action.note
        apart = match.sources or match.destinations or match.relayed or noting
        families: tuple[Family | None, ...] = (4, 6) if apart else (None,)
        for family in families:
            if matcher := match.of_family(family) if family else match:
                for terms in _terms(matcher, chain):
                    yield number, Statement(terms, _verdict(rule.action, family, matcher), rule.reason)


def _verdict(action: Action, family: Family | None, matcher: Match) -> str:
    match action:
        case Bypass():
            return "return"
        case Redirect(port, note) if note and family:
            # One statement: where the set is full it ends the rule, and the connection goes straight.
            name, key, _ = _RELAYED[family]
            return f"update @{name} {{ {key} timeout {NOTED_SECONDS}s }} redirect to :{port}"
        case Redirect(port):
            return f"redirect to :{port}"
        case Refuse():
            return "reject with tcp reset" if matcher.protocol == "tcp" else "reject with icmpx admin-prohibited"
        case Heartbeat(seconds):
            return f"update @{ALIVE} {{ meta l4proto timeout {seconds}s }} return"
        case Withdrawal():
            return f"delete @{ALIVE} {{ meta l4proto }} return"
        case PastOthers():
            # To where it is going anyway: translated, so that the nat chains of others are not asked.
            protocol = "ip" if family == 4 else "ip6"
            return f"dnat {protocol} to {protocol} daddr"


def render(ruleset: Ruleset, before: str = "") -> str:
    """The transaction for ``nft -f`` that replaces the table. ``before``: its listing, of which noted destinations stay."""
    lines = [f"add table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{"]
    noted = _noted(before) if ruleset.restricts else {}
    types = {ALIVE: "inet_proto"} | {name: f"{kind} . inet_service" for name, _, kind in _RELAYED.values()}
    for name, seconds in expected_sets(ruleset).items():
        lines += [f"\tset {name} {{", f"\t\ttype {types[name]}", "\t\tsize 65535", "\t\tflags dynamic,timeout"]
        lines += [f"\t\ttimeout {seconds}s"]
        if noted.get(name):
            lines.append(f"\t\telements = {{ {', '.join(noted[name])} }}")
        lines.append("\t}")
    for chain in Chain:
        if ruleset.chain(chain):
            kind, hook, priority, policy = _BASES[chain].split()
            lines += [
                f"\tchain {chain} {{",
                f"\t\ttype {kind} hook {hook} priority {priority}; policy {policy};",
                *(f"\t\t{statement}" for statement in preface(chain)),
                *(f"\t\t{statement}" for _, statement in statements(ruleset, chain)),
                "\t}",
            ]
    return "\n".join([*lines, "}", ""])


_FLAGS = "tcp flags & (fin | syn | rst | ack)"
_NOT_FIRST = Statement(((_FLAGS, "!=", ("syn",)),), "return", "not the first packet")
"""Where no connection was tracked before, the kernel takes the next packet of an old one for the first of a new one."""


def preface(chain: Chain) -> tuple[Statement, ...]:
    """The lines that every chain begins with."""
    if chain is Chain.EGRESS:
        known = (("ct state", "==", ("related", "established")),)
        return Statement(known, "return", "goes on"), _NOT_FIRST
    return Statement((("meta l4proto", "!=", ("tcp",)),), "return", "TCP only"), _NOT_FIRST


def _noted(listing: str) -> dict[str, list[str]]:
    """Noted destinations by set, as nft takes them."""
    if not listing:
        return {}
    sets = [item["set"] for item in json.loads(listing)["nftables"] if "set" in item]
    names = {name for name, _, _ in _RELAYED.values()}
    return {
        found["name"]: [
            " . ".join(map(str, element["elem"]["val"]["concat"])) for element in found.get("elem", [])[:MAX_KEPT]
        ]
        for found in sets
        if found["name"] in names
    }


@dataclass(frozen=True, slots=True)
class Listed:
    """What ``nft -j list table`` says about a chain of ours."""

    base: str
    """Type, hook, priority and policy."""
    lines: tuple[tuple[Statement, int], ...]
    """Each with its packet counter."""


def expected_chains(ruleset: Ruleset) -> dict[str, tuple[str, tuple[Statement, ...]]]:
    """What a listing must have: base and lines of each chain."""
    return {
        str(chain): (_BASES[chain], (*preface(chain), *(statement for _, statement in statements(ruleset, chain))))
        for chain in Chain
        if ruleset.chain(chain)
    }


def expected_sets(ruleset: Ruleset) -> dict[str, int]:
    """The sets which a listing must have, with the timeout in seconds of their elements."""
    rule = ruleset.heartbeat
    alive = {ALIVE: rule.action.timeout_seconds} if rule and isinstance(rule.action, Heartbeat) else {}
    noted = {name: NOTED_SECONDS for name, _, _ in _RELAYED.values()} if ruleset.restricts else {}
    return alive | noted


def parse_sets(text: str) -> dict[str, int]:
    """The sets of the table with their timeouts (0: none), from ``nft -j list table``, which ``parse_listing`` has read."""
    sets = [item["set"] for item in json.loads(text)["nftables"] if "set" in item]
    return {found["name"]: int(found.get("timeout", 0)) for found in sets}


def unheard(script: str) -> str:
    """The table as ``nft -s list table`` prints it, to be made again, without the heartbeats of then: the daemon may have ended since."""
    return _HEARD.sub(r"\1", script)


def parse_listing(text: str) -> dict[str, Listed]:
    """The chains of the table by name, from ``nft -j list table``. Raises ``NetfilterError`` if it is no such listing."""
    try:
        items = json.loads(text)["nftables"]
        bases = {
            chain["name"]: " ".join(str(chain.get(key, "-")) for key in ("type", "hook", "prio", "policy"))
            for chain in (item["chain"] for item in items if "chain" in item)
        }
        lines: dict[str, list[tuple[Statement, int]]] = {name: [] for name in bases}
        for rule in (item["rule"] for item in items if "rule" in item):
            lines[rule["chain"]].append(_parse_rule(rule))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NetfilterError(f"cannot read what nft -j lists ({error!r}): is it built with JSON support?") from error
    return {name: Listed(base, tuple(lines[name])) for name, base in bases.items()}


def _terms(matcher: Match, chain: Chain) -> Iterator[tuple[Term, ...]]:
    """The terms of each line that a matcher needs: nft has no sets of control groups on different levels."""
    for cgroup in matcher.cgroups or ("",):
        yield tuple(_line_terms(matcher, chain, cgroup))


def _line_terms(matcher: Match, chain: Chain, cgroup: str) -> Iterator[Term]:
    if matcher.interfaces:
        names = tuple(sorted(matcher.interfaces, key=_set_order))
        yield "iifname" if chain is Chain.INBOUND else "oifname", "==", names
    if matcher.remote_destination:
        yield "fib daddr type", "!=", ("local",)
    if matcher.users:
        yield "meta skuid", "==", tuple(map(str, matcher.users))
    if matcher.groups:
        yield "meta skgid", "==", tuple(map(str, matcher.groups))
    if cgroup:
        yield f"socket cgroupv2 level {cgroup.count('/') + 1}", "==", (cgroup,)
    networks = (("saddr", matcher.sources), ("daddr", matcher.destinations))
    narrow = [(field, values) for field, values in networks if values and all(value.prefixlen for value in values)]
    for field, values in narrow:
        yield f"{'ip' if values[0].version == 4 else 'ip6'} {field}", "==", tuple(map(str, values))
    if matcher.family and not narrow and not matcher.relayed:  # 0.0.0.0/0 is the whole IP version
        yield "meta nfproto", "==", (f"ipv{matcher.family}",)
    if matcher.relayed and matcher.family:
        name, key, _ = _RELAYED[matcher.family]
        yield key, "==", (f"@{name}",)
    elif matcher.ports:
        yield f"{matcher.protocol or 'tcp'} dport", "==", tuple(map(str, matcher.ports))
    elif matcher.protocol:
        yield "meta l4proto", "==", (matcher.protocol,)
    if matcher.without_heartbeat:
        yield "meta l4proto", "!=", (f"@{ALIVE}",)


def _set_order(element: str) -> tuple[int, str]:
    return len(element), element


def _values(key: str, values: tuple[str, ...]) -> str:
    quoted = key.endswith("ifname") or key.startswith("socket cgroupv2")
    shown = [f'"{value}"' if quoted else value for value in values]
    if key == "ct state":
        return ",".join(reversed(shown))
    return shown[0] if len(shown) == 1 else f"{{ {', '.join(shown)} }}"


def _parse_rule(rule: dict[str, Any]) -> tuple[Statement, int]:
    terms: list[Term] = []
    verdict, packets = "", 0
    for expression in rule["expr"]:
        ((kind, body),) = expression.items()
        if kind == "match":
            terms.append(_parse_match(body))
        elif kind == "counter":
            packets = body["packets"]
        elif kind == "redirect":
            verdict = f"{verdict} redirect to :{body['port']}".strip()
        elif kind == "reject":
            verdict = " ".join(["reject with", body["type"], *([body["expr"]] if "expr" in body else [])])
        elif kind == "set":
            verdict = _parse_update(body)
        elif kind == "dnat" and body == _dnat(body.get("family")):
            verdict = f"dnat {body['family']} to {body['family']} daddr"
        else:
            verdict = f"{verdict} {kind}".strip() if body is None else f"{verdict} {json.dumps(expression)}".strip()
    if _needs_protocol(verdict):
        terms = [term for term in terms if term != ("meta l4proto", "==", ("tcp",))]
    return Statement(tuple(terms), verdict, rule.get("comment", "")), packets


def _parse_update(body: dict[str, Any]) -> str:
    element = body["elem"].get("elem", body["elem"])
    match element.get("val", element):
        case {"meta": {"key": "l4proto"}}:
            key = "meta l4proto"
        case {"concat": parts}:
            key = _concatenation(parts)
        case _:
            return json.dumps(body)
    timeout = f" timeout {element['timeout']}s" if "timeout" in element else ""
    return f"{body['op']} {body['set']} {{ {key}{timeout} }}"


def _concatenation(parts: list[dict[str, Any]]) -> str:
    fields = [part.get("payload", {}) for part in parts]
    return " . ".join(f"{field.get('protocol')} {field.get('field')}" for field in fields)


def _dnat(protocol: Any) -> dict[str, Any]:
    """To the destination that a connection has, as nft lists it."""
    return {"family": protocol, "addr": {"payload": {"protocol": protocol, "field": "daddr"}}}


def _parse_match(body: dict[str, Any]) -> Term:
    match body["left"]:
        case {"meta": {"key": ("iifname" | "oifname") as key}}:
            name = key
        case {"meta": {"key": key}}:
            name = f"meta {key}"
        case {"payload": {"protocol": protocol, "field": field}}:
            name = f"{protocol} {field}"
        case {"concat": parts}:
            name = _concatenation(parts)
        case {"ct": {"key": "state"}}:
            name = "ct state"
        case {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, list(flags)]}:
            name = f"tcp flags & ({' | '.join(map(str, flags))})"
        case {"fib": {"result": result, "flags": flags}}:
            name = f"fib {flags if isinstance(flags, str) else ' '.join(flags)} {result}"
        case {"socket": {"key": "cgroupv2"}}:
            # nft's JSON does not tell the level; it is that of the path.
            name = f"socket cgroupv2 level {str(body['right']).count('/') + 1}"
        case left:
            name = json.dumps(left)
    right = body["right"]
    values = right["set"] if _is_set(right) else right if isinstance(right, list) else [right]
    elements = [_parse_element(element) for element in values]
    operator = "==" if body["op"] == "in" else body["op"]
    if name.endswith((" saddr", " daddr")):
        return name, operator, tuple(map(str, merge_networks(elements)))
    if name in {"tcp dport", "udp dport"}:
        return name, operator, tuple(map(str, merge_ports(PortRange.parse(element) for element in elements)))
    return name, operator, tuple(sorted(elements, key=_set_order))


def _is_set(right: Any) -> bool:
    return isinstance(right, dict) and "set" in right


def _parse_element(element: Any) -> str:
    match element:
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return f"{first}-{last}"
        case {"elem": {"val": value}}:
            return _parse_element(value)
        case str() | int():
            return str(element)
        case _:
            return json.dumps(element)
