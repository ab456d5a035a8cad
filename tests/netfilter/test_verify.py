"""What verify says of rules that work, and of rules that are there but do not."""

import re
import socket
from functools import partial
from pathlib import Path

import pytest

from sp_proxy.netfilter import install
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.settings.model import SettingsModel

WRITERS = ["nft", "iptables-nft", "iptables-legacy"]


def settings(**netfilter):
    return SettingsModel.model_validate({"netfilter": netfilter})


def lines(site, **netfilter):
    return site.pod.call(lambda: [str(result) for result in install.verify(settings(**netfilter), None)])


def apply(site, writer, **netfilter):
    site.pod.call(lambda: install.prepare_apply(settings(**netfilter), writer).run())


@pytest.mark.parametrize("writer", WRITERS)
def test_every_path_is_tried_with_every_writer(site, writer):
    apply(site, writer)
    assert lines(site) == [
        f"ok    rules     19 rules in the kernel, written by {writer}, as the settings say",
        "ok    heartbeat arrives; 5 s after the last one, nothing is redirected",
        "ok    local     to 127.0.0.1, this host's own: direct, as expected",
        f"ok    local     to {site.pod.ipv4}, this host's own: direct, as expected",
        "ok    local     to ::1, this host's own: direct, as expected",
        f"ok    local     to {site.pod.ipv6}, this host's own: direct, as expected",
        "ok    outbound  to 192.0.2.1:9 as user 0: redirected to port 16001, which answered",
        "ok    outbound  to 192.0.2.1:9 as user 1338: bypassed (connections of the daemon itself), as expected",
        "ok    outbound  to [2001:db8::1]:9 as user 0: redirected to port 16001, which answered",
        "ok    outbound  to [2001:db8::1]:9 as user 1338: bypassed (connections of the daemon itself), as expected",
        "ok    inbound   from 198.51.100.2 to 198.51.100.1:9: redirected to port 16006, which answered",
        "ok    inbound   from 2001:db8:5b::2 to [2001:db8:5b::1]:9: redirected to port 16006, which answered",
    ]


def test_probes_go_where_the_settings_redirect(site):
    keys = {
        "outbound_include_cidrs": ["172.20.0.0/16"],
        "outbound_include_ports": [8080],
        "outbound_exclude_users": ["root"],
        "inbound_exclude_cidrs": ["198.51.100.0/24"],
        "inbound_include_ports": ["80-90"],
    }
    apply(site, "nft", **keys)
    found = lines(site, **keys)
    assert "ok    outbound  to 172.20.0.1:8080 as user 65534: redirected to port 16001, which answered" in found
    assert (
        "ok    inbound   from 198.51.100.2 to 198.51.100.1:80: bypassed (inbound_exclude_cidrs), as expected" in found
    )
    assert (
        "ok    inbound   from 2001:db8:5b::2 to [2001:db8:5b::1]:80: redirected to port 16006, which answered" in found
    )
    assert not [line for line in found if line.startswith("FAIL")]


def test_nothing_listens_yet_where_the_daemon_is_to_come(site):
    keys = {"mode": "outbound-only"}
    listen = {"outbound": 17001}
    site.silence()
    wanted = SettingsModel.model_validate({"netfilter": keys, "listen": listen})
    site.pod.call(lambda: install.prepare_apply(wanted, "nft").run())
    found = site.pod.call(lambda: [str(result) for result in install.verify(wanted, None)])
    first = "heartbeat none: nothing listens on port 17001, so nothing is redirected yet; the probes send their own"
    assert found[1] == f"skip  {first}"
    line = "ok    outbound  to 192.0.2.1:9 as user 0"
    assert f"{line} without heartbeat: bypassed (no heartbeat: the daemon is not at work), as expected" in found
    assert f"{line}: redirected to port 17001, where nothing listens yet" in found
    assert site.outbound(4, 80) == "direct outside", "the probes have withdrawn their heartbeats"
    assert not [line for line in found if "inbound" in line]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_daemon_that_listens_and_sends_no_heartbeat_is_a_fault(site, writer):
    apply(site, writer)
    site.silence()
    found = lines(site)
    assert found[1].startswith(
        "FAIL  heartbeat does not arrive, so nothing is redirected: port 16001 and 16006 is open"
    )
    assert len(found) == 2
    with pytest.raises(NetfilterError, match="the earlier rules are back: heartbeat does not arrive") as caught:
        apply(site, writer)
    assert caught.value.exit_code == 1, "nobody was redirected, so it may be tried again"


def test_ipv6_that_is_not_redirected_is_said(site):
    apply(site, "iptables-nft", ipv6=False)
    found = lines(site, ipv6=False)
    assert not [line for line in found if "::" in line]
    assert not [line for line in found if line.startswith("FAIL")]


