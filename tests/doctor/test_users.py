"""Who the daemon is, and who must not be it."""

import os

from sp_proxy.doctor.findings import Verdict
from sp_proxy.doctor.sockets import Listening
from sp_proxy.doctor.users import Process, expected, judge, processes_here
from sp_proxy.settings.model import SettingsModel

SETTINGS = SettingsModel(public_key="k")
FORWARD = SettingsModel(
    public_key="k", listen={"inbound": "off", "outbound": "off", "forward": [{"listen": 8080, "upstream": "a:1"}]}
)


def verdicts(settings, user, port, processes=()):
    return [(each.verdict, each.text) for each in judge(settings, 1338, [Listening(port, user, 1)], processes)]


def test_the_user_of_the_rules():
    assert verdicts(SETTINGS, 1338, 16006) == [(Verdict.OK, "the daemon runs as user 1338")]
    ((verdict, text),) = verdicts(SETTINGS, 1000, 16006)
    assert verdict is Verdict.FAIL
    assert "runs as user 1000, and the rules know it as 1338" in text
    assert verdicts(SETTINGS, 5, 80) == []


def test_without_rules_any_user_is_right_but_root():
    assert verdicts(FORWARD, 1000, 8080) == [(Verdict.OK, "the daemon runs as user 1000")]
    ((verdict, _),) = verdicts(FORWARD, 0, 8080)
    assert verdict is Verdict.WARN


def test_others_with_the_daemons_user_are_not_captured():
    processes = [
        Process(5, 1338, b"/opt/sp-proxy/bin/python\0-m\0sp_proxy.relay\0" + b"7"),
        Process(6, 1338, b"/usr/bin/app\0--serve"),
        Process(7, 1000, b"/usr/bin/app"),
    ]
    _, (verdict, text) = verdicts(SETTINGS, 1338, 16006, processes)
    assert verdict is Verdict.WARN
    assert text.startswith("process 6 (/usr/bin/app --serve) runs as user 1338 too")


def test_names_of_users():
    assert expected(SETTINGS) == (1338, [])
    assert expected(SettingsModel(public_key="k", netfilter={"user": "root"}))[0] == 0
    user, (found,) = expected(SettingsModel(public_key="k", netfilter={"user": "nobody-here"}))
    assert user is None
    assert "useradd --system nobody-here" in found.text


def test_we_are_here():
    assert os.getpid() in [process.pid for process in processes_here()]
