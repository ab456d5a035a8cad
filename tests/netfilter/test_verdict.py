"""A counter and an answer make a verdict; so does what is known of the heartbeat."""

import pytest

from sp_proxy.netfilter import install
from sp_proxy.netfilter.probes import Answer
from sp_proxy.netfilter.pulse import Pulse
from sp_proxy.netfilter.rules import Bypass, Chain, Match, Redirect, Rule
from sp_proxy.netfilter.verdict import Verdict, judge, judge_pulse
from sp_proxy.settings.model import SettingsModel

REDIRECT = Rule(Chain.OUTBOUND, Match(), Redirect(16001), "all outbound")
BYPASS = Rule(Chain.OUTBOUND, Match(users=(1338,)), Bypass(), "daemon")


@pytest.mark.parametrize(
    "rule, counted, answer, verdict, text",
    [
        (REDIRECT, True, Answer.CONNECTED, Verdict.OK, "redirected to port 16001, which answered"),
        (REDIRECT, True, Answer.REFUSED, Verdict.OK, "where nothing listens yet"),
        (REDIRECT, True, Answer.SILENCE, Verdict.FAIL, "no answer came from there"),
        (REDIRECT, True, Answer.UNREACHABLE, Verdict.FAIL, "unreachable came from there"),
        (REDIRECT, False, Answer.CONNECTED, Verdict.FAIL, "no rule counted it"),
        (BYPASS, True, Answer.SILENCE, Verdict.OK, "bypassed (daemon)"),
        (BYPASS, False, Answer.SILENCE, Verdict.FAIL, "expected: bypass (daemon)"),
    ],
)
def test_a_counter_and_an_answer_make_a_verdict(rule, counted, answer, verdict, text):
    result = judge(rule, counted=counted, others="", answer=answer, line="x")
    assert result.verdict is verdict
    assert text in result.line
    assert "\n" not in str(result)


def test_a_refusal_is_the_destinations_where_the_daemon_listens():
    result = judge(REDIRECT, counted=True, others="", answer=Answer.REFUSED, line="x", listening=True)
    assert str(result) == "ok    x: redirected to port 16001, which handed on a refusal"


@pytest.mark.parametrize(
    "found, verdict, text",
    [
        (Pulse.STEADY, Verdict.OK, "heartbeat arrives; 5 s after the last one, nothing is redirected"),
        (Pulse.MISSING, Verdict.FAIL, "port 16001 and 16006 is open, but user 1338 sends nothing to port 16007"),
        (Pulse.NO_DAEMON, Verdict.SKIP, "nothing listens on port 16001 and 16006, so nothing is redirected yet"),
    ],
)
def test_the_heartbeat_is_a_line_of_its_own(found, verdict, text):
    result = judge_pulse(install.rules_of(SettingsModel()), found)
    assert result is not None
    assert result.verdict is verdict
    assert text in result.line
    assert "\n" not in str(result)


def test_where_it_is_off_nothing_is_said_of_it():
    settings = SettingsModel.model_validate({"netfilter": {"heartbeat": {"enabled": False}}})
    assert judge_pulse(install.rules_of(settings), Pulse.NOT_NEEDED) is None
