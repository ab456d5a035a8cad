"""Rules → nftables: one table of our own, ``inet sp_proxy``, and back from what the kernel holds.

The table has a base chain a direction at priority -110: before Docker's, kube-proxy's and Istio's chains (-100), so that a
connection is redirected with the destination which the application asked for. ``return`` at the end of a base chain is its
policy, accept: the chains of others then see the connection as if ours were not there.

Heartbeats keep one element alive in a set whose elements time out; it has nothing to say but that it is there, so its value is
what all connections have in common, the protocol. Sets with ``size 1`` refuse a new element until the expired one has been
collected.

A ruleset is replaced in one transaction: the table is added (so that deleting it cannot fail), deleted and added anew.
Everything an older version left in it goes with it.
"""

import json
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
    Ruleset,
    Withdrawal,
    merge_networks,
    merge_ports,
)

TABLE = "inet sp_proxy"
PRIORITY = -110
ALIVE = "alive"
"""Name of the set whose element says that the daemon is at work."""
HOOKS = {Chain.INBOUND: "prerouting", Chain.OUTBOUND: "output"}
REMOVAL = f"add table {TABLE}\ndelete table {TABLE}\n"
"""Removes the table, also where there is none."""

_NEEDS_PROTOCOL = ("redirect", "dnat")
"""Verdicts before which nft wants to see that there is a port."""

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
        if self.verdict.startswith(_NEEDS_PROTOCOL):
            terms.append("meta l4proto tcp")
        comment = [f'comment "{self.comment}"'] if self.comment else []
        return " ".join([*terms, "counter", self.verdict, *comment])


def statements(ruleset: Ruleset, chain: Chain) -> Iterator[tuple[int, Statement]]:
    """The lines of a chain, each with the number of its rule (from 0) in the chain.

    A rule with networks becomes a line for each IP version that it has.
    """
    for number, rule in enumerate(ruleset.chain(chain)):
        families: tuple[Family | None, ...] = (4, 6) if rule.match.sources or rule.match.destinations else (None,)
        for family in families:
            if matcher := rule.match.of_family(family) if family else rule.match:
                for terms in _terms(matcher, chain):
                    yield number, Statement(terms, _verdict(rule.action, family), rule.reason)


def _verdict(action: Action, family: Family | None) -> str:
    match action:
        case Bypass():
            return "return"
        case Redirect(port):
            return f"redirect to :{port}"
        case Heartbeat(seconds):
            return f"update @{ALIVE} {{ meta l4proto timeout {seconds}s }} return"
        case Withdrawal():
            return f"delete @{ALIVE} {{ meta l4proto }} return"
        case PastOthers():
            # To where it is going anyway: translated, so that the nat chains of others are not asked.
            protocol = "ip" if family == 4 else "ip6"
            return f"dnat {protocol} to {protocol} daddr"


def render(ruleset: Ruleset) -> str:
    """The transaction for ``nft -f`` that replaces the table."""
    lines = [f"add table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{"]
    if ruleset.heartbeat:
        seconds = expected_sets(ruleset)[ALIVE]
        lines += [f"\tset {ALIVE} {{", "\t\ttype inet_proto", "\t\tsize 65535", "\t\tflags dynamic,timeout"]
        lines += [f"\t\ttimeout {seconds}s", "\t}"]
    for chain in Chain:
        if ruleset.chain(chain):
            lines += [
                f"\tchain {chain} {{",
                f"\t\ttype nat hook {HOOKS[chain]} priority {PRIORITY}; policy accept;",
                '\t\tmeta l4proto != tcp counter return comment "TCP only"',
                *(f"\t\t{statement}" for _, statement in statements(ruleset, chain)),
                "\t}",
            ]
    return "\n".join([*lines, "}", ""])


@dataclass(frozen=True, slots=True)
class Listed:
    """What ``nft -j list table`` says about a chain of ours."""

    base: str
    """Type, hook, priority and policy."""
    lines: tuple[tuple[Statement, int], ...]
    """Each with its packet counter."""


def expected_chains(ruleset: Ruleset) -> dict[str, tuple[str, tuple[Statement, ...]]]:
    """What a listing must have: base and lines of each chain."""
    only_tcp = Statement((("meta l4proto", "!=", ("tcp",)),), "return", "TCP only")
    return {
        str(chain): (
            f"nat {HOOKS[chain]} {PRIORITY} accept",
            (only_tcp, *(statement for _, statement in statements(ruleset, chain))),
        )
        for chain in Chain
        if ruleset.chain(chain)
    }


def expected_sets(ruleset: Ruleset) -> dict[str, int]:
    """The sets which a listing must have, with the timeout in seconds of their elements."""
    rule = ruleset.heartbeat
    return {ALIVE: rule.action.timeout_seconds} if rule and isinstance(rule.action, Heartbeat) else {}


def parse_sets(text: str) -> dict[str, int]:
    """The sets of the table with their timeouts (0: none), from ``nft -j list table``, which ``parse_listing`` has read."""
    sets = [item["set"] for item in json.loads(text)["nftables"] if "set" in item]
    return {found["name"]: int(found.get("timeout", 0)) for found in sets}


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
    if matcher.family and not narrow:  # 0.0.0.0/0 is the whole IP version
        yield "meta nfproto", "==", (f"ipv{matcher.family}",)
    if matcher.ports:
        yield "tcp dport", "==", tuple(map(str, matcher.ports))
    if matcher.without_heartbeat:
        yield "meta l4proto", "!=", (f"@{ALIVE}",)


def _set_order(element: str) -> tuple[int, str]:
    return len(element), element


def _values(key: str, values: tuple[str, ...]) -> str:
    quoted = key.endswith("ifname") or key.startswith("socket cgroupv2")
    shown = [f'"{value}"' if quoted else value for value in values]
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
            verdict = f"redirect to :{body['port']}"
        elif kind == "set":
            verdict = _parse_update(body)
        elif kind == "dnat" and body == _dnat(body.get("family")):
            verdict = f"dnat {body['family']} to {body['family']} daddr"
        else:
            verdict = f"{verdict} {kind}".strip() if body is None else f"{verdict} {json.dumps(expression)}".strip()
    if verdict.startswith(_NEEDS_PROTOCOL):
        terms = [term for term in terms if term != ("meta l4proto", "==", ("tcp",))]
    return Statement(tuple(terms), verdict, rule.get("comment", "")), packets


def _parse_update(body: dict[str, Any]) -> str:
    element = body["elem"].get("elem", body["elem"])
    if element.get("val", element) != {"meta": {"key": "l4proto"}}:
        return json.dumps(body)
    timeout = f" timeout {element['timeout']}s" if "timeout" in element else ""
    return f"{body['op']} {body['set']} {{ meta l4proto{timeout} }}"


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
        case {"fib": {"result": result, "flags": flags}}:
            name = f"fib {flags if isinstance(flags, str) else ' '.join(flags)} {result}"
        case {"socket": {"key": "cgroupv2"}}:
            # nft's JSON does not tell the level; it is that of the path.
            name = f"socket cgroupv2 level {str(body['right']).count('/') + 1}"
        case left:
            name = json.dumps(left)
    right = body["right"]
    elements = [_parse_element(element) for element in (right["set"] if _is_set(right) else [right])]
    operator = "==" if body["op"] == "in" else body["op"]
    if name.endswith((" saddr", " daddr")):
        return name, operator, tuple(map(str, merge_networks(elements)))
    if name == "tcp dport":
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
