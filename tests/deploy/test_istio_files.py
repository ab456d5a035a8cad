"""The files of ``deploy/kubernetes/istio``: valid by published schemas, about the same backend, and a component that builds."""

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sp_proxy.settings.model import SettingsModel
from tests.deploy.test_manifests import KUBECTL, KUBERNETES, VERSIONS

FILES = KUBERNETES / "istio"
SCHEMAS: dict[str, Any] = json.loads((Path(__file__).parent / "schemas" / "istio.json").read_text("utf-8"))
BACKEND = urlsplit(SettingsModel().sp_backend_url)


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FILES / name).read_text("utf-8"))
    return loaded


@pytest.mark.parametrize("name", ["service-entry.yaml", "destination-rule.yaml", "sidecar.yaml"])
def test_what_is_istios_is_valid(name: str):
    made = manifest(name)
    assert made["apiVersion"] == "networking.istio.io/v1"
    schema = SCHEMAS[made["kind"]]
    jsonschema.validate(made, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made | {"spec": made["spec"] | {"unknown": 1}}, schema)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_kubernetes_own_is_valid(version: str):
    kubernetes_validate.validate(manifest("network-policy.yaml"), version, strict=True)


def test_all_are_about_the_backend_of_the_default_settings():
    entry, rule = manifest("service-entry.yaml")["spec"], manifest("destination-rule.yaml")["spec"]
    assert entry["hosts"] == [rule["host"]] == [BACKEND.hostname]
    (port,) = entry["ports"]
    assert (BACKEND.scheme, port["number"], port["protocol"]) == ("https", 443, "TLS")
    assert rule["trafficPolicy"]["tls"]["mode"] == "DISABLE"
    assert rule["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] >= SettingsModel().upload.concurrency


def test_the_sidecar_resource_does_not_take_inbound_from_us():
    assert "defaultEndpoint" not in json.dumps(manifest("sidecar.yaml"))


@pytest.mark.parametrize("all_of_it", [False, True])
def test_the_component_builds_in_an_overlay(tmp_path: Path, all_of_it: bool):
    component = tmp_path / "istio"
    component.mkdir()
    for file in FILES.glob("*.yaml"):
        text = file.read_text("utf-8")
        (component / file.name).write_text(text.replace("  # - ", "  - ") if all_of_it else text, "utf-8")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("namespace: shop\ncomponents: [../istio]\n", "utf-8")
    done = subprocess.run([KUBECTL, "kustomize", str(overlay)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert {each["metadata"]["namespace"] for each in made} == {"shop"}
    kinds = {"ServiceEntry", "DestinationRule"} | ({"Sidecar", "NetworkPolicy"} if all_of_it else set())
    assert {each["kind"] for each in made} == kinds
