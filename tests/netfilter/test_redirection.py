"""The kernel does what the rules say: real connections between namespaces, with every writer, over both IP versions."""

import os
import pwd
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from sp_proxy.netfilter.probes import heartbeat, route_interface
from tests.netfilter.conftest import BEAT_INTERVAL_SECONDS, DAEMON_USER, HEARTBEAT_PORT, OUTSIDE, ask
from tests.netfilter.installed import families, install, pod_address, uninstall, writers
from tests.requirements import unavailable


@writers
@families
def test_both_directions_are_redirected_with_their_original_destination(site, writer, family):
    install(site, writer)
    assert site.inbound(family, 8080) == f"16006 {pod_address(site, family)} 8080"
    assert site.outbound(family, 80) == f"16001 {OUTSIDE[family]} 80"


@writers
@families
def test_without_rules_and_after_removal_nothing_is_redirected(site, writer, family):
    assert site.inbound(family, 8080) == "direct pod"
    install(site, writer)
    uninstall(site)
    assert site.inbound(family, 8080) == "direct pod"
    assert site.outbound(family, 80) == "direct outside"


@writers
@families
def test_what_stays_in_the_pod_is_untouched(site, writer, family):
    install(site, writer)
    assert site.outbound(family, 8080, "127.0.0.1" if family == 4 else "::1") == "direct pod"
    assert site.outbound(family, 8080, pod_address(site, family)) == "direct pod"


@writers
@families
def test_only_the_daemons_user_and_excluded_users_bypass(site, writer, family):
    install(site, writer, outbound_exclude_users=["daemon", 4242])
    for user in (1338, 4242, pwd.getpwnam("daemon").pw_uid):
        assert site.outbound(family, 80, user=user) == "direct outside"
    assert site.outbound(family, 80, user=1339) == f"16001 {OUTSIDE[family]} 80"


@writers
@families
def test_ports_are_included_and_excluded(site, writer, family):
    install(
        site,
        writer,
        inbound_include_ports=["8000-8100"],
        outbound_exclude_ports=[*range(6000, 6020, 2), "5000-5500", 7000, 7002, 7004],
    )
    assert site.inbound(family, 8080) == f"16006 {pod_address(site, family)} 8080"
    assert site.inbound(family, 80) == "direct pod"
    assert site.outbound(family, 80) == f"16001 {OUTSIDE[family]} 80"
    assert site.outbound(family, 5432) == "direct outside"


@writers
@families
def test_networks_are_excluded(site, writer, family):
    outside = [site.outside.ipv4, site.outside.ipv6]
    install(
        site,
        writer,
        inbound_exclude_cidrs=outside,
        outbound_exclude_cidrs=["192.168.0.0/16", "172.20.0.1", "fd99::/16"],
    )
    assert site.inbound(family, 8080) == "direct pod"
    assert site.outbound(family, 80) == "direct outside"
    other = outside[0] if family == 4 else outside[1]
    assert site.outbound(family, 80, other) == f"16001 {other} 80"


@writers
@families
def test_networks_are_included(site, writer, family):
    install(site, writer, outbound_include_cidrs=["172.16.0.0/12", "fd99::/64"], outbound_include_ports=[80])
    assert site.outbound(family, 80) == f"16001 {OUTSIDE[family]} 80"
    assert site.outbound(family, 8080) == "direct outside"
    assert site.outbound(family, 80, site.outside.ipv4 if family == 4 else site.outside.ipv6) == "direct outside"


@writers
def test_a_whole_ip_version_is_included_or_left_alone(site, writer):
    install(site, writer, outbound_include_cidrs=["::/0"], inbound_exclude_cidrs=["0.0.0.0/0"])
    assert site.outbound(4, 80) == "direct outside"
    assert site.outbound(6, 80) == f"16001 {OUTSIDE[6]} 80"
    assert site.inbound(4, 80) == "direct pod"
    assert site.inbound(6, 80).startswith("16006 ")
    install(site, writer, ipv6=False)
    assert site.outbound(4, 80).startswith("16001 ")
    assert site.outbound(6, 80) == "direct outside"
    assert site.inbound(6, 80) == "direct pod"


