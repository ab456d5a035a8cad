"""The tools: which are found, which writer is chosen, what they say, and what they need."""

import os

import pytest

from sp_proxy.netfilter.plan import Command
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.netfilter.system import Tools, choose_writer, find_tools, require_net_admin, run, user_id
from tests.netfilter.installed import rules


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


def test_control_groups_are_refused_for_iptables():
    for wanted in ("iptables-nft", "iptables-legacy"):
        with pytest.raises(NetfilterError, match=r"iptables cannot tell control groups .* use --writer nft"):
            choose_writer(wanted, find_tools(), rules(outbound_exclude_cgroups=["shop"]))
