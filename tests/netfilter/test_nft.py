"""The text for nft, exactly, and the reading of what nft lists."""

import json

import pytest

from sp_proxy.netfilter import nft
from sp_proxy.netfilter.rules import (
    Bypass,
    Chain,
    Match,
    NetfilterError,
    PortRange,
    Redirect,
    Rule,
    Ruleset,
    merge_networks,
)

RULES = Ruleset(
    "standalone",
    (
        Rule(Chain.INBOUND, Match(interfaces=("lo",)), Bypass(), "local"),
        Rule(Chain.INBOUND, Match(remote_destination=True), Bypass(), "routed"),
        Rule(Chain.INBOUND, Match(sources=merge_networks(["10.0.0.0/8", "192.0.2.1/32"])), Bypass(), "from"),
        Rule(Chain.INBOUND, Match(ports=(PortRange(80, 80), PortRange(8000, 8100))), Redirect(16006), "some"),
        Rule(Chain.OUTBOUND, Match(family=6), Bypass(), "no IPv6"),
        Rule(Chain.OUTBOUND, Match(users=(1338,)), Bypass(), "daemon"),
        Rule(Chain.OUTBOUND, Match(interfaces=("lo",)), Bypass(), "local"),
        Rule(Chain.OUTBOUND, Match(destinations=merge_networks(["0.0.0.0/0", "fd00::/8"])), Redirect(16001), "all"),
    ),
)
TEXT = """\
add table inet sp_proxy
delete table inet sp_proxy
table inet sp_proxy {
	chain inbound {
		type nat hook prerouting priority -110; policy accept;
		meta l4proto != tcp counter return comment "TCP only"
		tcp flags & (fin | syn | rst | ack) != syn counter return comment "not the first packet"
		iifname "lo" counter return comment "local"
		fib daddr type != local counter return comment "routed"
		ip saddr { 10.0.0.0/8, 192.0.2.1/32 } counter return comment "from"
		tcp dport { 80, 8000-8100 } meta l4proto tcp counter redirect to :16006 comment "some"
	}
	chain outbound {
		type nat hook output priority -110; policy accept;
		meta l4proto != tcp counter return comment "TCP only"
		tcp flags & (fin | syn | rst | ack) != syn counter return comment "not the first packet"
		meta nfproto ipv6 counter return comment "no IPv6"
		meta skuid 1338 counter return comment "daemon"
		oifname "lo" counter return comment "local"
		meta nfproto ipv4 meta l4proto tcp counter redirect to :16001 comment "all"
		ip6 daddr fd00::/8 meta l4proto tcp counter redirect to :16001 comment "all"
	}
}
"""


def listing(*rules, base=None):
    chain = base or {"name": "inbound", "type": "nat", "hook": "prerouting", "prio": -110, "policy": "accept"}
    return json.dumps({"nftables": [{"metainfo": {}}, {"chain": chain}, *({"rule": rule} for rule in rules)]})


def test_the_transaction_is_exactly_this():
    assert nft.render(RULES) == TEXT


def test_a_chain_without_rules_is_not_written():
    text = nft.render(Ruleset("outbound-only", RULES.chain(Chain.OUTBOUND)))
    assert "prerouting" not in text
    assert "chain outbound" in text


def test_lines_know_their_rule():
    assert [number for number, _ in nft.statements(RULES, Chain.OUTBOUND)] == [0, 1, 2, 3, 3]


def test_a_listed_rule_reads_as_the_written_one():
    rule = {
        "chain": "inbound",
        "comment": "some",
        "expr": [
            {
                "match": {
                    "op": "==",
                    "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                    "right": {"set": [{"range": [8000, 8100]}, 80]},
                }
            },
            {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}},
            {"counter": {"packets": 7, "bytes": 420}},
            {"redirect": {"port": 16006}},
        ],
    }
    listed = nft.parse_listing(listing(rule))["inbound"]
    written = list(nft.statements(RULES, Chain.INBOUND))[-1][1]
    assert listed.lines == ((written, 7),)
    assert listed.base == nft.expected_chains(RULES)["inbound"][0]


@pytest.mark.parametrize(
    "expression",
    [
        {"accept": None},
        {"drop": None},
        {"redirect": {"port": 1}},
        {"jump": {"target": "other"}},
        {"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": "new"}},
    ],
)
def test_a_rule_of_somebody_elses_is_never_taken_for_ours(expression):
    rule = {"chain": "inbound", "comment": "local", "expr": [expression, {"return": None}]}
    ((found, _),) = nft.parse_listing(listing(rule))["inbound"].lines
    assert found not in {statement for _, statement in nft.statements(RULES, Chain.INBOUND)}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"nftables": [{"rule": {"chain": "x", "expr": []}}]}', "null"])
def test_what_is_no_listing_is_told_in_one_line(text):
    with pytest.raises(NetfilterError, match="cannot read what nft -j lists"):
        nft.parse_listing(text)


def test_a_listed_first_line_reads_as_the_written_one():
    flags = {"payload": {"protocol": "tcp", "field": "flags"}}
    match = {"op": "!=", "left": {"&": [flags, ["fin", "syn", "rst", "ack"]]}, "right": "syn"}
    expr = [{"match": match}, {"counter": {"packets": 1, "bytes": 1}}, {"return": None}]
    rule = {"chain": "inbound", "comment": "not the first packet", "expr": expr}
    (line,) = nft.parse_listing(listing(rule))["inbound"].lines
    assert line == (nft.preface(Chain.INBOUND)[1], 1)
