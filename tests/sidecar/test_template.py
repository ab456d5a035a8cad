"""In, out, and in again."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.sidecar.plan import INJECTED, Sidecar
from sp_proxy.sidecar.template import ISTIO_PORTS, istio_is_meant, with_sidecar, without_sidecar

FORMS = st.builds(Sidecar, image=st.sampled_from(["a:1", "b:2"]), native=st.booleans(), istio=st.booleans())


def names(template, key):
    return [one["name"] for one in template["spec"].get(key, [])]


def template(**spec):
    return {"spec": {"containers": [{"name": "app"}], **spec}}


def test_a_native_sidecar_comes_before_everything_of_the_applications():
    after = with_sidecar(template(initContainers=[{"name": "migrate"}], volumes=[{"name": "data"}]), Sidecar())
    assert names(after, "initContainers") == ["sp-proxy-init", "sp-proxy", "migrate"]
    assert names(after, "containers") == ["app"]
    assert names(after, "volumes") == ["data", "sp-proxy-config", "sp-proxy-state"]
    assert after["metadata"]["labels"] == {INJECTED: "true"}


def test_a_classic_sidecar_comes_after_the_application():
    """Which kubectl exec and logs then still take by default."""
    after = with_sidecar(template(), Sidecar(native=False))
    assert names(after, "initContainers") == ["sp-proxy-init"]
    assert names(after, "containers") == ["app", "sp-proxy"]


@pytest.mark.parametrize(
    "before, expected",
    [
        (
            ["istio-init", "istio-proxy", "migrate"],
            ["istio-init", "istio-proxy", "sp-proxy-init", "sp-proxy", "migrate"],
        ),
        (["istio-validation", "istio-proxy"], ["istio-validation", "istio-proxy", "sp-proxy-init", "sp-proxy"]),
        (["migrate", "istio-init"], ["migrate", "istio-init", "sp-proxy-init", "sp-proxy"]),
    ],
)
def test_it_comes_after_istios(before, expected):
    after = with_sidecar(template(initContainers=[{"name": name} for name in before]), Sidecar(istio=True))
    assert names(after, "initContainers") == expected


def variables(container):
    return {each["name"]: each.get("value") for each in container["env"]}


@pytest.mark.parametrize(
    "seconds, native, expected", [(None, True, "21s"), (None, False, "16s"), (120, True, "111s"), (8, False, "3s")]
)
def test_one_deadline_is_the_pods_own(seconds, native, expected):
    spec = {} if seconds is None else {"terminationGracePeriodSeconds": seconds}
    after = with_sidecar(template(**spec), Sidecar(native=native))
    proxy = after["spec"]["initContainers"][1] if native else after["spec"]["containers"][1]
    assert variables(proxy)["SP_PROXY_SHUTDOWN__GRACE_PERIOD"] == expected


def test_istio_leaves_the_admin_port_alone_beside_those_it_leaves_alone_already():
    before = {**template(), "metadata": {"annotations": {ISTIO_PORTS: "8080, 9090"}}}
    after = with_sidecar(before, Sidecar(istio=True))
    assert after["metadata"]["annotations"] == {ISTIO_PORTS: "8080, 9090,16021"}
    assert without_sidecar(after) == before


TEMPLATES = st.builds(
    lambda metadata, inits, volumes, seconds: {
        **metadata,
        "spec": {
            "containers": [{"name": "app"}],
            **({"initContainers": [{"name": name} for name in inits]} if inits else {}),
            **({"volumes": [{"name": name} for name in volumes]} if volumes else {}),
            **({"terminationGracePeriodSeconds": seconds} if seconds is not None else {}),
        },
    },
    st.sampled_from(
        [{}, {"metadata": {"labels": {"app": "a"}}}, {"metadata": {"annotations": {ISTIO_PORTS: "1", "b": "c"}}}]
    ),
    st.lists(st.sampled_from(["migrate", "istio-init", "istio-proxy"]), unique=True),
    st.lists(st.sampled_from(["data", "cache"]), unique=True),
    st.none() | st.integers(0, 300),
)


@given(TEMPLATES, FORMS, FORMS)
def test_out_is_what_it_was_and_twice_is_once(before, first, second):
    untouched = copy.deepcopy(before)
    once = with_sidecar(before, first)
    assert with_sidecar(once, first) == once
    assert with_sidecar(once, second) == with_sidecar(before, second)
    assert without_sidecar(once) == before == untouched
    assert without_sidecar(before) is before


@pytest.mark.parametrize(
    "more, meant",
    [
        ({}, False),
        ({"metadata": {"labels": {"sidecar.istio.io/inject": "true"}}}, True),
        ({"metadata": {"annotations": {"sidecar.istio.io/inject": True}}}, True),
        ({"metadata": {"labels": {"sidecar.istio.io/inject": "false", "istio.io/rev": "x"}}}, False),
        ({"metadata": {"labels": {"istio.io/rev": "canary"}}}, True),
        ({"spec": {"containers": [{"name": "istio-proxy"}]}}, True),
        ({"spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "istio-proxy"}]}}, True),
    ],
)
def test_whether_istio_will_be_there(more, meant):
    assert istio_is_meant({**template(), **more}) is meant
