"""Prepared commands: what is printed is what runs."""

from dataclasses import replace
from functools import partial

import pytest

from sp_proxy.netfilter import install, iptables
from sp_proxy.netfilter.probes import heartbeat
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.netfilter.system import find_tools, read_state
from sp_proxy.settings.model import SettingsModel
from tests.netfilter.conftest import DAEMON_USER

SETTINGS = SettingsModel()


@pytest.mark.parametrize("writer", ["nft", "iptables-nft", "iptables-legacy"])
def test_preparing_changes_nothing_and_the_printed_text_is_what_runs(site, writer):
    def prepare() -> install.Prepared:
        return install.prepare_apply(SETTINGS, writer)

    before = site.pod.run("nft", "list", "ruleset").stdout
    prepared = site.pod.call(prepare)
    assert site.pod.run("nft", "list", "ruleset").stdout == before
    assert site.pod.call(prepare) == prepared
    assert site.pod.call(prepared.run) == f"applied 19 rules with {writer}, mode standalone"
    assert site.outbound(4, 80).startswith("16001 ")

    removal = site.pod.call(install.prepare_remove)
    assert site.outbound(4, 80).startswith("16001 ")
    site.pod.run("sh", "-e", stdin=str(removal))
    assert site.outbound(4, 80) == "direct outside"
    again = site.pod.call(install.prepare_remove)
    assert str(again) == ""
    assert site.pod.call(again.run) == "nothing to remove"


def test_the_settings_name_the_writer_and_the_command_line_is_over_them(site):
    settings = SettingsModel.model_validate({"netfilter": {"writer": "iptables-legacy"}})
    assert site.pod.call(lambda: install.prepare_apply(settings, None)).writer == "iptables-legacy"
    assert site.pod.call(lambda: install.prepare_apply(settings, "nft")).writer == "nft"
    assert site.pod.call(lambda: install.prepare_apply(SETTINGS, None)).writer == "nft"


def test_verify_expects_the_writer_that_is_asked_for(site):
    site.pod.call(lambda: install.prepare_apply(SETTINGS, "nft").run())
    (result,) = site.pod.call(lambda: list(install.verify(SETTINGS, "iptables-nft")))
    assert "written by nft, not iptables-nft" in result.line


def test_an_unknown_user_is_told_before_privileges_are_asked_for():
    settings = SettingsModel.model_validate({"netfilter": {"user": "no-such-user"}})
    with pytest.raises(NetfilterError, match="no user named 'no-such-user' here"):
        install.rules_of(settings)
    with pytest.raises(NetfilterError, match="no user named"):
        install.prepare_apply(settings, None)


