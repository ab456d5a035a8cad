"""The kernel does what the rules say: real connections between namespaces, with every writer, over both IP versions."""

import os
import pwd
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from sp_proxy.netfilter.plan import Command, State, differences, plan_apply, plan_remove
from sp_proxy.netfilter.probes import heartbeat, route_interface
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.netfilter.standalone import standalone_rules
from sp_proxy.netfilter.system import (
    IDS,
    Tools,
    apply,
    choose_writer,
    find_tools,
    kernel_families,
    read_state,
    require_net_admin,
    run,
    user_id,
)
from sp_proxy.settings.model import SettingsModel
from tests.netfilter.conftest import DAEMON_USER, HEARTBEAT_PORT, OUTSIDE, Site, ask
from tests.requirements import unavailable

WRITERS = ["nft", "iptables-nft", "iptables-legacy"]
writers = pytest.mark.parametrize("writer", WRITERS)
families = pytest.mark.parametrize("family", [4, 6])


def rules(**netfilter):
    return standalone_rules(SettingsModel.model_validate({"netfilter": netfilter}), IDS)


def install(site: Site, writer: str, **netfilter) -> tuple[Command, ...]:
    """Applies inside the pod; gives the commands that were run, and finds no difference afterwards."""

    def inside() -> tuple[Command, ...]:
        tools, ruleset = find_tools(), rules(**netfilter)
        written = kernel_families() if netfilter.get("ipv6", True) else (4,)
        commands = plan_apply(ruleset, writer, read_state(tools, writer), written)
        apply(commands, writer, tools)
        assert differences(ruleset, writer, read_state(tools), written) == []
        return commands

    commands = site.pod.call(inside)
    site.beat()
    return commands


def uninstall(site: Site) -> tuple[Command, ...]:
    def inside() -> tuple[Command, ...]:
        tools = find_tools()
        commands = plan_remove(read_state(tools))
        apply(commands, "", tools)
        return commands

    return site.pod.call(inside)


def state(site: Site) -> State:
    return site.pod.call(lambda: read_state(find_tools()))


def dump(site: Site) -> str:
    """All rules in the pod, in every form, without counters, comments of time and who is alive."""
    texts = [site.pod.run("nft", "-s", "list", "ruleset").stdout]
    texts += [site.pod.run(f"{tool}-legacy-save", "-t", "nat").stdout for tool in ("iptables", "ip6tables")]
    lines = [
        line for text in texts for line in text.splitlines() if not line.startswith("#") and "elements =" not in line
    ]
    return "\n".join(line.split(" [")[0] if line.startswith(":") else line for line in lines)


def used_before(site: Site, writer: str) -> str:
    """The rules after a first use: iptables keeps the built-in chains that it makes then, in its own order."""
    install(site, writer)
    uninstall(site)
    return dump(site)


def pod_address(site: Site, family: int) -> str:
    return site.pod.ipv4 if family == 4 else site.pod.ipv6


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
def test_apply_twice_is_as_once_and_remove_twice_leaves_nothing(site, writer):
    before = used_before(site, writer)
    install(site, writer)
    once = dump(site)
    install(site, writer)
    assert dump(site) == once
    assert uninstall(site) != ()
    assert dump(site) == before
    assert uninstall(site) == ()
    assert dump(site) == before
    assert "sp_proxy" not in before.lower()


@pytest.mark.parametrize("old", WRITERS)
@pytest.mark.parametrize("new", WRITERS)
def test_apply_replaces_what_any_writer_left(site, old, new):
    install(site, old, outbound_exclude_ports=[80], inbound_exclude_ports=[80])
    assert site.outbound(4, 80) == "direct outside"
    install(site, new)
    assert state(site).writers() == (new,)
    for family in (4, 6):
        assert site.outbound(family, 80).startswith("16001 ")
        assert site.inbound(family, 80).startswith("16006 ")


@pytest.mark.parametrize("writer", ["iptables-nft", "iptables-legacy"])
def test_an_older_version_of_the_chains_goes_and_the_rules_of_others_stay(site, writer):
    older = """*nat
:SP_PROXY_OUT - [0:0]
:SP_PROXY_FORMER - [0:0]
:OTHERS - [0:0]
-A OUTPUT -p tcp -j OTHERS
-A OUTPUT -p tcp -j SP_PROXY_OUT
-A OUTPUT -p tcp -m multiport --dports 1,2 -j SP_PROXY_OUT
-A SP_PROXY_OUT -p tcp -j SP_PROXY_FORMER
-A SP_PROXY_FORMER -p tcp -j RETURN
-A OTHERS -p udp -m comment --comment "not of sp-proxy" -j RETURN
COMMIT
"""
    site.pod.run(f"{writer}-restore", "--noflush", stdin=older)
    install(site, writer)
    saved = site.pod.run(f"{writer}-save", "-t", "nat").stdout
    assert saved.count("-j SP_PROXY_OUT\n") == 1
    assert "FORMER" not in saved
    assert saved.index("-A OUTPUT -p tcp -j SP_PROXY_OUT") < saved.index("-A OUTPUT -p tcp -j OTHERS")
    uninstall(site)
    saved = site.pod.run(f"{writer}-save", "-t", "nat").stdout
    assert "SP_PROXY" not in saved
    assert "-A OTHERS" in saved


