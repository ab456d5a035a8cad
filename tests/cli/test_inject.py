"""``sp-proxy inject``, from its command line."""

import io
from pathlib import Path

import pytest
import yaml

from sp_proxy.cli.main import main

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  template:
    spec:
      containers:
      - {name: app, image: shop}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.yaml"
    path.write_text(DEPLOYMENT, "utf-8")
    return path


def test_the_manifest_goes_to_standard_output_and_what_was_done_to_standard_error(capsys, manifest: Path):
    assert (
        main(["inject", "-f", str(manifest), "--image", "registry.example/sp-proxy:9", "--set", "service_name=cart"])
        == 0
    )
    out, err = capsys.readouterr()
    spec = yaml.safe_load(out)["spec"]["template"]["spec"]
    assert [one["image"] for one in spec["initContainers"]] == ["registry.example/sp-proxy:9"] * 2
    assert {"name": "SP_PROXY_SERVICE_NAME", "value": "cart"} in spec["initContainers"][1]["env"]
    assert err == "sp-proxy: Deployment shop: sidecar added (native)\n"


def test_from_standard_input_and_out_again(capsys, monkeypatch, manifest: Path):
    main(["inject", "-f", str(manifest), "--classic", "--istio", "--config-map", "c", "--secret", "s"])
    injected = capsys.readouterr().out
    assert injected.count("beside-istio") == 2
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(injected.encode())))
    assert main(["inject", "-f", "-", "--uninject"]) == 0
    assert capsys.readouterr().out == DEPLOYMENT


def test_several_files_are_one_stream_of_documents(capsys, tmp_path: Path, manifest: Path):
    other = tmp_path / "service.yaml"
    other.write_text("kind: Service", "utf-8")
    assert main(["inject", "-f", str(other), "-f", str(manifest), "-f", str(other)]) == 0
    out, err = capsys.readouterr()
    assert [one["kind"] for one in yaml.safe_load_all(out)] == ["Service", "Deployment", "Service"]
    assert f"{other}: no workload in it: printed as it is" in err


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "Missing option '--filename'"),
        (["-f", "no-such-file.yaml"], 1, "no-such-file.yaml: cannot be read (no such file or directory)"),
        (["-f", "."], 1, ".: cannot be read (is a directory)"),
        (["-f", "{manifest}", "--set", "listen.inbund=1"], 2, "unknown key"),
        (["-f", "{manifest}", "--set", "listen.inbound=x"], 2, "listen.inbound"),
        (["-f", "{manifest}", "--set", "netfilter.mode=standalone"], 2, "use --istio or --no-istio"),
        (["-f", "{manifest}", "--config-map", "Not A Name"], 2, "--config-map"),
        (["-f", "{manifest}", "--image", "two words"], 2, "--image"),
        (["-f", "{broken}"], 1, "line 2: not YAML"),
        (["-f", "{binary}"], 1, "not UTF-8 text (byte 0)"),
        (["-f", "{job}", "--classic"], 1, "a classic sidecar does not end"),
        (["-f", "{port}"], 1, "has port 16001, which is the sidecar's listen.outbound"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_printed(capsys, tmp_path: Path, manifest: Path, arguments, code, message):
    files = {
        "broken": b"a: 1\n  b: 2\n",
        "binary": b"\xff",
        "job": DEPLOYMENT.replace("apps/v1", "batch/v1").replace("Deployment", "Job").encode(),
        "port": DEPLOYMENT.replace("image: shop", "ports: [{containerPort: 16001}]").encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    names = {"manifest": manifest, **{name: tmp_path / name for name in files}}
    assert main(["inject", *(word.format(**names) for word in arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_other_ports_of_the_sidecar_are_others_of_the_application(capsys, tmp_path: Path):
    path = tmp_path / "port.yaml"
    path.write_text(DEPLOYMENT.replace("image: shop", "ports: [{containerPort: 16001}]"), "utf-8")
    assert main(["inject", "-f", str(path), "--set", "listen.outbound=17001"]) == 0
    assert "17001" in capsys.readouterr().out
