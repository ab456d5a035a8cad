"""A bare config, or manifests as they are published."""

from pathlib import Path

import pytest

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.layers import FileLayer
from sp_proxy.settings.manifest import UNUSED, file_layer

SERVER = """\
# server mode: collects inbound traffic
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata:
  name: sp-istio-agent-server
  namespace: istio-system
spec:
  url: oci://registry.example/softprobe/softprobe:latest
  sha256: 824405f7bd9b6e97c9762d3056e8de7ddb606497ae213dae53284434949fc33e
  phase: AUTHN
  match:
    - mode: SERVER
  pluginConfig:
    sp_backend_url: "https://o.softprobe.ai"
    enable_inject: false
    public_key: "key-1"
    traffic_direction: "server"
    collectionRules:
      http:
        server:
          - path: "/api/.*"
        client:
          - host: ".*"
            paths: [".*"]
  vmConfig:
    env:
      - name: WASM_LOG_LEVEL
        value: "debug"
"""
OTHER = """\
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: softprobe-backend}
spec:
  hosts: [o.softprobe.ai]
"""
CLIENT = """\
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: sp-istio-agent-client}
spec:
  pluginConfig:
    sp_backend_url: "https://o.softprobe.ai"
    enable_inject: false
    public_key: "key-1"
    traffic_direction: "client"
    collectionRules:
      http:
        client:
          - host: ".*\\\\.googleapis\\\\.com"
            paths: ["/maps/.*"]
            methods: [GET]
          - host: ".*"
            exclude: true
"""


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str) -> FileLayer:
        path = tmp_path / "f.yaml"
        path.write_text(text)
        return file_layer(path)

    return read_text


@pytest.fixture
def problems(read, tmp_path: Path):
    def told(text: str) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            read(text)
        return [line.replace(f"{tmp_path}/", "") for line in caught.value.problems]

    return told


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "---\n---\n"])
def test_an_empty_file_is_fine(read, text):
    assert read(text) == FileLayer(read(text).layer, [])
    assert read(text).layer.values == {}


def test_a_bare_config(read, tmp_path):
    file = read("listen:\n  inbound: off\nretry:\n")
    assert file.layer.values == {"listen": {"inbound": False}}
    assert file.layer.place(("listen", "inbound")) == f"{tmp_path}/f.yaml:2"
    assert file.warnings == []


def test_a_published_manifest(read, tmp_path):
    file = read(SERVER + OTHER)
    assert file.layer.values["traffic_direction"] == "server"
    assert file.layer.values["collectionRules"]["http"]["client"] == [{"host": ".*", "paths": [".*"]}]
    assert "enable_inject" not in file.layer.values
    assert file.warnings == [f"{tmp_path}/f.yaml:16: enable_inject: has no effect, as in the filter"]
    assert file.layer.place(("public_key",)) == f"{tmp_path}/f.yaml:17"


def test_two_manifests_serve_both_directions(read, tmp_path):
    file = read(SERVER + OTHER + CLIENT)
    line = (SERVER + OTHER + CLIENT).splitlines().index("            exclude: true") + 1
    assert file.layer.values == {
        "sp_backend_url": "https://o.softprobe.ai",
        "public_key": "key-1",
        "traffic_direction": "both",
        "collectionRules": {
            "http": {
                "server": [{"path": "/api/.*"}],
                "client": [
                    {"host": ".*\\.googleapis\\.com", "paths": ["/maps/.*"], "methods": ["GET"]},
                    {"host": ".*", "exclude": True},
                ],
            }
        },
    }
    assert file.layer.place(("collectionRules", "http", "server", 0, "path")) == f"{tmp_path}/f.yaml:22"
    assert file.layer.place(("collectionRules", "http", "client", 1, "exclude")) == f"{tmp_path}/f.yaml:{line}"
    assert len(file.warnings) == 1


def test_a_list_as_kubectl_prints_one(read, tmp_path):
    text = "apiVersion: v1\nkind: List\nitems:\n- kind: Service\n  apiVersion: v1\n- kind: WasmPlugin\n  spec:\n    pluginConfig:\n      strict: reject\n"  # fmt: skip
    file = read(text)
    assert file.layer.values == {"strict": "reject"}
    assert file.layer.place(("strict",)) == f"{tmp_path}/f.yaml:9"


@pytest.mark.parametrize("spec", ["", "spec:\n", "spec: {}\n", "spec:\n  pluginConfig:\n"])
def test_a_manifest_without_settings_is_an_empty_config(read, spec):
    assert read(f"kind: WasmPlugin\n{spec}").layer.values == {}


@pytest.mark.parametrize("key", UNUSED)
def test_keys_that_no_version_implements_are_a_warning_each(read, key):
    manifest = read(f"kind: WasmPlugin\nspec:\n  pluginConfig:\n    {key}: 1\n")
    assert manifest.layer.values == {}
    assert [warning.split(": ")[1] for warning in manifest.warnings] == [key]
    bare = read(f"{key}: 1\n")
    assert (bare.layer.values, len(bare.warnings)) == (({key: 1}, 0) if key == "debug_headers" else ({}, 1))


def test_a_warning_is_given_once_for_several_plugins(read):
    plugin = "---\nkind: WasmPlugin\nspec:\n  pluginConfig:\n    debug_headers: true\n    cache_ttl_seconds: 3\n"
    assert len(read(plugin * 3).warnings) == 2


@pytest.mark.parametrize(
    "text,problem",
    [
        ("hunter2", "f.yaml: found a single value; allowed: a mapping of settings"),
        ("- a", "f.yaml:1: found a list; allowed: a mapping of settings"),
        ("strict: raw\n---\nstrict: raw\n", "f.yaml:3: found a second document; allowed: one config a file"),
        (SERVER + "---\nstrict: raw\n", f"f.yaml:{SERVER.count(chr(10)) + 2}: a bare config among manifests; allowed: one or the other"),
        (OTHER, 'f.yaml: found no WasmPlugin among its Kubernetes objects ("ServiceEntry")'),
        ("kind: WasmPlugin\nspec: [a]", "f.yaml:2: spec: found a list; allowed: a mapping"),
        ("kind: WasmPlugin\nspec:\n  pluginConfig: hunter2", "f.yaml:3: spec.pluginConfig: found a single value; allowed: a mapping"),
    ],
)  # fmt: skip
def test_files_that_are_neither(problems, text, problem):
    assert problems(text) == [problem]
