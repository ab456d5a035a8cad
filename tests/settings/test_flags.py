"""The command line's layer."""

import pytest

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.flags import Flag, flag_layer, parse_assignments


def test_assignments():
    assert parse_assignments(["listen.inbound=1", "a=b=c", "listen.inbound=2", "e="]) == {
        "a": "b=c",
        "listen.inbound": "2",
        "e": "",
    }


@pytest.mark.parametrize("text", ["listen.inbound", "", "=hunter2"])
def test_what_is_no_assignment(text):
    with pytest.raises(SettingsError) as caught:
        parse_assignments([text])
    (problem,) = caught.value.problems
    assert problem.startswith("--set: found ")
    assert problem.endswith("allowed: KEY=VALUE, for example listen.inbound=17006")
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "key,text,values",
    [
        ("listen.inbound", "17006", {"listen": {"inbound": "17006"}}),
        ("public_key", "12345", {"public_key": "12345"}),
        ("public_key", "@x: [", {"public_key": "@x: ["}),
        ("service_name", '"quoted"', {"service_name": "quoted"}),
        ("service_name", '"half', {"service_name": '"half'}),
        ("netfilter.inbound_exclude_ports", "[22, 80]", {"netfilter": {"inbound_exclude_ports": [22, 80]}}),
        ("listen", '{"inbound": 1}', {"listen": {"inbound": 1}}),
        ("collectionRules.http.server", "[{path: x}]", {"collectionRules": {"http": {"server": [{"path": "x"}]}}}),
        ("tags.a.b", "c", {"tags": {"a.b": "c"}}),
        ("exemptionRules", "[]", {"exemptionRules": []}),
    ],
)
def test_values(key, text, values):
    layer = flag_layer({key: text})
    assert layer.values == values


def test_a_flag_of_its_own_has_its_own_name():
    layer = flag_layer({"log.level": Flag("--log-level", "debug"), "relay.workers": 2})
    assert layer.values == {"log": {"level": "debug"}, "relay": {"workers": 2}}
    assert layer.place(("log", "level")) == "--log-level"
    assert layer.place(("relay", "workers")) == "--set"


@pytest.mark.parametrize(
    "key,problem",
    [
        ("listen.inbund", "--set: listen.inbund: unknown key; nearest known key: listen.inbound"),
        ("log_level", "--set: log_level: unknown key; nearest known key: log.level"),
        ("a\nb", '--set: "a\\nb": unknown key; nearest known key: '),
        ("listen.", '--set: "listen.": unknown key; nearest known key: '),
    ],
)
def test_unknown_keys(key, problem):
    with pytest.raises(SettingsError) as caught:
        flag_layer({key: "hunter2"})
    assert caught.value.problems[0].startswith(problem)
    assert len(caught.value.problems) == 1


def test_text_that_is_no_list():
    with pytest.raises(SettingsError) as caught:
        flag_layer({"exemptionRules": "[hunter2"})
    assert caught.value.problems == [
        "--set: exemptionRules: found text that is not YAML; allowed: a list or a mapping, as in the file"
    ]
