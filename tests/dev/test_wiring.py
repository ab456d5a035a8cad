import ipaddress
import os
import socket
import subprocess
import sys

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
