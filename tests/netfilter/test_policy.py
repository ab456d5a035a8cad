"""What the modes share: the heartbeat's rules, names of users and groups, include lists."""

from ipaddress import ip_address

import pytest

from sp_proxy.netfilter import policy
from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.rules import Bypass, Chain, Heartbeat, Match, PortRange, Redirect, Withdrawal
from sp_proxy.settings.model import SettingsModel


def settings(**netfilter):
    return SettingsModel.model_validate({"netfilter": netfilter})


def test_the_heartbeat_and_the_port_above_it_are_the_daemons_own_on_loopback():
    beat, withdrawal = policy.heartbeat_rules(settings(heartbeat={"timeout": "3s", "port": 700}), 1338)
    assert (beat.action, withdrawal.action) == (Heartbeat(3), Withdrawal())
    assert beat.match == Match(interfaces=("lo",), users=(1338,), ports=(PortRange(700, 700),))
    assert withdrawal.match == Match(interfaces=("lo",), users=(1338,), ports=(PortRange(701, 701),))
    assert policy.heartbeat_rules(settings(heartbeat={"enabled": False}), 1338) == []


def test_redirecting_depends_on_the_heartbeat_unless_it_is_off():
    first, second = policy.redirect(settings(), Chain.INBOUND, Match(), 1, "all")
    assert (first.action, first.match) == (Bypass(), Match(without_heartbeat=True))
    assert second.action == Redirect(1)
    (only,) = policy.redirect(settings(heartbeat={"enabled": False}), Chain.INBOUND, Match(), 1, "all")
    assert only == second


def test_an_empty_list_is_no_rule_since_it_would_match_everything():
    assert policy.inbound_excludes(settings()) == []
    assert policy.outbound_excludes(settings(), Ids(int, int), 1338) == []


def test_names_become_sorted_numbers():
    numbers = {"shop": 9, "root": 0}
    ids = Ids(numbers.__getitem__, numbers.__getitem__)
    assert ids.users(["shop", "root", "shop"]) == (0, 9)
    assert ids.groups(["shop"]) == (9,)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::a9fe:a9fe", "fd00:ec2::254", "fd20:ce::254"])
def test_the_metadata_services_of_the_clouds_are_never_redirected(address):
    (rule,) = [rule for rule in policy.never_outbound(settings()) if "metadata" in rule.reason]
    assert any(ip_address(address) in network for network in rule.match.destinations)


def test_all_that_includes_name_must_match():
    keys = {
        "outbound_include_users": [5],
        "outbound_include_groups": [6],
        "outbound_include_ports": [80],
        "outbound_include_cidrs": ["10.0.0.0/8"],
        "outbound_include_interfaces": ["eth0"],
        "outbound_include_cgroups": ["shop"],
    }
    *_, rule = policy.outbound_redirect(settings(**keys), Ids(int, int), 9)
    match = rule.match
    assert (match.users, match.groups, match.interfaces, match.cgroups) == ((5,), (6,), ("eth0",), ("shop",))
    assert rule.reason == "what outbound_include_* names"
