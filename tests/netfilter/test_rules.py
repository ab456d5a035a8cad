"""The values and their meaning; what the kernel makes of them is compared in ``test_system.py``."""

import itertools
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.netfilter.rules import (
    Bypass,
    Chain,
    Connection,
    Match,
    PortRange,
    Redirect,
    Rule,
    Ruleset,
    describe,
    merge_networks,
    merge_ports,
)

RANGES = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 9)).map(lambda pair: PortRange(pair[0], pair[0] + pair[1]))
)


def connection(destination="203.0.113.7", port=80, **parts):
    return Connection(Chain.OUTBOUND, ip_address("10.0.0.1"), ip_address(destination), port, **parts)


@given(RANGES)
def test_merged_ports_are_the_same_ports_in_the_fewest_ranges(ranges):
    merged = merge_ports(ranges)
    assert {port for port in range(80) if any(port in one for one in ranges)} == {
        port for port in range(80) if any(port in one for one in merged)
    }
    assert all(left.last + 1 < right.first for left, right in itertools.pairwise(merged))
    assert merge_ports(reversed(ranges)) == merged


def test_merged_networks_do_not_overlap_and_ipv4_comes_first():
    merged = merge_networks(["fd00::/8", "10.1.0.0/16", "10.0.0.0/8", "fd01::/16", "10.1.2.3/32", "192.0.2.0/25"])
    assert list(map(str, merged)) == ["10.0.0.0/8", "192.0.2.0/25", "fd00::/8"]


@pytest.mark.parametrize("text, first, last", [(80, 80, 80), ("80", 80, 80), ("8000-8100", 8000, 8100)])
def test_ports_are_read_as_the_settings_have_them(text, first, last):
    assert PortRange.parse(text) == PortRange(first, last)


@pytest.mark.parametrize(
    "match, yes, no",
    [
        (Match(interfaces=("lo",)), {"interface": "lo"}, {"interface": "eth0"}),
        (Match(family=6), {"destination": "2001:db8::1"}, {}),
        (Match(remote_destination=True), {"local": False}, {"local": True}),
        (Match(users=(5, 7)), {"user": 7}, {"user": 6}),
        (Match(destinations=(ip_network("203.0.113.0/24"),)), {}, {"destination": "2001:db8::1"}),
        (Match(ports=(PortRange(80, 81),)), {"port": 81}, {"port": 82}),
        (Match(users=(5,), ports=(PortRange(80, 80),)), {"user": 5}, {"user": 5, "port": 443}),
    ],
)
def test_all_parts_of_a_matcher_must_match(match, yes, no):
    assert match(connection(**yes))
    assert not match(connection(**no))


def test_sources_match_where_a_connection_comes_from():
    assert Match(sources=(ip_network("10.0.0.0/24"),))(connection())
    assert not Match(sources=(ip_network("10.0.1.0/24"),))(connection())


def test_a_matcher_of_one_ip_version_keeps_only_its_networks():
    match = Match(destinations=merge_networks(["10.0.0.0/8", "fd00::/8"]), ports=(PortRange(80, 80),))
    four, six = match.of_family(4), match.of_family(6)
    assert four == Match(family=4, destinations=merge_networks(["10.0.0.0/8"]), ports=(PortRange(80, 80),))
    assert six == Match(family=6, destinations=merge_networks(["fd00::/8"]), ports=(PortRange(80, 80),))


def test_a_matcher_without_a_network_of_an_ip_version_matches_nothing_of_it():
    assert Match(destinations=merge_networks(["10.0.0.0/8"])).of_family(6) is None
    assert Match(family=4).of_family(6) is None
    assert Match(sources=merge_networks(["fd00::/8"]), destinations=merge_networks(["10.0.0.0/8"])).of_family(4) is None


def test_the_first_rule_that_matches_decides_and_chains_are_apart():
    bypass = Rule(Chain.OUTBOUND, Match(users=(1,)), Bypass(), "one")
    redirect = Rule(Chain.OUTBOUND, Match(), Redirect(9), "all")
    ruleset = Ruleset("standalone", (bypass, redirect))
    assert ruleset.decide(connection(user=1)) is bypass
    assert ruleset.decide(connection(user=2)) is redirect
    inbound = Connection(Chain.INBOUND, ip_address("10.0.0.1"), ip_address("10.0.0.2"), 80)
    assert ruleset.decide(inbound) is None


def test_the_description_has_a_line_for_each_rule():
    rules = (
        Rule(Chain.OUTBOUND, Match(users=(1338,), ports=(PortRange(80, 81),)), Bypass(), "why"),
        Rule(Chain.OUTBOUND, Match(), Redirect(16001), "all outbound"),
    )
    assert describe(Ruleset("outbound-only", rules)).splitlines() == [
        "mode outbound-only",
        "",
        "inbound: nothing is redirected",
        "",
        "outbound: new TCP connections of local processes (OUTPUT); the first match decides",
        "   1  bypass                  user 1338; port 80-81  (why)",
        "   2  redirect to port 16001  everything else  (all outbound)",
    ]
