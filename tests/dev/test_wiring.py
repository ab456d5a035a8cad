import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sp_proxy.demo import runs
from sp_proxy.dev import wiring
from sp_proxy.dev.errors import DevError
from sp_proxy.dev.wiring import PREFIX, Wiring, free_network, nat_rules
from tests.netns import Namespace, link
from tests.requirements import require_root_tools


def test_a_network_that_nobody_knows():
    require_root_tools("ip")
    with Namespace("routes") as namespace:
        namespace.run("ip", "address", "add", "10.213.7.1/25", "dev", "lo")
        assert inside(namespace, "print(wiring.free_network(7))") == "10.213.8.0/24"


def inside(namespace: Namespace, code: str) -> str:
    """Run code of ours in a namespace; what it printed."""
    done = namespace.run(sys.executable, "-c", f"from sp_proxy.dev import wiring\n{code}", timeout=60)
    return done.stdout.strip()


def switch_off(namespace: Namespace) -> None:
    """Forwarding, which a new namespace has as the first one of the machine."""
    namespace.call(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("0"))


def test_addresses_and_names_fit(monkeypatch):
    require_root_tools("ip")
    wires = Wiring()
    addresses = [(wires.gateway(index), wires.address(index)) for index in range(50)]
    assert len({each for pair in addresses for each in pair}) == 100
    for gateway, address in addresses:
        network = ipaddress.IPv4Interface(f"{gateway}/30").network
        assert ipaddress.IPv4Address(address) in network.hosts()
        assert network.subnet_of(wires.network)
    monkeypatch.setattr(os, "getpid", lambda: 4194304)
    assert len(wires.interface(49)) <= 15


def test_the_way_out_and_nothing_of_it_remains():
    require_root_tools("ip", "nft")
    with Namespace("here") as here, Namespace("apart") as apart, Namespace("world") as world:
        link(here, world)
        switch_off(here)
        server = world.call(lambda: socket.create_server(("", 0)))
        port = server.getsockname()[1]
        code = f"""
import subprocess, sys
wires = wiring.Wiring()
wires.connect(0, {apart.name!r})
wires.open_outside()
print(wires.gateway(0), flush=True)
sys.stdin.readline()
wires.close()
wires.close()
subprocess.run(["ip", "link", "delete", wires.interface(0)], check=True)
"""
        process = here.popen(
            sys.executable,
            "-c",
            f"from sp_proxy.dev import wiring\n{code}",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline().startswith("10.213.")
        client = apart.call(lambda: socket.create_connection((world.ipv4, port), 30))
        accepted, address = server.accept()
        assert address[0] == here.ipv4  # NAT: the world knows this machine only
        for each in (client, accepted, server):
            each.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(60) == 0
        assert PREFIX not in here.run("nft", "list", "ruleset").stdout
        assert "spd" not in here.run("ip", "-br", "link").stdout
        process.stdout.close()
        assert inside(here, "print(wiring._FORWARDING.read_text(), wiring._marker().exists())").split() == [
            "0",
            "False",
        ]


def test_forwarding_stays_on_until_the_last_run_ends():
    require_root_tools("ip", "nft")
    code = f"""
import os
wiring._marker().mkdir()
(wiring._marker() / "{PREFIX}-1-{{}}".format(open("/proc/1/stat").read().rpartition(")")[2].split()[19])).touch()
(wiring._marker() / "{PREFIX}-{{}}-1".format(os.getpid())).touch()
wires = wiring.Wiring()
wires.open_outside()
on = wiring._FORWARDING.read_text()
wires.close()
print(on, wiring._FORWARDING.read_text(), len(list(wiring._marker().iterdir())))
for path in wiring._marker().iterdir():
    path.unlink()
wiring.sweep()
print(wiring._FORWARDING.read_text(), wiring._marker().exists())
"""
    with Namespace("forwarding") as namespace:
        switch_off(namespace)
        assert inside(namespace, code).split() == ["1", "1", "1", "0", "False"]


def test_a_firewall_that_lets_nothing_through_lets_a_run_through():
    require_root_tools("ip", "nft", "iptables")
    code = """
wires = wiring.Wiring()
wires.open_outside()
import subprocess
print(subprocess.run(["iptables", "-w", "-S"], capture_output=True, text=True).stdout)
wires.close()
print("@@")
print(subprocess.run(["iptables", "-w", "-S"], capture_output=True, text=True).stdout)
"""
    with Namespace("closed") as namespace:
        for chain in ("FORWARD", "INPUT"):
            namespace.run("iptables", "-w", "-P", chain, "DROP")
        during, _, after = inside(namespace, code).partition("@@")
    assert during.count("-A FORWARD") == 2
    assert during.count("--dport 53") == 2
    assert "-A" not in after


def test_left_over_rules_of_iptables_are_swept():
    require_root_tools("ip", "nft", "iptables")
    ended = f"{PREFIX}-{os.getpid()}-1"
    with Namespace("rules") as namespace:
        for comment in (ended, runs.this_run(PREFIX), "another's"):
            words = ["FORWARD", "-i", "spd1n+", "-m", "comment", "--comment", comment, "-j", "ACCEPT"]
            namespace.run("iptables", "-w", "-I", *words)
        assert "iptables rule in FORWARD" in inside(namespace, "print(wiring.sweep())")
        rules = namespace.run("iptables", "-w", "-S", "FORWARD").stdout
    assert ended not in rules
    assert rules.count("-A ") == 2


def test_the_rules_of_nat():
    text = nat_rules("spdev_1_2", ipaddress.IPv4Network("10.213.4.0/24"))
    assert "table ip spdev_1_2" in text
    assert "ip saddr 10.213.4.0/24 ip daddr != 10.213.4.0/24 masquerade" in text


def test_left_over_tables_are_swept_and_those_of_runs_that_run_are_not():
    require_root_tools("nft", "ip")
    ours, ended = (name.replace("-", "_") for name in (runs.this_run(PREFIX), f"{PREFIX}-{os.getpid()}-1"))
    with Namespace("swept") as namespace:
        for table in (ours, ended, "other"):
            namespace.run("nft", "add", "table", "ip", table)
        removed = inside(namespace, "print(wiring.sweep())")
        tables = namespace.run("nft", "list", "tables").stdout
    assert f"nftables table {ended}" in removed
    assert ended not in tables
    assert ours in tables
    assert "other" in tables


def test_missing_tools_are_named_with_their_packages(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert wiring.missing_tools() == wiring.TOOLS


def test_no_network_is_free(monkeypatch):
    monkeypatch.setattr(wiring, "run_tool", lambda *_: '[{"dst": "default"}, {"dst": "10.0.0.0/8"}]')
    with pytest.raises(DevError, match="no network is free"):
        free_network(1)
