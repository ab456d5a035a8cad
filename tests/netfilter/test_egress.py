"""What the daemon may open where it is limited: as values, and as the kernel has it with every writer."""

import socket
from functools import partial
from ipaddress import ip_address

import pytest

from sp_proxy.netfilter import install, iptables, nft, probes
from sp_proxy.netfilter.egress import egress_rules
from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.probes import Answer
from sp_proxy.netfilter.rules import Bypass, Chain, Connection, NetfilterError, Refuse, Ruleset
from sp_proxy.netfilter.system import addresses, find_tools, read_state
from sp_proxy.settings.model import SettingsModel
from tests.netfilter.conftest import DAEMON_USER, OUTSIDE, Site

WRITERS = ["nft", "iptables-nft", "iptables-legacy"]
IDS = Ids(int, int, {"backend.example": ("203.0.113.5", "2001:db8:1::5"), "app.example": ("198.51.100.9",)}.__getitem__)


def settings(**values) -> SettingsModel:
    netfilter = {"restrict_egress": True, **values.pop("netfilter", {})}
    return SettingsModel.model_validate(
        {"sp_backend_url": "https://backend.example", "public_key": "k", "netfilter": netfilter} | values
    )


def rules(**values) -> Ruleset:
    return Ruleset("standalone", tuple(egress_rules(settings(**values), IDS, DAEMON_USER)))


def decided(ruleset: Ruleset, address: str, port: int = 80, **parts) -> str:
    connection = Connection(
        Chain.EGRESS, ip_address("10.0.0.1"), ip_address(address), port, **{"user": DAEMON_USER, **parts}
    )
    rule = ruleset.decide(connection)
    return "" if rule is None else str(rule.action)


# ---- values


@pytest.mark.parametrize(
    "address, port, parts, action",
    [
        ("203.0.113.5", 443, {}, "bypass"),
        ("2001:db8:1::5", 443, {}, "bypass"),
        ("203.0.113.5", 80, {}, "refuse"),
        ("203.0.113.5", 443, {"protocol": "udp"}, "refuse"),
        ("192.0.2.53", 53, {}, "bypass"),
        ("192.0.2.53", 53, {"protocol": "udp"}, "bypass"),
        ("10.0.0.1", 8080, {"interface": "lo"}, "bypass"),
        ("192.0.2.7", 80, {}, "refuse"),
        ("192.0.2.7", 80, {"relayed": True}, "bypass"),
        ("192.0.2.7", 80, {"relayed": True, "protocol": "udp"}, "refuse"),
        ("192.0.2.7", 80, {"protocol": "icmp"}, "refuse"),
        ("192.0.2.7", 80, {"user": 1000}, ""),
    ],
)
def test_what_the_daemon_may_and_what_not(address, port, parts, action):
    assert decided(rules(), address, port, **parts) == action


def test_off_there_are_no_rules():
    assert rules(netfilter={"restrict_egress": False}).rules == ()


def test_each_backend_with_its_port_and_none_on_this_host():
    exporters = [
        {"type": "softprobe"},
        {"type": "otlp", "name": "a", "url": "http://app.example:4318"},
        {"type": "otlp", "name": "b", "url": "http://127.0.0.1:4318"},
        {"type": "stdout"},
    ]
    ruleset = rules(exporters=exporters)
    assert decided(ruleset, "203.0.113.5", 443) == decided(ruleset, "198.51.100.9", 4318) == "bypass"
    assert decided(ruleset, "203.0.113.5", 4318) == decided(ruleset, "198.51.100.9", 443) == "refuse"


def test_networks_instead_of_names_a_proxy_instead_of_backends_and_fixed_upstreams():
    ruleset = rules(netfilter={"backend_cidrs": ["192.0.2.0/24"]})
    assert decided(ruleset, "192.0.2.200", 443) == "bypass"
    assert decided(ruleset, "203.0.113.5", 443) == "refuse"
    ruleset = rules(upload={"proxy": "http://app.example:3128"})
    assert decided(ruleset, "198.51.100.9", 3128) == "bypass"
    assert decided(ruleset, "203.0.113.5", 443) == "refuse"
    forward = [{"listen": 80, "upstream": "app.example:3000"}, {"listen": 81, "upstream": "127.0.0.1:3000"}]
    ruleset = rules(listen={"forward": forward})
    assert decided(ruleset, "198.51.100.9", 3000) == "bypass"


