import itertools
import json
from ipaddress import ip_interface

import pytest

from sp_proxy.demo import layout
from sp_proxy.demo.layout import CALLS, Layout
from sp_proxy.demo.shop.report import CUSTOMERS
from sp_proxy.settings.load import load

PORTS = dict(zip(CALLS, (9001, 9002, 9003), strict=True))


def layouts() -> dict[str, Layout]:
    ports = itertools.count(7000)
    return {"transparent": layout.transparent(), "forwarding": layout.forwarding(4999, PORTS, lambda: next(ports))}


@pytest.fixture(params=["transparent", "forwarding"])
def plan(request) -> Layout:
    return layouts()[request.param]


def test_every_daemon_would_start(plan, tmp_path):
    for member in plan.members:
        file = tmp_path / "c.yaml"
        file.write_text(json.dumps(member.settings))
        loaded = load(file, {}, {})
        assert loaded.warnings == []
        assert loaded.settings.service_name == member.name
        assert loaded.settings.spool.mode == "off"
        assert (loaded.settings.admin.listen.host, loaded.settings.admin.listen.port) == member.admin


def test_every_service_knows_whom_it_calls(plan):
    assert {member.name: tuple(member.peers) for member in plan.members} == CALLS


def test_every_talking_pair_has_a_wire_of_its_own():
    wires = layout.wires()
    pairs = {(wire.left, wire.right) for wire in wires}
    assert pairs == {("orders", CUSTOMERS), ("orders", "inventory"), ("orders", "payment")}
    networks = [ip_interface(f"{wire.left_address}/30").network for wire in wires]
    assert len(set(networks)) == len(wires)
    for wire, network in zip(wires, networks, strict=True):
        assert ip_interface(f"{wire.right_address}/30").network == network


def test_in_pods_names_lead_to_the_pods_themselves():
    plan = layouts()["transparent"]
    wires = {(wire.left, wire.right): wire for wire in layout.wires()}
    orders = plan.members[0]
    assert orders.peers == {
        name: (wires["orders", name].right_address, layout.APPLICATION_PORT) for name in ("inventory", "payment")
    }
    assert plan.entry == (wires["orders", CUSTOMERS].left_address, layout.APPLICATION_PORT)


def test_forwarding_chains_the_listeners():
    plan = layouts()["forwarding"]
    forward = {member.name: member.settings["listen"]["forward"] for member in plan.members}
    inbound = {name: listeners[0] for name, listeners in forward.items()}
    assert {name: each["upstream"] for name, each in inbound.items()} == {n: f"127.0.0.1:{p}" for n, p in PORTS.items()}
    assert f"{plan.entry[0]}:{plan.entry[1]}" == inbound["orders"]["listen"]
    for (name, (host, port)), outbound in zip(plan.members[0].peers.items(), forward["orders"][1:], strict=True):
        assert outbound == {
            "listen": f"{host}:{port}",
            "upstream": inbound[name]["listen"],
            "direction": "outbound",
        }
    assert forward["inventory"][1:] == forward["payment"][1:] == []
