"""What would run, and what is told apart, for every state of the kernel that the commands may find."""

import json
import re

import pytest

from sp_proxy.netfilter import iptables, nft
from sp_proxy.netfilter.plan import Command, Saved, State, counters, differences, plan_apply, plan_remove
from sp_proxy.netfilter.rules import Bypass, Chain, Match, Redirect, Rule, Ruleset, merge_networks

RULES = Ruleset(
    "outbound-only",
    (
        Rule(Chain.OUTBOUND, Match(users=(1338,)), Bypass(), "daemon"),
        Rule(Chain.OUTBOUND, Match(destinations=merge_networks(["10.0.0.0/8", "fd00::/8"])), Redirect(16001), "some"),
    ),
)
OLD_LISTING = json.dumps({"nftables": [{"chain": {"name": "former"}}]})
EMPTY = "*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
OURS4 = """*nat
:OUTPUT ACCEPT [0:0]
:SP_PROXY_OUT - [0:0]
[9:9] -A OUTPUT -p tcp -j SP_PROXY_OUT
[7:9] -A SP_PROXY_OUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m comment --comment "not the first packet" -j RETURN
[2:9] -A SP_PROXY_OUT -p tcp -m owner --uid-owner 1338 -m comment --comment daemon -j RETURN
[3:9] -A SP_PROXY_OUT -d 10.0.0.0/8 -p tcp -m comment --comment some -j REDIRECT --to-ports 16001
COMMIT
"""
OURS6 = OURS4.replace("10.0.0.0/8", "fd00::/8").replace("[3:9]", "[4:9]")


def saved(four=EMPTY, six=EMPTY, form="iptables-nft"):
    return (Saved(form, form, 4, four), Saved(form.replace("ip", "ip6", 1), form, 6, six))


def test_nft_is_one_transaction_and_then_the_others_are_removed():
    state = State(OLD_LISTING, saved(OURS4, form="iptables-legacy"))
    assert plan_apply(RULES, "nft", state, (4, 6)) == (
        Command(("nft", "-f", "-"), nft.render(RULES)),
        Command(("iptables-legacy-restore", "--noflush", "--wait", "10"), iptables.render_removal(OURS4)),
    )


def test_iptables_is_one_transaction_a_family_and_then_the_others_are_removed():
    state = State(OLD_LISTING, (*saved(OURS4), *saved(OURS4, OURS6, form="iptables-legacy")))
    commands = plan_apply(RULES, "iptables-nft", state, (4, 6))
    assert [command.argv[0] for command in commands] == [
        "iptables-nft-restore",
        "ip6tables-nft-restore",
        "iptables-legacy-restore",
        "ip6tables-legacy-restore",
        "nft",
    ]
    assert commands[0].stdin == iptables.render(RULES, 4, OURS4)
    assert commands[-1].stdin == nft.REMOVAL


def test_without_ipv6_what_ip6tables_has_of_ours_is_removed():
    commands = plan_apply(RULES, "iptables-nft", State(saved=saved(OURS4, OURS6)), (4,))
    assert [command.argv[0] for command in commands] == ["iptables-nft-restore", "ip6tables-nft-restore"]
    assert commands[1].stdin == iptables.render_removal(OURS6)


def test_remove_is_nothing_where_nothing_is():
    assert plan_remove(State(saved=saved())) == ()
    assert [command.argv[0] for command in plan_remove(State(OLD_LISTING, saved(OURS4)))] == [
        "nft",
        "iptables-nft-restore",
    ]


def test_a_command_is_printed_as_a_shell_takes_it():
    assert str(Command(("nft", "-f", "a b"), "text\n")) == "nft -f 'a b' <<'EOF'\ntext\nEOF"
    assert str(Command(("nft", "list"))) == "nft list"


def test_what_is_right_has_no_differences_and_counts_by_rule():
    state = State(saved=saved(OURS4, OURS6))
    assert differences(RULES, "auto", state, (4, 6)) == []
    assert counters(RULES, state) == {(Chain.OUTBOUND, 0): 4, (Chain.OUTBOUND, 1): 7}


@pytest.mark.parametrize(
    "state, writer, message",
    [
        (State(saved=saved()), "auto", "no rules of sp_proxy"),
        (State(OLD_LISTING, saved(OURS4, OURS6)), "auto", "rules of nft and iptables-nft at once"),
        (State(saved=saved(OURS4, OURS6)), "nft", "written by iptables-nft, not nft"),
        (State(OLD_LISTING), "auto", "chain former is not in the settings"),
        (State(OLD_LISTING), "auto", "chain outbound is missing"),
        (State(saved=saved(OURS4)), "auto", "ip6tables-nft: nat: missing: -A SP_PROXY_OUT"),
        (State(saved=saved(OURS4.replace("1338", "1337"), OURS6)), "auto", "missing: .*--uid-owner 1338"),
        (State(saved=saved(OURS4.replace("1338", "1337"), OURS6)), "auto", "not in the settings: .*--uid-owner 1337"),
        (
            State(saved=saved(OURS4.replace("COMMIT", "-A OUTPUT -p tcp -j SP_PROXY_OUT\nCOMMIT"), OURS6)),
            "auto",
            "twice",
        ),
        (
            State(saved=saved(OURS4.replace("[9:9] -A OUTPUT", "[0:0] -A OUTPUT -j OTHER\n[9:9] -A OUTPUT"), OURS6)),
            "auto",
            "OUTPUT: the rule '-A OUTPUT -j OTHER' comes before ours",
        ),
    ],
)
def test_every_difference_is_told(state, writer, message):
    found = differences(RULES, writer, state, (4, 6))
    assert re.search(message, "\n".join(found))


def test_another_order_of_the_same_rules_is_a_difference():
    lines = OURS4.splitlines(keepends=True)
    lines[5], lines[6] = lines[6], lines[5]
    assert differences(RULES, "auto", State(saved=saved("".join(lines), OURS6)), (4, 6)) != []


def test_without_ipv6_anything_of_ours_in_ip6tables_is_a_difference():
    assert differences(RULES, "auto", State(saved=saved(OURS4)), (4,)) == []
    assert differences(RULES, "auto", State(saved=saved(OURS4, OURS6)), (4,)) != []
