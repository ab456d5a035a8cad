"""Applying and removing, in a kernel: once is as twice, what was there before is replaced, what is others' stays."""

import pytest

from sp_proxy.netfilter.plan import Command
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.netfilter.system import apply, find_tools
from tests.netfilter.installed import WRITERS, dump, install, state, uninstall, used_before, writers


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
