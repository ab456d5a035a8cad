"""Whole texts."""

import json
from pathlib import Path

import pytest
import yaml

from sp_proxy.sidecar.documents import ManifestError
from sp_proxy.sidecar.inject import inject, uninject
from sp_proxy.sidecar.plan import Sidecar

EXAMPLE = Path(__file__).parent.parent.parent / "deploy" / "kubernetes" / "example"
PORTS = {16021: "admin.listen"}
NATIVE = Sidecar()
DEPLOYMENT = """\
# ours
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  template:
    spec:
      containers: # one
      - name: app
        image: shop  # pinned elsewhere
"""


def added(text, sidecar=NATIVE, *, istio=False):
    return inject(text, sidecar, PORTS, istio=istio)


@pytest.mark.parametrize("file", sorted(EXAMPLE.glob("*.yaml")), ids=lambda file: file.name)
@pytest.mark.parametrize("istio", [False, True])
def test_the_examples_lines_all_stay_and_come_back(file, istio):
    text = file.read_text("utf-8")
    after, outcomes = added(text, istio=istio)
    remaining = iter(after.splitlines())
    assert all(line in remaining for line in text.splitlines()), "in their order"
    assert added(after, istio=istio)[0] == after
    assert uninject(after)[0] == text
    assert bool(outcomes) is (file.name in {"shop.yaml", "backend.yaml"})


def test_what_was_done_is_said():
    other = DEPLOYMENT.replace("{name: shop}", '{name: alone, annotations: {sp-proxy/inject: "false"}}')
    text = f"{DEPLOYMENT}---\n{other}"
    after, outcomes = added(text)
    assert list(map(str, outcomes)) == [
        "Deployment shop: sidecar added (native)",
        'Deployment alone: left alone (annotation sp-proxy/inject is "false")',
    ]
    assert str(added(after)[1][0]) == "Deployment shop: unchanged"
    after, outcomes = added(after, Sidecar(native=False), istio=True)
    assert str(outcomes[0]) == "Deployment shop: sidecar replaced (classic, beside Istio)"
    after, outcomes = uninject(after)
    assert [one.happened for one in outcomes] == ["sidecar removed", "has no sidecar"]
    assert after == text


def test_istio_is_where_the_manifest_says_so():
    label = '  template:\n    metadata: {labels: {sidecar.istio.io/inject: "true"}}\n'
    _, outcomes = added(DEPLOYMENT.replace("  template:\n", label), istio=None)
    assert "beside Istio" in outcomes[0].happened
    assert "beside Istio" not in added(DEPLOYMENT, istio=None)[1][0].happened


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"indent": 4}, {"indent": "\t"}])
def test_json_stays_json_in_its_layout(layout):
    value = {**yaml.safe_load(DEPLOYMENT), "metadata": {"name": "shop", "annotations": {"emoji": "😀"}}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [value]}, **layout) + "\n"
    after, outcomes = added(text)
    assert len(outcomes) == 1
    spec = json.loads(after)["items"][0]["spec"]["template"]["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["sp-proxy-init", "sp-proxy"]
    assert json.loads(uninject(after)[0]) == json.loads(text)
    assert after.count("\n") == 1 if not layout else after.startswith(text[:6])


def test_a_byte_order_mark_and_windows_line_ends_stay():
    text = "\ufeff" + DEPLOYMENT.replace("\n", "\r\n")
    after, _ = added(text)
    assert after.startswith("\ufeff# ours\r\n")
    assert after.count("\n") == after.count("\r\n")
    assert uninject(after)[0] == text


def test_nothing_of_ours_is_the_very_same_text():
    text = "# nothing\nkind: Service\n\n\n---\n---\n  a:   [1,2]\n"
    assert added(text) == (text, [])
    assert uninject(text) == (text, [])
    assert added("") == ("", [])


def test_two_workloads_that_share_a_template_by_an_alias_are_refused():
    pod = "{spec: {containers: [{name: a}]}}"
    text = f"kind: List\nitems:\n- kind: Deployment\n  spec:\n    template: &t {pod}\n- kind: Deployment\n  spec:\n    template: *t\n"
    with pytest.raises(ManifestError, match="alias"):
        added(text)


def test_a_mistake_in_one_workload_is_the_texts():
    with pytest.raises(ManifestError, match="Deployment shop: container app has port 16021"):
        added(DEPLOYMENT + "        ports: [{containerPort: 16021}]\n")
