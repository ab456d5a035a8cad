"""Several plugins as one config: the decisions stay what each plugin's were, in its own direction."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.exchange import Direction
from sp_proxy.core.rules import Policy
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.layers import FileLayer, Layer
from sp_proxy.settings.merging import merge_plugins
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import policy_config


def layers(*configs: dict[str, Any]) -> list[Layer]:
    return [Layer(f"f:{index}", config) for index, config in enumerate(configs)]


def merged(*configs: dict[str, Any]) -> FileLayer:
    return merge_plugins(layers(*configs), "f")


def problems(*configs: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        merged(*configs)
    return caught.value.problems


def http(**rules: Any) -> dict[str, Any]:
    return {"collectionRules": {"http": rules}}


def test_directions():
    assert merged({"traffic_direction": "inbound"}, {"traffic_direction": "outbound"}).layer.values == {
        "traffic_direction": "both"
    }
    assert merged({"traffic_direction": "server"}, {"traffic_direction": "inbound"}).layer.values == {
        "traffic_direction": "server"
    }
    assert merged({"traffic_direction": "server"}, {}).layer.values == {"traffic_direction": "both"}


def test_two_values_for_a_key():
    assert problems({"public_key": "hunter2"}, {"public_key": "hunter3"}) == [
        "f:1: public_key: found ***, but *** in f:0; allowed: one value for all plugins"
    ]
    assert problems({"retry": {"multiplier": 2}}, {"retry": {"multiplier": 3, "max_interval": 4}}) == [
        "f:1: retry.multiplier: found 3, but 2 in f:0; allowed: one value for all plugins"
    ]


def test_sections_are_merged():
    values = merged({"retry": {"multiplier": 2}}, {"retry": {"max_interval": 4}}).layer.values
    assert values["retry"] == {"multiplier": 2, "max_interval": 4}


def test_every_plugin_is_checked_even_in_what_is_not_used():
    found = problems(
        {"traffic_direction": "server", **http(client=[{"host": "("}])},
        {"traffic_direction": "client", "typo": 1},
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["f:0", "collectionRules.http.client[0].host"],
        ["f:1", "typo"],
    ]


def test_exemptions_are_joined_and_this_is_told():
    own = {"exemptionRules": [{"hostPatterns": ["a"]}]}
    both = merged(own, own)
    assert both.layer.values["exemptionRules"] == own["exemptionRules"]
    assert both.warnings == []
    one = merged(own, {})
    assert one.layer.values["exemptionRules"] == [*own["exemptionRules"], {}]
    assert len(one.warnings) == 1
    assert "exemptionRules" not in merged({}, {}).layer.values
    assert merged({"exemptionRules": []}, {"exemptionRules": []}).layer.values["exemptionRules"] == []


RULES = st.lists(st.sampled_from([{"paths": ["/a"]}, {"paths": ["/b"]}, {}]), max_size=2)
PLUGIN_RULES = st.fixed_dictionaries({}, optional={"server": RULES, "client": RULES})


def collects(config: dict[str, Any], direction: Direction, target: bytes) -> bool:
    policy = Policy(policy_config(SettingsModel.model_validate(config)))
    return policy.request(direction, b"GET", target, b"host", b"\r\nhost: host\r\n").capture


@given(PLUGIN_RULES, PLUGIN_RULES)
def test_each_direction_is_decided_as_its_own_plugin_did(server_rules, client_rules):
    server = {"traffic_direction": "server", **http(**server_rules)}
    client = {"traffic_direction": "client", **http(**client_rules)}
    both = merged(server, client).layer.values
    for target in (b"/a", b"/b", b"/c"):
        assert collects(both, Direction.INBOUND, target) == collects(server, Direction.INBOUND, target)
        assert collects(both, Direction.OUTBOUND, target) == collects(client, Direction.OUTBOUND, target)
