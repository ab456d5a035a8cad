"""What the settings mean, as decisions on connections, and that nothing in them can switch the safety rules off."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.rules import Bypass, Chain, Connection, NetfilterError, Redirect
from sp_proxy.netfilter.standalone import standalone_rules
from sp_proxy.settings.model import SettingsModel

DAEMON = 1338


def ruleset(**sections):
    return standalone_rules(SettingsModel.model_validate(sections), Ids(int, int))


def netfilter(**keys):
    return ruleset(netfilter=keys)


def port_of(rules, connection):
    rule = rules.decide(connection)
    return rule.action.port if rule is not None and isinstance(rule.action, Redirect) else None


def outbound(destination="203.0.113.7", port=443, **parts):
    return Connection(
        Chain.OUTBOUND, ip_address("10.0.0.1"), ip_address(destination), port, **{"local": False, **parts}
    )


def inbound(source="203.0.113.7", port=8080, destination="10.0.0.1", **parts):
    return Connection(Chain.INBOUND, ip_address(source), ip_address(destination), port, **parts)


def test_by_default_both_directions_are_redirected_in_both_ip_versions():
    rules = netfilter()
    assert port_of(rules, outbound()) == 16001
    assert port_of(rules, outbound("2001:db8::1")) == 16001
    assert port_of(rules, inbound()) == 16006
    assert port_of(rules, inbound("2001:db8::1", destination="2001:db8::2")) == 16006


ALWAYS = [
    outbound(user=DAEMON),
    outbound(interface="lo"),
    outbound("127.0.0.11"),
    outbound("::1"),
    outbound("169.254.169.254", 80),
    outbound("fe80::1"),
    outbound("224.0.0.1"),
    outbound("ff02::1"),
    outbound(port=53),
    outbound(port=16001),
    outbound(port=16006),
    outbound(port=16021),
    inbound(interface="lo"),
    inbound(local=False),
    inbound(destination="169.254.1.1"),
    inbound(destination="fe80::1"),
    inbound(destination="ff02::1"),
    inbound(port=53),
    inbound(port=16001),
    inbound(port=16006),
    inbound(port=16021),
]
PORTS = st.lists(st.sampled_from([22, 53, 80, 8080, 16001, 16006, 16021, "1-65535"]), max_size=3)
NETWORKS = st.lists(st.sampled_from(["0.0.0.0/0", "::/0", "127.0.0.0/8", "169.254.169.254", "fe80::/10"]), max_size=3)


@given(PORTS, PORTS, NETWORKS, st.sampled_from(ALWAYS))
def test_whatever_is_included_the_safety_rules_come_first(inbound_ports, outbound_ports, networks, connection):
    rules = netfilter(
        inbound_include_ports=inbound_ports, outbound_include_ports=outbound_ports, outbound_include_cidrs=networks
    )
    rule = rules.decide(connection)
    assert rule is not None
    assert isinstance(rule.action, Bypass)


@pytest.mark.parametrize(
    "keys, redirected, bypassed",
    [
        ({"outbound_exclude_ports": [5432, "6000-6010"]}, [outbound()], [outbound(port=5432), outbound(port=6010)]),
        ({"outbound_include_ports": [80]}, [outbound(port=80)], [outbound(port=443)]),
        ({"outbound_exclude_cidrs": ["203.0.113.0/24", "fd00::/8"]}, [outbound("198.51.100.1")], [outbound()]),
        ({"outbound_exclude_cidrs": ["203.0.113.0/24", "fd00::/8"]}, [outbound("2001:db8::1")], [outbound("fd00::1")]),
        ({"outbound_include_cidrs": ["203.0.113.0/24"]}, [outbound()], [outbound("2001:db8::1"), outbound("1.1.1.1")]),
        ({"outbound_exclude_users": [7, 1338]}, [outbound(user=8)], [outbound(user=7), outbound(user=1338)]),
        ({"user": 7}, [outbound(user=1338)], [outbound(user=7)]),
        ({"inbound_exclude_ports": [22]}, [inbound()], [inbound(port=22)]),
        ({"inbound_include_ports": ["8000-8100"]}, [inbound()], [inbound(port=8101)]),
        ({"inbound_exclude_cidrs": ["203.0.113.7"]}, [inbound("203.0.113.8")], [inbound("203.0.113.7")]),
        ({"ipv6": False}, [outbound(), inbound()], [outbound("2001:db8::1"), inbound("::2", destination="fd00::1")]),
        ({"mode": "inbound-only"}, [inbound()], [outbound()]),
        ({"mode": "outbound-only"}, [outbound()], [inbound()]),
        ({"outbound_include_ports": [80], "outbound_exclude_ports": [80]}, [], [outbound(port=80)]),
    ],
)
def test_lists_include_and_exclude(keys, redirected, bypassed):
    rules = netfilter(**keys)
    assert [port_of(rules, connection) is not None for connection in redirected] == [True] * len(redirected)
    assert [port_of(rules, connection) for connection in bypassed] == [None] * len(bypassed)


def test_a_listener_that_is_off_redirects_nothing():
    rules = ruleset(listen={"inbound": "off", "outbound": 17001})
    assert rules.chain(Chain.INBOUND) == ()
    assert port_of(rules, outbound()) == 17001


def test_the_daemons_other_listeners_are_bypassed_where_they_listen_only():
    rules = ruleset(
        listen={"forward": [{"listen": 8081, "upstream": "127.0.0.1:3000"}]},
        backend={"enabled": True, "listen": 4318},
    )
    assert port_of(rules, inbound(port=8081)) is None
    assert port_of(rules, inbound(port=4318)) is None
    assert port_of(rules, outbound(port=8081)) == 16001, "an application elsewhere may have that port"
    assert port_of(rules, outbound(port=4318)) == 16001


def test_an_admin_port_that_is_off_is_an_ordinary_port():
    assert port_of(ruleset(admin={"enabled": False}), inbound(port=16021)) == 16006


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"listen": {"inbound": "off", "outbound": "off"}}, "nothing to redirect"),
        ({"listen": {"inbound": "off"}, "netfilter": {"mode": "inbound-only"}}, "inbound-only and its listener is off"),
        ({"listen": {"inbound": "127.0.0.1:16006"}}, "listen.inbound: .* give the port alone: 16006"),
        ({"listen": {"outbound": "[::1]:16001"}}, "listen.outbound: .* give the port alone: 16001"),
        ({"listen": {"outbound": "127.0.0.1:16001"}}, "set netfilter.ipv6 to false"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(sections, message):
    with pytest.raises(NetfilterError, match=message) as caught:
        ruleset(**sections)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_listener_of_ipv4_only_is_enough_without_ipv6():
    rules = ruleset(listen={"outbound": "127.0.0.1:16001"}, netfilter={"ipv6": False})
    assert port_of(rules, outbound()) == 16001