@writers
@families
def test_the_daemons_own_ports_are_never_redirected(site, writer, family):
    install(site, writer)
    address = pod_address(site, family)
    assert site.inbound(family, 16001) == f"16001 {address} 16001", "its own address: the daemon closes it"
    assert site.outbound(family, 16006) == "direct outside"


@writers
@families
def test_one_direction_alone(site, writer, family):
    install(site, writer, mode="inbound-only")
    assert site.inbound(family, 80).startswith("16006 ")
    assert site.outbound(family, 80) == "direct outside"
    install(site, writer, mode="outbound-only")
    assert site.inbound(family, 80) == "direct pod"
    assert site.outbound(family, 80).startswith("16001 ")


@writers
def test_what_is_routed_through_is_not_inbound(site, writer):
    """The pod as a router: what it forwards is not addressed to it."""
    install(site, writer)
    site.pod.call(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1", "ascii"))
    site.outside.run("ip", "route", "add", "203.0.113.9", "via", site.pod.ipv4)
    site.pod.run("ip", "route", "add", "unreachable", "203.0.113.9")
    with pytest.raises(OSError, match="No route to host"):
        site.outside.call(partial(ask, "203.0.113.9", 80))


@writers
@families
def test_redirected_is_only_while_heartbeats_arrive(site, writer, family):
    site.silence()
    install(site, writer, heartbeat={"timeout": "1s"})
    site.pod.call(partial(heartbeat, HEARTBEAT_PORT + 1, DAEMON_USER))

    def paths() -> tuple[str, str]:
        return site.inbound(family, 8080).split()[0], site.outbound(family, 80).split()[0]

    assert paths() == ("direct", "direct")
    for _ in range(2):
        site.beat()
        assert paths() == ("16006", "16001")
        site.pod.call(partial(heartbeat, HEARTBEAT_PORT + 1, DAEMON_USER))
        assert paths() == ("direct", "direct")
        site.beat()
        assert paths() == ("16006", "16001")
        began = time.monotonic()
        while paths() != ("direct", "direct"):
            assert time.monotonic() < began + 3
        site.pod.call(partial(heartbeat, HEARTBEAT_PORT, DAEMON_USER + 1))
        assert paths() == ("direct", "direct"), "nobody else's heartbeat counts"


@writers
def test_without_the_heartbeat_setting_the_rules_redirect_in_any_case(site, writer):
    site.silence()
    install(site, writer, heartbeat={"enabled": False})
    assert site.outbound(4, 80).startswith("16001 ")
    assert site.inbound(6, 80).startswith("16006 ")


@writers
def test_heartbeats_come_and_go_as_often_as_they_like(site, writer):
    """The set has room for what is withdrawn and not collected yet; after very many in a second, one of the next counts."""
    site.silence()
    install(site, writer, heartbeat={"timeout": "60s"})

    def often(times: int) -> None:
        for _ in range(times):
            heartbeat(HEARTBEAT_PORT + 1, DAEMON_USER)
            heartbeat(HEARTBEAT_PORT, DAEMON_USER)

    site.pod.call(partial(often, 10))
    assert site.outbound(4, 80).startswith("16001 ")
    assert site.outbound(6, 80).startswith("16001 ")
    site.pod.call(partial(often, 300))
    deadline = time.monotonic() + 30
    while not (site.outbound(4, 80).startswith("16001 ") and site.outbound(6, 80).startswith("16001 ")):
        assert time.monotonic() < deadline
        time.sleep(BEAT_INTERVAL_SECONDS)
        site.beat()


@writers
@families
def test_interfaces_users_and_groups(site, writer, family):
    interface = site.pod.call(lambda: route_interface(OUTSIDE[family]))
    install(site, writer, inbound_exclude_interfaces=[interface], outbound_exclude_interfaces=[interface, "other0"])
    assert site.inbound(family, 80) == "direct pod"
    assert site.outbound(family, 80) == "direct outside"
    install(site, writer, inbound_include_interfaces=["other0"], outbound_include_interfaces=["other0"])
    assert site.inbound(family, 80) == "direct pod"
    assert site.outbound(family, 80) == "direct outside"
    install(
        site,
        writer,
        inbound_include_interfaces=[interface],
        outbound_include_users=[1001],
        outbound_include_groups=[1001],
    )
    assert site.inbound(family, 80).startswith("16006 ")
    assert site.outbound(family, 80) == "direct outside"
    assert site.outbound(family, 80, user=1001).startswith("16001 ")
    install(site, writer, outbound_exclude_groups=[1001, 1002])
    assert site.outbound(family, 80, user=1001) == "direct outside"
    assert site.outbound(family, 80).startswith("16001 ")


def test_control_groups(site):
    """In a mount namespace where version 2 is where nft looks for it."""
    group = f"sp-proxy-test-{os.getpid()}"
    installing = (
        "import os, sys; os.unshare(os.CLONE_NEWNS); import subprocess as s\n"
        "s.run(['mount', '--make-rprivate', '/'], check=True)\n"
        "s.run(['mount', '-t', 'cgroup2', 'none', '/sys/fs/cgroup'], check=True)\n"
        "s.run(sys.argv[1:], check=True)\n"
    )
    entering = f'echo $$ > "/sys/fs/cgroup/{group}/app/cgroup.procs" && '
    program = [sys.executable, "-c", installing]
    made = site.pod.run(*program, "mkdir", "-p", f"/sys/fs/cgroup/{group}/app", check=False)
    if made.returncode:
        unavailable(f"no control groups of version 2 here: {made.stderr.strip().splitlines()[-1]}")
    ask_outside = f"exec 3<>/dev/tcp/{OUTSIDE[4]}/80; cat <&3"
    try:
        keys = f"netfilter.outbound_exclude_cgroups=[{group}]"
        command = ["-m", "sp_proxy.cli.main", "netfilter"]
        site.pod.run(*program, sys.executable, *command, "apply", "--writer", "nft", "--set", keys)
        verified = site.pod.run(*program, sys.executable, *command, "verify", "--set", keys)
        assert "FAIL" not in verified.stdout
        assert site.outbound(4, 80).startswith("16001 ")
        inside = site.pod.run(*program, "bash", "-c", entering + ask_outside)
        assert inside.stdout == "direct outside"
    finally:
        site.pod.run(*program, "rmdir", f"/sys/fs/cgroup/{group}/app", f"/sys/fs/cgroup/{group}")


def test_a_control_group_that_is_not_there_is_named(site):
    """Whoever chooses: iptables, which could not have such rules at all, is not blamed for it."""
    command = [sys.executable, "-m", "sp_proxy.cli.main", "netfilter", "apply"]
    keys = "netfilter.outbound_exclude_cgroups=[sp-proxy-test-nowhere.slice]"
    for more in ([], ["--writer", "nft"]):
        done = site.pod.run(*command, *more, "--set", keys, check=False)
        (line,) = done.stderr.splitlines()
        assert "nft: the control group sp-proxy-test-nowhere.slice is not there: start what runs in it" in line
        assert done.returncode


@writers
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_connections_from_before_the_first_rules_go_on(site, writer, direction):
    """Where no rule has asked for it yet, no connection is tracked, and the next packet of an old one looks like the first."""
    if direction == "outbound":
        near, far, address = site.pod, site.outside, OUTSIDE[4]
    else:
        near, far, address = site.outside, site.pod, site.pod.ipv4
    with far.call(partial(socket.create_server, (address, 9999))) as listening:
        client = near.call(partial(socket.create_connection, (address, 9999), 5))
        server, _ = listening.accept()
        server.settimeout(5)
        with client, server:
            install(site, writer)
            for sender, receiver in ((client, server), (server, client)):
                sender.sendall(b"still here")
                assert receiver.recv(100) == b"still here"