def test_an_older_version_of_the_table_goes_whole(site):
    older = "table inet sp_proxy { chain former { type nat hook output priority -90; }; set former { type mark; }; }"
    site.pod.run("nft", "-f", "-", stdin=older)
    install(site, "nft")
    listed = site.pod.run("nft", "list", "table", "inet", "sp_proxy").stdout
    assert "former" not in listed


@writers
def test_the_printed_commands_do_in_a_shell_what_apply_does(site, writer):
    used_before(site, writer)
    commands = install(site, writer)
    applied = dump(site)
    uninstall(site)
    site.pod.run("sh", "-e", stdin="\n".join(map(str, commands)))
    assert dump(site) == applied


@writers
def test_a_failure_of_the_first_command_changes_nothing_and_of_a_later_one_leaves_nothing_redirected(site, writer):
    install(site, writer)
    before = dump(site)
    broken = Command(("nft", "-f", "-"), "add table inet sp_proxy\nnonsense\n")

    def inside(*commands: Command) -> None:
        apply(commands, writer, find_tools())

    with pytest.raises(NetfilterError, match=r"^nft: .*syntax error") as caught:
        site.pod.call(lambda: inside(broken))
    assert "\n" not in str(caught.value)
    assert dump(site) == before
    with pytest.raises(NetfilterError, match="Nothing is redirected now"):
        site.pod.call(lambda: inside(Command(("true",)), broken))
    assert state(site).writers() == ()
    assert site.outbound(4, 80) == "direct outside"


def test_auto_takes_nft_where_it_works_and_else_iptables(site):
    tools = find_tools()
    assert site.pod.call(lambda: choose_writer("auto", tools, rules())) == "nft"
    assert (
        choose_writer("auto", Tools(nft=False, iptables=tools.iptables, default=tools.default), rules())
        == tools.default
    )
    assert choose_writer("iptables", tools, rules()) == tools.default
    assert choose_writer("iptables-legacy", tools, rules()) == "iptables-legacy"


@pytest.mark.parametrize(
    "wanted, package",
    [("auto", "nftables"), ("nft", "nftables"), ("iptables", "iptables"), ("iptables-legacy", "iptables")],
)
def test_a_missing_tool_is_named_with_its_package(wanted, package):
    with pytest.raises(NetfilterError, match=f"is installed: apt-get install {package}|not installed: .* {package}"):
        choose_writer(wanted, Tools(nft=False, iptables={}, default=""), rules())


def test_tools_are_looked_for_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tools() == Tools(nft=False, iptables={}, default="")
    for name, text in (
        ("iptables", "echo 'iptables v1.8.11 (legacy)'"),
        ("iptables-save", ""),
        ("iptables-restore", ""),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", "ascii")
        (tmp_path / name).chmod(0o755)
    assert find_tools() == Tools(nft=False, iptables={"iptables-legacy": "iptables"}, default="iptables-legacy")


@pytest.mark.parametrize(
    "stderr, remedy",
    [
        ("Error: Could not process rule: No such file or directory", "modprobe nft_chain_nat"),
        ("Error: Could not process rule: Operation not permitted", "NET_ADMIN"),
        ("Another app is currently holding the xtables lock.", "try again"),
        ("", "no message"),
    ],
)
def test_what_a_tool_says_becomes_one_line_with_the_remedy(tmp_path, stderr, remedy):
    tool = tmp_path / "nft"
    tool.write_text(f"#!/bin/sh\necho '{stderr}' >&2\nexit 1\n", "ascii")
    tool.chmod(0o755)
    with pytest.raises(NetfilterError, match=remedy) as caught:
        run(Command((str(tool),)), "nft")
    assert "\n" not in str(caught.value)


def test_a_tool_that_cannot_be_run_is_one_line(tmp_path):
    with pytest.raises(NetfilterError, match="cannot be run: No such file or directory"):
        run(Command((str(tmp_path / "none"),)), "nft")


def test_users_are_found_by_number_and_name():
    assert user_id("1338") == 1338
    assert user_id("root") == 0
    for wrong in ("no-such-user", str(1 << 32)):
        with pytest.raises(NetfilterError, match=wrong) as caught:
            user_id(wrong)
        assert caught.value.exit_code == 2


def test_privileges_are_asked_for_before_anything_is_tried():
    if os.geteuid() == 0:
        require_net_admin()
    else:
        with pytest.raises(NetfilterError, match="CAP_NET_ADMIN"):
            require_net_admin()


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
    """The set has room for what has expired and is not collected yet."""
    site.silence()
    install(site, writer)

    def often() -> None:
        for _ in range(300):
            heartbeat(HEARTBEAT_PORT + 1, DAEMON_USER)
            heartbeat(HEARTBEAT_PORT, DAEMON_USER)

    site.pod.call(often)
    assert site.outbound(4, 80).startswith("16001 ")
    assert site.outbound(6, 80).startswith("16001 ")


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


def test_control_groups_are_refused_for_iptables():
    for wanted in ("iptables-nft", "iptables-legacy"):
        with pytest.raises(NetfilterError, match=r"iptables cannot tell control groups .* use --writer nft"):
            choose_writer(wanted, find_tools(), rules(outbound_exclude_cgroups=["shop"]))


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