def test_no_rules_and_other_rules_fail_before_any_probe(site):
    assert lines(site) == ["FAIL  rules     no rules of sp_proxy in the kernel: run sp-proxy netfilter apply"]
    apply(site, "nft", outbound_exclude_ports=[5432])
    (line,) = lines(site)
    assert line.startswith("FAIL  rules     nft: chain outbound: not in the settings: tcp dport 5432 counter return")
    apply(site, "nft")
    site.pod.run("nft", "insert", "rule", "inet", "sp_proxy", "outbound", "accept")
    assert lines(site)[0].startswith("FAIL  rules     nft: chain outbound: not in the settings: counter accept")


@pytest.mark.parametrize("writer", WRITERS)
def test_somebody_elses_rules_before_ours_fail_the_probe(site, writer):
    apply(site, writer)
    thief = "table inet thief { chain o { type nat hook output priority -150; tcp dport 9 redirect to :8080; }; }"
    site.pod.run("nft", "-f", "-", stdin=thief)
    failed = [line for line in lines(site) if line.startswith("FAIL")]
    assert len(failed) == 4
    assert failed[0] == (
        "FAIL  outbound  to 192.0.2.1:9 as user 0: expected: redirect to port 16001 (all outbound); no rule counted it"
    )


def test_a_firewall_before_the_daemons_port_fails_the_probe(site):
    apply(site, "nft")
    drop = "table inet wall { chain i { type filter hook input priority 0; tcp dport 16006 drop; }; }"
    site.pod.run("nft", "-f", "-", stdin=drop)
    failed = [line for line in lines(site) if line.startswith("FAIL")]
    assert len(failed) == 2
    assert failed[0].endswith(
        "redirected to port 16006, but no answer came from there: is a firewall in between (docs/hosts.md)?"
    )


WALL = """table inet filter { chain input { type filter hook input priority 0; policy drop
    iifname lo accept
    meta l4proto { icmp, ipv6-icmp } accept
    ct state established,related accept
    tcp dport 8080 accept
}; }"""
"""As hosts have one: a port is open, all else is dropped."""
OTHER_WALL = """*filter
:INPUT DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p {icmp} -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 8080 -j ACCEPT
COMMIT
"""


def opened(tool: str) -> list[list[str]]:
    """What the page types to accept what is redirected."""
    section = (Path(__file__).parents[2] / "docs" / "hosts.md").read_text("utf-8").partition("## With a firewall")[2]
    found = re.findall(rf"^sudo ({tool} .*)$", section.partition("\n## ")[0], re.MULTILINE)
    assert found
    return [line.split() for line in found]


@pytest.mark.parametrize("tool, writer", [("nft", "nft"), ("ip6?tables", "iptables-nft")])
def test_behind_a_firewall_what_the_page_says_opens_the_named_port_and_no_other(site, tool, writer):
    if tool == "nft":
        site.pod.run("nft", "-f", "-", stdin=WALL)
    else:
        site.pod.run("iptables-nft-restore", stdin=OTHER_WALL.format(icmp="icmp"))
        site.pod.run("ip6tables-nft-restore", stdin=OTHER_WALL.format(icmp="ipv6-icmp"))
    keys = {"inbound_include_ports": [8080]}
    with pytest.raises(NetfilterError, match=r"they are removed again: inbound .* is a firewall in between") as caught:
        apply(site, writer, **keys)
    assert caught.value.exit_code == install.HARMFUL
    assert site.inbound(4, 8080) == "direct pod"
    for command, *words in opened(tool):
        site.pod.run(command.replace("tables", "tables-nft"), *words)
    apply(site, writer, **keys)
    for family in (4, 6):
        assert site.inbound(family, 8080).startswith("16006 ")
        for closed in (80, 16006):
            with pytest.raises(TimeoutError):
                site.outside.call(partial(probe, site.pod.ipv4 if family == 4 else site.pod.ipv6, closed))


def probe(address: str, port: int) -> None:
    """A firewall that drops does not answer."""
    socket.create_connection((address, port), 0.5).close()


def test_without_a_route_outbound_is_skipped_with_the_reason(site):
    apply(site, "nft")
    site.pod.run("ip", "-6", "route", "delete", "default")
    assert "skip  outbound  IPv6: no route to 2001:db8::1: nothing leaves this host" in lines(site)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_host_without_ipv6_addresses_is_probed_in_ipv4(site, writer):
    for interface in ("all", "default"):
        path = Path("/proc/sys/net/ipv6/conf", interface, "disable_ipv6")
        site.pod.call(partial(path.write_text, "1", "ascii"))
    apply(site, writer)
    found = lines(site)
    assert not [line for line in found if "::" in line or not line.startswith("ok")]
    assert "ok    inbound   from 198.51.100.2 to 198.51.100.1:9: redirected to port 16006, which answered" in found
