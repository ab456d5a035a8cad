"""The section ``netfilter``: what its keys take."""

import pytest
from pydantic import ValidationError

from sp_proxy.settings.netfilter import Heartbeat, Netfilter


def test_failing_open_is_on_by_default():
    assert Netfilter().heartbeat == Heartbeat(enabled=True, timeout=5.0, port=16007)


@pytest.mark.parametrize("text, seconds", [("1s", 1.0), (7, 7.0), ("1m", 60.0)])
def test_the_timeout_is_in_whole_seconds(text, seconds):
    assert Heartbeat.model_validate({"timeout": text}).timeout == seconds


@pytest.mark.parametrize("wrong", ["500ms", "1.5s", 0, "2h"])
def test_other_timeouts_are_refused(wrong):
    with pytest.raises(ValidationError, match="whole seconds, from 1s to 1h"):
        Heartbeat.model_validate({"timeout": wrong})


@pytest.mark.parametrize("wrong", [0, 65535, True])
def test_the_port_above_the_heartbeats_is_a_port_too(wrong):
    with pytest.raises(ValidationError):
        Heartbeat.model_validate({"port": wrong})


@pytest.mark.parametrize(
    "written, meant",
    [("a.slice", "a.slice"), ("/sys/fs/cgroup/a.slice/b.service/", "a.slice/b.service"), ("/user@0", "user@0")],
)
def test_control_groups_are_paths_below_the_root(written, meant):
    found = Netfilter.model_validate({"outbound_exclude_cgroups": [written]})
    assert found.outbound_exclude_cgroups == [meant]


@pytest.mark.parametrize("wrong", ["", "/", "a/../b", "a//b", 'a"b', "a b", "/sys/fs/cgroup"])
def test_what_is_no_control_group(wrong):
    with pytest.raises(ValidationError, match="the path of a control group"):
        Netfilter.model_validate({"outbound_include_cgroups": [wrong]})


@pytest.mark.parametrize("wrong", ["", ".", "..", "eth0 ", "a/b", "sixteen-letters-", 'e"'])
def test_what_is_no_interface(wrong):
    with pytest.raises(ValidationError, match="the name of a network interface"):
        Netfilter.model_validate({"inbound_include_interfaces": [wrong]})


def test_interfaces_have_names():
    found = Netfilter.model_validate({"outbound_include_interfaces": ["eth0", "eth0.100", "wg-1", "eth0:1", "v@x"]})
    assert len(found.outbound_include_interfaces) == 5
