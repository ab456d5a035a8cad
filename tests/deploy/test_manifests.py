"""The files of ``deploy/kubernetes``, built by kustomize itself, and what ``sp-proxy inject`` prints: valid by Kubernetes'
published schemas, strictly, and the same sidecar.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sp_proxy.sidecar.component import FORMS
from sp_proxy.sidecar.inject import inject
from sp_proxy.sidecar.workloads import TEMPLATES

ROOT = Path(__file__).parent.parent.parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = ("1.29", "1.33", "1.37")
"""The first that runs native sidecars by default, the one in which they are stable, and the newest."""
BEFORE_NATIVE = "1.25"

Plain = dict[str, Any]

WORKLOADS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: one}
spec:
  selector: {matchLabels: {app: one}}
  template:
    metadata: {labels: {app: one}}
    spec:
      initContainers: [{name: migrate, image: m, env: [{name: A, value: b}]}]
      containers: [{name: app, image: a}, {name: second, image: b}]
      volumes: [{name: data, emptyDir: {}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: two}
spec:
  serviceName: two
  selector: {matchLabels: {app: two}}
  template:
    metadata: {labels: {app: two}}
    spec: {containers: [{name: app, image: a}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: three}
spec:
  selector: {matchLabels: {app: three}}
  template:
    metadata: {labels: {app: three}, annotations: {a: b}}
    spec: {containers: [{name: app, image: a}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: four}
spec:
  selector: {matchLabels: {app: four}}
  template:
    metadata: {labels: {app: four}}
    spec: {containers: [{name: app, image: a}]}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: five}
spec:
  selector: {app: five}
  template:
    metadata: {labels: {app: five}}
    spec: {containers: [{name: app, image: a}]}
---
apiVersion: v1
kind: Pod
metadata: {name: six}
spec: {containers: [{name: app, image: a}]}
"""
ONLY_NATIVE = """\
---
apiVersion: batch/v1
kind: Job
metadata: {name: seven}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: app, image: a}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: eight}
spec:
  schedule: "0 * * * *"
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: app, image: a}]}
"""
LEFT_ALONE = """\
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: alone, annotations: {sp-proxy/inject: "false"}}
spec:
  selector: {matchLabels: {app: alone}}
  template:
    metadata: {labels: {app: alone}}
    spec: {containers: [{name: app, image: a}]}
"""


