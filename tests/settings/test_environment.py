"""The environment's layer."""

import pytest

from sp_proxy.settings.environment import environment_layer
from sp_proxy.settings.errors import SettingsError


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        environment_layer(environ)
    return caught.value.problems


def test_names():
    layer = environment_layer(
        {
            "SP_PROXY_LISTEN__INBOUND": "16006",
            "sp_proxy_public_key": "k",
            "Sp_Proxy_CollectionRules__http__Server": '[{"path": "x"}]',
            "SP_PROXY_TAGS__TEAM": "a",
            "PATH": "/bin",
        }
    )
    assert layer.values == {
        "listen": {"inbound": "16006"},
        "public_key": "k",
        "collectionRules": {"http": {"server": [{"path": "x"}]}},
        "tags": {"team": "a"},
    }
    assert layer.place(("listen", "inbound")) == "SP_PROXY_LISTEN__INBOUND"
    assert layer.place(("collectionRules", "http", "server", 0, "path")) == "Sp_Proxy_CollectionRules__http__Server"


def test_a_key_of_a_section_wins_over_the_section():
    environ = {"SP_PROXY_LISTEN__INBOUND": "1", "SP_PROXY_LISTEN": '{"inbound": 2, "outbound": 3, "forward": null}'}
    assert environment_layer(environ).values == {"listen": {"inbound": "1", "outbound": 3}}


@pytest.mark.parametrize(
    "name,nearest",
    [
        ("SP_PROXY_LISTEN__INBUND", "SP_PROXY_LISTEN__INBOUND"),
        ("SP_PROXY_LISTEN_INBOUND", "SP_PROXY_LISTEN__INBOUND"),
        ("SP_PROXY_PUBLICKEY", "SP_PROXY_PUBLIC_KEY"),
        ("SP_PROXY_PUBLIC_KEY__X", "SP_PROXY_PUBLIC_KEY"),
        ("SP_PROXY_COLLECTIONRULES__HTTP__SERVER__0", "SP_PROXY_COLLECTIONRULES__HTTP__SERVER"),
        ("SP_PROXY_TAGS__", "SP_PROXY_TAGS"),
    ],
)
def test_unknown_variables(name, nearest):
    assert problems({name: "hunter2"}) == [f"{name}: unknown variable; nearest known variable: {nearest}"]


def test_an_empty_name_is_unknown():
    assert "unknown variable" in problems({"SP_PROXY_": "x"})[0]


def test_the_same_setting_twice():
    assert problems({"SP_PROXY_STRICT": "raw", "sp_proxy_strict": "raw"}) == [
        "sp_proxy_strict: the same setting as SP_PROXY_STRICT; allowed: one of them"
    ]


@pytest.mark.parametrize(
    "name,text,problem",
    [
        ("SP_PROXY_EXEMPTIONRULES", "hunter2", "found no JSON (Expecting value, column 1); allowed: a list as JSON"),
        ("SP_PROXY_LISTEN", "", "found no JSON (Expecting value, column 1); allowed: a mapping as JSON"),
        ("SP_PROXY_TAGS", '{"a": 1, "a": 2}', "the key a is given twice"),
        ("SP_PROXY_TAGS", "[" * 100_000, "found JSON nested too deeply"),
    ],
)
def test_broken_json_is_told_without_its_text(name, text, problem):
    assert problems({name: text}) == [f"{name}: {problem}"]


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_ours():
    environ = {
        "SP_PROXY_SERVICE_HOST": "10.0.0.1",
        "SP_PROXY_SERVICE_PORT": "80",
        "SP_PROXY_SERVICE_PORT_HTTP": "80",
        "SP_PROXY_PORT": "tcp://10.0.0.1:80",
        "SP_PROXY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "SP_PROXY_PORT_80_TCP_PROTO": "tcp",
        "SP_PROXY_PORT_80_TCP_PORT": "80",
        "SP_PROXY_PORT_80_TCP_ADDR": "10.0.0.1",
        "SP_PROXY_BACKEND_SERVICE_HOST": "10.0.0.2",
        "SP_PROXY_BACKEND_PORT_4318_TCP": "tcp://10.0.0.2:4318",
    }
    assert environment_layer(environ).values == {}
