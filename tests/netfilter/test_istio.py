"""What the mode ``beside-istio`` decides, connection by connection."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.netfilter.istio import beside_istio_rules
from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.rules import Bypass, Chain, Connection, NetfilterError, PastOthers, Redirect
from sp_proxy.settings.model import SettingsModel

DAEMON, ENVOY, APP = 1338, 1337, 1000


def ruleset(listen=None, **netfilter):
    sections = {"netfilter": {"mode": "beside-istio", **netfilter}, "listen": listen or {}}
    return beside_istio_rules(SettingsModel.model_validate(sections), Ids(int, int))


def port_of(rules, connection):
    rule = rules.decide(connection)
    return rule.action.port if rule is not None and isinstance(rule.action, Redirect) else None


def handed_on(source="127.0.0.6", destination="10.0.0.1", port=8080, **parts):
    """Envoy to the application."""
    parts = {"interface": "lo", "user": ENVOY, "group": ENVOY, **parts}
    return Connection(Chain.OUTBOUND, ip_address(source), ip_address(destination), port, **parts)


def opened(destination="10.96.0.10", port=443, **parts):
    """The application to elsewhere."""
    parts = {"user": APP, "group": APP, "local": False, **parts}
    return Connection(Chain.OUTBOUND, ip_address("10.0.0.1"), ip_address(destination), port, **parts)


def test_the_daemon_stands_between_the_application_and_envoy():
    rules = ruleset()
    assert port_of(rules, handed_on()) == 16006
    assert port_of(rules, handed_on("::6", "fd00::1")) == 16006
    assert port_of(rules, opened()) == 16001
    assert port_of(rules, opened("2001:db8::1")) == 16001
    assert rules.chain(Chain.INBOUND) == (), "what comes from the network is Istio's"


BYPASSED = [
    handed_on(user=DAEMON, group=DAEMON),
    handed_on("10.0.0.1"),  # Envoy to its own pod's address: must go to 15006
    handed_on("10.0.0.1", "127.0.0.1"),
    handed_on(interface="eth0"),
    handed_on(port=15020),
    handed_on(port=16021),
    handed_on(port=53),
    handed_on(alive=False),
    handed_on(user=APP, group=APP),
    opened(user=DAEMON, group=DAEMON),
    opened(user=ENVOY, group=ENVOY),
    opened(user=APP, group=ENVOY),
    opened(interface="lo", local=True),
    opened("127.0.0.1"),
    opened("169.254.169.254", 80),
    opened(port=53),
    opened(port=15008),
    opened(port=15012),
    opened(port=16006),
    opened(alive=False),
]


@given(
    st.lists(st.sampled_from([53, 80, 8080, 15008, 16021, "1-65535"]), max_size=3),
    st.lists(st.sampled_from(["0.0.0.0/0", "::/0", "127.0.0.0/8", "169.254.0.0/16"]), max_size=2),
    st.sampled_from(BYPASSED),
)
def test_whatever_is_included_these_are_left_alone(ports, networks, connection):
    rules = ruleset(inbound_include_ports=ports, outbound_include_ports=ports, outbound_include_cidrs=networks)
    rule = rules.decide(connection)
    assert rule is None or isinstance(rule.action, Bypass)
    assert port_of(rules, connection) is None


@pytest.mark.parametrize(
    "keys, redirected, bypassed",
    [
        ({"inbound_exclude_ports": [8080]}, [handed_on(port=81), opened(port=8080)], [handed_on()]),
        ({"inbound_include_ports": [8080]}, [handed_on(), opened()], [handed_on(port=81)]),
        ({"outbound_exclude_ports": [443]}, [opened(port=80), handed_on(port=443)], [opened()]),
        ({"outbound_exclude_users": [APP]}, [opened(user=7), handed_on()], [opened()]),
        ({"istio_user": 7, "istio_group": 8}, [handed_on(user=7)], [handed_on(), opened(user=7), opened(group=8)]),
        ({"ipv6": False}, [handed_on(), opened()], [handed_on("::6", "fd00::1"), opened("2001:db8::1")]),
        ({"heartbeat": {"enabled": False}}, [handed_on(alive=False), opened(alive=False)], []),
    ],
)
def test_lists_include_and_exclude(keys, redirected, bypassed):
    rules = ruleset(**keys)
    assert all(port_of(rules, connection) is not None for connection in redirected)
    assert [port_of(rules, connection) for connection in bypassed] == [None] * len(bypassed)


def test_one_direction_alone():
    assert port_of(ruleset({"inbound": "off"}), opened()) == 16001
    assert port_of(ruleset({"inbound": "off"}), handed_on()) is None
    assert port_of(ruleset({"outbound": "off"}), handed_on()) == 16006
    assert port_of(ruleset({"outbound": "off"}), opened()) is None


def test_uploads_may_go_past_envoy():
    rules = ruleset(past_istio_cidrs=["203.0.113.0/24"])
    assert isinstance(rules.decide(opened("203.0.113.9", user=DAEMON)).action, PastOthers)
    assert isinstance(rules.decide(opened("198.51.100.1", user=DAEMON)).action, Bypass)
    assert port_of(rules, opened("203.0.113.9")) == 16001, "the application's own are captured all the same"


def test_loopback_alone_is_enough_for_the_listeners():
    rules = ruleset({"inbound": "127.0.0.1:16006", "outbound": "127.0.0.1:16001"}, ipv6=False)
    assert port_of(rules, handed_on()) == 16006


@pytest.mark.parametrize(
    "listen, keys, message",
    [
        ({"inbound": "off", "outbound": "off"}, {}, "nothing to redirect"),
        ({}, {"inbound_exclude_cidrs": ["10.0.0.0/8"]}, "inbound_exclude_cidrs cannot work in mode beside-istio"),
        ({}, {"inbound_include_interfaces": ["eth0"]}, "use ports"),
        ({}, {"user": 1337}, "run the daemon as another user"),
        ({"inbound": "127.0.0.1:16006"}, {}, "set netfilter.ipv6 to false"),
        ({"inbound": "10.0.0.1:16006"}, {}, "give the port alone"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(listen, keys, message):
    with pytest.raises(NetfilterError, match=message) as caught:
        ruleset(listen, **keys)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