@pytest.mark.parametrize(
    "values, daemon, message",
    [
        ({"listen": {"proxy": 3128}}, DAEMON_USER, "cannot work with listen.proxy"),
        ({}, 0, "would limit all of root"),
    ],
)
def test_what_cannot_work_is_refused(values, daemon, message):
    with pytest.raises(NetfilterError, match=message):
        egress_rules(settings(**values), IDS, daemon)


def test_a_name_without_an_address_is_told_with_the_remedy():
    with pytest.raises(NetfilterError, match=r"no-such-host.invalid has no address here .* netfilter.backend_cidrs"):
        addresses("no-such-host.invalid")
    assert "127.0.0.1" in addresses("localhost")


def test_the_last_rules_refuse_all_of_the_daemons():
    ruleset = rules()
    assert [type(rule.action) for rule in ruleset.rules[-3:]] == [Refuse] * 3
    assert all(rule.match.users == (DAEMON_USER,) for rule in ruleset.rules)
    assert ruleset.restricts


def test_nft_judges_before_addresses_are_translated_and_iptables_sends_to_a_closed_port():
    text = nft.render(rules())
    assert "type filter hook output priority -150; policy accept;" in text
    assert 'ct state established,related counter return comment "goes on"' in text
    lines = iptables.render(rules(), 6).splitlines()
    assert lines[-3].endswith("-j DNAT --to-destination ::1")
    assert lines[-2] == "-I OUTPUT 1 -j SP_PROXY_EGRESS"


def test_noted_destinations_go_over_into_the_next_version():
    listing = """{"nftables": [{"set": {"name": "relayed4", "timeout": 3600, "elem": [
        {"elem": {"val": {"concat": ["192.0.2.7", 80]}, "expires": 9}}]}}, {"set": {"name": "alive"}}]}"""
    assert "elements = { 192.0.2.7 . 80 }" in nft.render(rules(), listing)
    assert "elements" not in nft.render(rules(netfilter={"restrict_egress": False}), listing)


# ---- the kernel

BACKEND = {4: "172.20.0.9", 6: "fd99::9"}
LIMITED = {"restrict_egress": True, "backend_cidrs": list(BACKEND.values())}


def limited(**netfilter) -> SettingsModel:
    return SettingsModel.model_validate(
        {"sp_backend_url": "http://backend.example:8080", "public_key": "k", "netfilter": LIMITED | netfilter}
    )


def apply(site: Site, writer: str, **netfilter) -> None:
    site.pod.call(lambda: install.prepare_apply(limited(**netfilter), writer, check=False).run())
    site.beat()


def answer(site: Site, address: str, port: int, user: int | None = DAEMON_USER) -> Answer:
    return site.pod.call(partial(probes.connect, address, port, 3.0, user=user))


def sends_udp(site: Site, address: str, port: int) -> bool:
    """Whether a datagram of the daemon's is let go; what is refused is told at the next one."""

    def send() -> bool:
        with probes._as_user(DAEMON_USER):
            sender = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.settimeout(0.3)
            try:
                sender.connect((address, port))
                sender.send(b"x")
                sender.recv(10)
            except TimeoutError:
                return True
            except OSError:
                return False
        return True

    return site.pod.call(send)


