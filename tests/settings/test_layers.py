"""Layers: precedence, places, merging."""

from sp_proxy.settings.layers import Layer, merge, nest, scalars, strongest, without_nothing

FILE = Layer("f", {"listen": {"inbound": 1, "outbound": 2}}, {("listen",): "f:1", ("listen", "inbound"): "f:2"})
ENVIRONMENT = Layer("e", {"listen": {"outbound": 3}}, {("listen", "outbound"): "E"})


def test_the_place_of_a_value_or_of_what_is_around_it():
    assert FILE.place(("listen", "inbound")) == "f:2"
    assert FILE.place(("listen", "outbound")) == "f:1"
    assert FILE.place(("strict",)) == "f"


def test_the_strongest_layer_is_the_first_that_has_the_value():
    assert strongest([ENVIRONMENT, FILE], ("listen", "outbound")) is ENVIRONMENT
    assert strongest([ENVIRONMENT, FILE], ("listen", "inbound")) is FILE
    assert strongest([ENVIRONMENT, FILE], ("listen", "forward")) is ENVIRONMENT
    assert strongest([ENVIRONMENT, FILE], ("listen", "inbound", "x")) is FILE


def test_merge_leaves_its_source_alone():
    into = {"a": {"x": 1}, "b": 1}
    source = {"a": {"y": 2}, "b": {"z": 3}, "c": [1]}
    merge(into, source)
    assert into == {"a": {"x": 1, "y": 2}, "b": {"z": 3}, "c": [1]}
    merge(into, {"b": {"w": 4}})
    assert source == {"a": {"y": 2}, "b": {"z": 3}, "c": [1]}


def test_nest_and_scalars_are_opposites():
    assert nest(("a", "b"), 1) == {"a": {"b": 1}}
    assert list(scalars({"a": {"b": 1}, "c": [2], "d": {}})) == [(("a", "b"), 1), (("c",), [2]), (("d",), {})]


def test_a_known_key_that_holds_nothing_is_absent():
    values = {"listen": None, "retry": {"multiplier": None}, "typo": None, "tags": {"a": None}}
    rules = {"collectionRules": {"http": {"server": [{"path": None, "pth": None}, None]}}}
    assert without_nothing(values) == {"retry": {}, "typo": None, "tags": {"a": None}}
    assert without_nothing(rules) == {"collectionRules": {"http": {"server": [{"pth": None}, None]}}}