@pytest.mark.parametrize("writer", ["nft", "iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("earlier", ["nft", "iptables-nft", "iptables-legacy"])
def test_rules_that_do_not_work_give_way_to_those_from_before(site, earlier, writer):
    other = SettingsModel.model_validate({"netfilter": {"outbound_exclude_ports": [5432]}})
    site.pod.call(lambda: install.prepare_apply(other, earlier).run())
    before = site.pod.call(rules_there)
    thief = "table inet thief { chain o { type nat hook output priority -150; tcp dport 9 redirect to :8080; }; }"
    site.pod.run("nft", "-f", "-", stdin=thief)
    prepared = site.pod.call(lambda: install.prepare_apply(SETTINGS, writer))
    with pytest.raises(NetfilterError, match=r"do not work, the earlier rules are back: outbound to 192\.0\.2\.1:9 as"):
        site.pod.call(prepared.run)
    site.pod.run("nft", "delete", "table", "inet", "thief")
    assert site.pod.call(rules_there) == before
    assert "FAIL" not in "".join(site.pod.call(lambda: [str(result) for result in install.verify(other, earlier)]))
    assert site.outbound(4, 5432) == "direct outside"
    site.beat()
    assert site.outbound(6, 80).startswith("16001 ")


@pytest.mark.parametrize("writer", ["nft", "iptables-nft"])
def test_rules_that_come_back_start_from_silence(site, writer):
    """The daemon may have withdrawn its heartbeat since they were read: nobody would be there for what they redirect."""
    heart = {"port": 16107, "timeout": "60s"}  # not the one that this test's daemon sends
    other = SettingsModel.model_validate({"netfilter": {"heartbeat": heart}})
    site.pod.call(lambda: install.prepare_apply(other, "nft", check=False).run())
    assert site.outbound(4, 80) == "direct outside"
    site.pod.call(partial(heartbeat, 16107, DAEMON_USER))
    assert site.outbound(4, 80).startswith("16001 ")
    before = site.pod.call(rules_there)
    prepared = site.pod.call(lambda: install.prepare_apply(SETTINGS, writer))
    site.pod.run("nft", "-f", "-", stdin=THIEF)
    with pytest.raises(NetfilterError, match="the earlier rules are back"):
        site.pod.call(prepared.run)
    site.pod.run("nft", "delete", "table", "inet", "thief")
    assert site.pod.call(rules_there) == before
    assert site.outbound(4, 80) == "direct outside"


THIEF = "table inet thief { chain o { type nat hook output priority -150; tcp dport 9 redirect to :8080; }; }"


def test_first_rules_that_do_not_work_are_taken_away_again(site):
    thief = "table inet thief { chain o { type nat hook output priority -150; tcp dport 9 redirect to :8080; }; }"
    site.pod.run("nft", "-f", "-", stdin=thief)
    with pytest.raises(NetfilterError, match=r"they are removed again: .* \(and 3 more\)$") as caught:
        site.pod.call(lambda: install.prepare_apply(SETTINGS, "nft").run())
    assert "\n" not in str(caught.value)
    assert site.pod.call(install.prepare_remove).done == "nothing to remove"
    done = site.pod.call(lambda: install.prepare_apply(SETTINGS, "nft", check=False).run())
    assert done.startswith("applied")


@pytest.mark.parametrize("cause", [NetfilterError("nft did not end within 60 s"), SystemExit(143)])
def test_rules_that_were_not_tried_to_the_end_do_not_stay(site, cause):
    other = SettingsModel.model_validate({"netfilter": {"outbound_exclude_ports": [5432]}})
    site.pod.call(lambda: install.prepare_apply(other, "iptables-legacy").run())
    before = site.pod.call(rules_there)

    def fail():
        raise cause
        yield

    prepared = site.pod.call(lambda: replace(install.prepare_apply(SETTINGS, "nft"), check=fail))
    with pytest.raises(type(cause)) as caught:
        site.pod.call(prepared.run)
    if isinstance(cause, NetfilterError):
        assert str(caught.value) == f"the rules cannot be tried, the earlier rules are back: {cause}"
    assert site.pod.call(rules_there) == before


def test_where_the_earlier_rules_cannot_come_back_nothing_is_redirected(site):
    site.pod.call(lambda: install.prepare_apply(SETTINGS, "nft", check=False).run())
    site.pod.run("nft", "-f", "-", stdin=THIEF)
    prepared = site.pod.call(lambda: install.prepare_apply(SETTINGS, "nft"))
    broken = replace(prepared, before=replace(prepared.before, script="table inet sp_proxy { nonsense }"))
    with pytest.raises(
        NetfilterError, match=r"the earlier rules cannot be put back \(nft: .*\), and nothing is redirected now"
    ):
        site.pod.call(broken.run)
    assert site.pod.call(lambda: read_state(find_tools()).writers()) == ()


def rules_there():
    """All rules of ours, in every form, without counters and who is alive."""
    state = read_state(find_tools())
    lines = [line for line in state.script.splitlines() if "elements =" not in line]
    return lines, [(saved.tool, [line for line, _ in iptables.own_lines(saved.text)]) for saved in state.saved]
