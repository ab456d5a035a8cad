"""Prepared commands: what is printed is what runs."""

import pytest

from sp_proxy.netfilter import install
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.settings.model import SettingsModel

SETTINGS = SettingsModel()


@pytest.mark.parametrize("writer", ["nft", "iptables-nft", "iptables-legacy"])
def test_preparing_changes_nothing_and_the_printed_text_is_what_runs(site, writer):
    def prepare() -> install.Prepared:
        return install.prepare_apply(SETTINGS, writer)

    before = site.pod.run("nft", "list", "ruleset").stdout
    prepared = site.pod.call(prepare)
    assert site.pod.run("nft", "list", "ruleset").stdout == before
    assert site.pod.call(prepare) == prepared
    assert site.pod.call(prepared.run) == f"applied 15 rules with {writer}, mode standalone"
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
