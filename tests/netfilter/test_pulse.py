"""Is the daemon at work? With counters that a test moves, and with heartbeats of its own in a namespace."""

from ipaddress import ip_address

import pytest

from sp_proxy.netfilter import install
from sp_proxy.netfilter.pulse import Heart, Pulse, feel, redirect_ports, timeout_seconds
from sp_proxy.netfilter.rules import Chain, Connection, NetfilterError
from sp_proxy.settings.model import SettingsModel


def rules(**heartbeat):
    return install.rules_of(SettingsModel.model_validate({"netfilter": {"heartbeat": heartbeat}}))


class Counters:
    """Counts a heartbeat at every look from ``after`` on."""

    def __init__(self, ruleset, after: int) -> None:
        self._key = (Chain.OUTBOUND, 0)
        self._looks = 0
        self._after = after
        assert ruleset.chain(Chain.OUTBOUND)[0] is ruleset.heartbeat

    def __call__(self) -> dict[tuple[Chain, int], int]:
        self._looks += 1
        return {self._key: max(0, self._looks - self._after)}


def test_a_heartbeat_is_waited_for_where_the_daemon_listens():
    ruleset = rules(timeout="1s")
    assert feel(ruleset, lambda port: port == 16006, Counters(ruleset, 3)) is Pulse.STEADY
    assert feel(ruleset, lambda port: port == 16006, Counters(ruleset, 10**6)) is Pulse.MISSING


def test_nothing_is_waited_for_where_nobody_listens_or_none_is_needed():
    never = Counters(rules(), 10**6)
    assert feel(rules(), lambda _: False, never) is Pulse.NO_DAEMON
    assert feel(rules(enabled=False), lambda _: True, never) is Pulse.NOT_NEEDED


def test_what_the_rules_say():
    assert redirect_ports(rules()) == [16001, 16006]
    assert timeout_seconds(rules(timeout="7s")) == 7
    assert timeout_seconds(rules(enabled=False)) == 0


def test_the_probes_own_heart_redirects_in_its_block_only(site):
    site.silence()
    site.pod.call(lambda: install.prepare_apply(SettingsModel(), "nft", check=False).run())
    heart = Heart(rules().heartbeat)

    def inside() -> tuple[str, str]:
        with heart.beating():
            during = site.outbound(4, 80)
        return during, site.outbound(4, 80)

    during, after = site.pod.call(inside)
    assert during.startswith("16001 ")
    assert after == "direct outside"


def test_without_a_rule_the_heart_does_nothing():
    with Heart(None).beating():
        connection = Connection(Chain.OUTBOUND, ip_address("10.0.0.1"), ip_address("192.0.2.1"), 80, local=False)
        assert rules(enabled=False).decide(connection) is not None


def test_what_is_not_permitted_is_said(monkeypatch):
    def refuse(port: int, user: int) -> None:
        raise NetfilterError(f"acting as user {user} needs CAP_SETUID")

    monkeypatch.setattr("sp_proxy.netfilter.probes.heartbeat", refuse)
    with pytest.raises(NetfilterError, match="CAP_SETUID"), Heart(rules().heartbeat).beating():
        pass
