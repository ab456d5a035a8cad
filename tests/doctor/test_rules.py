"""What is made of rules and heartbeats; the e2e tests have real ones."""

import pytest

from sp_proxy.doctor import rules
from sp_proxy.doctor.findings import Verdict
from sp_proxy.netfilter.install import rules_of
from sp_proxy.netfilter.pulse import Pulse
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.settings.model import SettingsModel

SETTINGS = SettingsModel(public_key="k")


@pytest.mark.parametrize(
    "problems, writers, verdict, words",
    [
        ([], ("nft",), Verdict.OK, "19 in the kernel, written by nft"),
        (["no rules"], (), Verdict.FAIL, "none in the kernel"),
        (
            ["nft: missing: x", "y", "z"],
            ("nft",),
            Verdict.FAIL,
            "not as the settings say: nft: missing: x (and 2 more)",
        ),
    ],
)
def test_differences(problems, writers, verdict, words):
    (found,) = rules.judge(problems, writers, 19)
    assert found.verdict is verdict
    assert words in found.text


@pytest.mark.parametrize(
    "pulse, runs, verdict",
    [
        (Pulse.STEADY, True, Verdict.OK),
        (Pulse.MISSING, True, Verdict.FAIL),
        (Pulse.NO_DAEMON, False, Verdict.OK),
        (Pulse.NO_DAEMON, True, Verdict.FAIL),
    ],
)
def test_heartbeats(pulse, runs, verdict):
    found = rules.judge_pulse(rules_of(SETTINGS), pulse, runs=runs)
    assert (found.area, found.verdict) == ("heartbeat", verdict)
    if pulse is Pulse.MISSING:
        assert "does not run as user 1338" in found.advice


def test_what_is_not_permitted_is_skipped_and_what_cannot_work_is_told(monkeypatch):
    def refuse(message: str):
        def compare(_settings: object) -> None:
            raise NetfilterError(message)

        monkeypatch.setattr(rules, "compare", compare)
        (found,) = rules.examine(SETTINGS, runs=True)
        return found.verdict

    assert refuse("not permitted: the kernel's rules need root") is Verdict.SKIP
    assert refuse("Istio's ambient mode is on here") is Verdict.FAIL


def test_where_nothing_is_redirected_none_are_needed():
    settings = SettingsModel(public_key="k", listen={"inbound": "off", "outbound": "off"})
    (found,) = rules.examine(settings, runs=True)
    assert found.verdict is Verdict.OK