def kustomize(directory: Path) -> list[Plain]:
    """What ``kubectl apply -k`` would send."""
    done = subprocess.run(
        [KUBECTL, "kustomize", str(directory)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warning of something deprecated"
    return list(yaml.safe_load_all(done.stdout))


def validate(objects: list[Plain], *versions: str) -> None:
    for one in objects:
        if one["kind"] == "PodMonitor":
            jsonschema.validate(one, json.loads((SCHEMAS / "pod-monitor.json").read_text("utf-8")))
            continue
        for version in versions or VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)


def template(one: Plain) -> Plain:
    for key in TEMPLATES[one["kind"]]:
        one = one[key]
    return one


def templates(objects: list[Plain]) -> Iterator[tuple[str, Plain]]:
    for one in objects:
        if one["kind"] in TEMPLATES:
            yield one["metadata"]["name"], template(one)


def by_name(items: list[Plain]) -> dict[str, Plain]:
    found = {item["name"]: item for item in items}
    assert len(found) == len(items)
    return found


def comparable(objects: list[Plain]) -> dict[str, Any]:
    """Pod templates by the name of their object; the order of volumes says nothing."""
    found = {}
    for name, each in templates(objects):
        spec = {**each["spec"], "volumes": by_name(each["spec"].get("volumes", []))}
        metadata = {key: value for key, value in each.get("metadata", {}).items() if key != "name"}
        found[name] = {"metadata": metadata, "spec": spec}
    return found


@pytest.fixture(params=sorted(FORMS))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def in_form(form: str) -> str:
    return WORKLOADS + (ONLY_NATIVE if FORMS[form].native else "") + LEFT_ALONE


class TestOneSource:
    def test_kustomize_and_inject_make_the_same_pods(self, tmp_path: Path, form: str):
        (tmp_path / "workloads.yaml").write_text(in_form(form), "utf-8")
        component = Path(*[".."] * len(tmp_path.resolve().parts[1:]), *(KUBERNETES / "components" / form).parts[1:])
        (tmp_path / "kustomization.yaml").write_text(
            f"resources: [workloads.yaml]\ncomponents: [{component}]\n", "utf-8"
        )
        by_kustomize = kustomize(tmp_path)
        injected, _ = inject(in_form(form), FORMS[form], {}, istio=FORMS[form].istio)
        assert comparable(by_kustomize) == comparable(list(yaml.safe_load_all(injected)))
        assert len(comparable(by_kustomize)) == (9 if FORMS[form].native else 7)
        assert "initContainers" not in comparable(by_kustomize)["alone"]["spec"]

    def test_what_inject_prints_is_valid(self, form: str):
        injected, _ = inject(in_form(form), FORMS[form], {}, istio=FORMS[form].istio)
        objects = list(yaml.safe_load_all(injected))
        validate(objects)
        if not FORMS[form].native:
            validate(objects, BEFORE_NATIVE)

    def test_a_wrong_key_would_be_seen(self, form: str):
        injected, _ = inject(in_form(form), FORMS[form], {}, istio=FORMS[form].istio)
        objects = list(yaml.safe_load_all(injected))
        template(objects[0])["spec"]["initContainers"][0]["securityContext"]["capabilites"] = {}
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(objects)


@pytest.mark.parametrize("overlay", ["standalone", "istio"])
class TestOverlays:
    def test_they_are_valid(self, overlay: str):
        validate(kustomize(KUBERNETES / "overlays" / overlay))

    def test_every_workload_but_the_backend_has_the_sidecar(self, overlay: str):
        pods = dict(templates(kustomize(KUBERNETES / "overlays" / overlay)))
        assert set(pods) == {"orders", "inventory", "payment", "customers", "backend"}
        assert "initContainers" not in pods.pop("backend")["spec"]
        for each in pods.values():
            assert [one["name"] for one in each["spec"]["initContainers"]] == ["sp-proxy-init", "sp-proxy"]
            modes = {
                variable["value"]
                for one in each["spec"]["initContainers"]
                for variable in one["env"]
                if variable["name"] == "SP_PROXY_NETFILTER__MODE"
            }
            assert modes == ({"beside-istio"} if overlay == "istio" else set())

    def test_configuration_and_key_are_found_by_their_generated_names(self, overlay: str):
        objects = kustomize(KUBERNETES / "overlays" / overlay)
        made = {(one["kind"], one["metadata"]["name"]) for one in objects}
        for name, each in templates(objects):
            if name == "backend":
                continue
            volumes = by_name(each["spec"]["volumes"])
            assert ("ConfigMap", volumes["sp-proxy-config"]["configMap"]["name"]) in made
            env = by_name(each["spec"]["initContainers"][1]["env"])
            assert ("Secret", env["SP_PROXY_PUBLIC_KEY"]["valueFrom"]["secretKeyRef"]["name"]) in made

    def test_all_is_in_one_namespace(self, overlay: str):
        objects = kustomize(KUBERNETES / "overlays" / overlay)
        (namespace,) = [one for one in objects if one["kind"] == "Namespace"]
        assert namespace["metadata"]["name"] == "shop"
        labels = namespace["metadata"].get("labels", {})
        assert labels == ({"istio-injection": "enabled"} if overlay == "istio" else {})
        assert {one["metadata"]["namespace"] for one in objects if one["kind"] != "Namespace"} == {"shop"}

    def test_the_pods_that_are_scraped_are_those_with_the_sidecar(self, tmp_path: Path, overlay: str):
        up = Path(*[".."] * len(tmp_path.resolve().parts[1:]))
        paths = [
            up.joinpath(*(KUBERNETES / each).parts[1:]) for each in (f"overlays/{overlay}", "components/pod-monitor")
        ]
        (tmp_path / "kustomization.yaml").write_text(f"resources: [{paths[0]}]\ncomponents: [{paths[1]}]\n", "utf-8")
        objects = kustomize(tmp_path)
        validate(objects)
        (monitor,) = [one for one in objects if one["kind"] == "PodMonitor"]
        (wanted,) = monitor["spec"]["selector"]["matchLabels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for _, each in templates(objects):
            containers = [*each["spec"]["containers"], *each["spec"].get("initContainers", [])]
            ports = {port.get("name") for one in containers for port in one.get("ports", [])}
            assert (wanted in each["metadata"]["labels"].items()) is (endpoint["port"] in ports)


def test_a_monitor_with_a_wrong_key_would_be_seen():
    text = (KUBERNETES / "components" / "pod-monitor" / "pod-monitor.yaml").read_text("utf-8")
    monitor = yaml.safe_load(text)
    validate([monitor])
    monitor["spec"]["podMetricsEndpoints"][0]["prot"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validate([monitor])