@pytest.fixture
def backend(site: Site) -> Site:
    """The backend's address is outside too."""
    for family, length in ((4, 32), (6, 128)):
        site.outside.run("ip", "address", "add", f"{BACKEND[family]}/{length}", "dev", "lo")
    # What nobody listens for is not answered: a datagram that arrives is not refused by its destination.
    site.outside.run("nft", "add table inet quiet; add chain inet quiet in { type filter hook input priority 0; }")
    site.outside.run("nft", "add rule inet quiet in meta l4proto udp drop")
    return site


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("family", [4, 6])
def test_only_what_it_needs(backend: Site, writer: str, family: int):
    site, loopback = backend, "127.0.0.1" if family == 4 else "::1"
    apply(site, writer)
    refused = {Answer.REFUSED, Answer.UNREACHABLE}
    assert answer(site, OUTSIDE[family], 80) in refused
    assert answer(site, BACKEND[family], 80) in refused
    assert answer(site, BACKEND[family], 8080) is Answer.CONNECTED
    assert answer(site, loopback, 8080) is Answer.CONNECTED
    assert answer(site, site.pod.ipv4 if family == 4 else site.pod.ipv6, 8080) is Answer.CONNECTED
    assert sends_udp(site, OUTSIDE[family], 53)
    assert not sends_udp(site, OUTSIDE[family], 5353)
    # Others are not limited, but redirected; and where they were going the daemon may go.
    assert site.outbound(family, 80) == f"16001 {OUTSIDE[family]} 80"
    assert answer(site, OUTSIDE[family], 80) is Answer.CONNECTED
    if writer == "nft":
        assert answer(site, OUTSIDE[family], 5432) in refused, "not that port"
    # Again, and without: what was noted stays, and nothing else of it does.
    apply(site, writer)
    assert answer(site, OUTSIDE[family], 80) is Answer.CONNECTED
    apply(site, writer, restrict_egress=False)
    assert answer(site, OUTSIDE[family], 5432) is Answer.CONNECTED


@pytest.mark.parametrize("writer", WRITERS)
def test_verify_tries_it_and_sees_when_it_is_gone(backend: Site, writer: str):
    site = backend
    apply(site, writer)

    def verified() -> list[str]:
        return [str(result) for result in install.verify(limited(), None)]

    lines = site.pod.call(verified)
    assert [line for line in lines if not line.startswith("ok")] == []
    assert "ok    egress    to 192.0.2.2:9 as user 1338: refused (restrict_egress), as expected" in lines
    assert (
        "ok    outbound  to 192.0.2.1:9 as user 1338: bypassed (connections of the daemon itself), as expected" in lines
    )
    apply(site, writer, restrict_egress=False)
    assert any("FAIL  rules" in line for line in site.pod.call(verified))


@pytest.mark.parametrize("writer", WRITERS)
def test_connections_that_are_there_go_on(backend: Site, writer: str):
    site = backend
    listening = site.outside.call(partial(socket.create_server, (OUTSIDE[4], 9999)))
    with listening:
        client = site.pod.call(lambda: _connect_as(DAEMON_USER, (OUTSIDE[4], 9999)))
        server, _ = listening.accept()
        with client, server:
            apply(site, writer)
            client.sendall(b"still")
            assert server.recv(10) == b"still"
            server.sendall(b"here")
            assert client.recv(10) == b"here"


def _connect_as(user: int, address: tuple[str, int]) -> socket.socket:
    with probes._as_user(user):
        client = socket.socket()
    client.settimeout(5)
    client.connect(address)
    return client


def test_without_ipv6_iptables_would_leave_a_hole(site: Site):
    with pytest.raises(NetfilterError, match="needs nft: iptables would leave IPv6 open"):
        site.pod.call(lambda: install.prepare_apply(limited(ipv6=False), "iptables-nft"))
    apply(site, "nft", ipv6=False)
    assert answer(site, OUTSIDE[6], 80) in {Answer.REFUSED, Answer.UNREACHABLE}


def test_remove_leaves_nothing(site: Site):
    for writer in WRITERS:
        apply(site, writer)
    site.pod.call(lambda: install.prepare_remove().run())
    assert site.pod.call(lambda: read_state(find_tools()).writers()) == ()
    assert answer(site, OUTSIDE[4], 80) is Answer.CONNECTED
    assert isinstance(rules().rules[0].action, Bypass)
