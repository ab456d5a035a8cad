"""What ``docs/kubernetes.md`` tells people to type exists, and does what it says; what it says of the pod is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sp_proxy.cli.main import COMMANDS
from sp_proxy.sidecar.containers import init_container, proxy_container
from sp_proxy.sidecar.deadline import divide
from sp_proxy.sidecar.plan import Sidecar
from sp_proxy.sidecar.workloads import TEMPLATES
from tests.deploy.test_manifests import KUBERNETES, ROOT, kustomize, validate

TEXT = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
COMMANDS_TYPED = [
    shlex.split(part, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    for part in re.split(r" \| ", line)
]
SP_PROXY = str(Path(sys.executable).with_name("sp-proxy"))


def typed(*words: str) -> list[list[str]]:
    found = [command for command in COMMANDS_TYPED if command[: len(words)] == list(words)]
    assert found, words
    return found


def test_what_is_applied_can_be_built_and_is_valid():
    directories = [command[-1] for command in typed("kubectl", "apply", "-k")]
    directories += re.findall(r"`kubectl apply -k (\S+)`", TEXT)
    assert {Path(directory).name for directory in directories} == {"standalone", "istio"}
    for directory in directories:
        validate(kustomize(ROOT / directory))


def test_what_is_waited_for_and_forwarded_to_is_in_it():
    objects = {(one["kind"], one["metadata"]["name"]): one for one in kustomize(KUBERNETES / "overlays" / "standalone")}
    assert ("Job", "customers") in objects
    backend: dict[str, Any] = objects["Deployment", "backend"]["spec"]["template"]["spec"]["containers"][0]
    assert backend["ports"] == [{"name": "http", "containerPort": 4318}]
    assert objects["Secret", "backend"]["stringData"] == {"token": "change-me"}
    assert "password `change-me`" in TEXT


def test_the_image_that_is_built_is_the_one_that_is_run():
    (build,) = typed("docker", "build", "-t")
    images = set(re.findall(r"image: (\S+)", (KUBERNETES / "example" / "shop.yaml").read_text("utf-8")))
    assert images == {build[3]}


@pytest.mark.parametrize("command", typed("sp-proxy", "inject"), ids=" ".join)
def test_the_injectors_commands_run(command: list[str], tmp_path: Path):
    example = (KUBERNETES / "example" / "shop.yaml").read_text("utf-8")
    (tmp_path / "deployment.yaml").write_text(example, "utf-8")
    done = subprocess.run(
        [SP_PROXY, *command[1:]], cwd=tmp_path, input=example, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    validate(list(yaml.safe_load_all(done.stdout)))


def test_the_commands_and_options_it_names_exist():
    for name in set(re.findall(r"`?sp-proxy ([a-z]+)\b", TEXT)) - {"sp"}:
        assert name in COMMANDS, name
    said = subprocess.run([SP_PROXY, "inject", "--help"], capture_output=True, text=True, check=True).stdout
    for option in (
        "-f",
        "--istio",
        "--no-istio",
        "--classic",
        "--image",
        "--config-map",
        "--secret",
        "--set",
        "--uninject",
    ):
        assert f"`{option}" in TEXT or option == "--uninject"
        assert option in said


def test_the_kustomization_that_it_shows_builds(tmp_path: Path):
    (block,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", TEXT, re.DOTALL)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")  # kustomize looks at real paths
    shop, mine = tmp_path / "shop", tmp_path / "mine"
    shop.mkdir()
    mine.mkdir()
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "a", "image": "b"}]},
            },
        },
    }
    (shop / "shop.yaml").write_text(yaml.safe_dump(deployment), "utf-8")
    (shop / "kustomization.yaml").write_text("resources: [shop.yaml]\n", "utf-8")
    (mine / "sp-proxy.yaml").write_text("service_name: shop\n", "utf-8")
    (mine / "public_key.env").write_text("public_key=k\n", "utf-8")
    component = Path(*[".."] * len(mine.resolve().parts[1:]), *(KUBERNETES / "components").parts[1:])
    (mine / "kustomization.yaml").write_text(
        block.replace("../../deploy/kubernetes/components", str(component)), "utf-8"
    )
    objects = kustomize(mine)
    validate(objects)
    (made,) = [one for one in objects if one["kind"] == "Deployment"]
    images = {one["image"] for one in made["spec"]["template"]["spec"]["initContainers"]}
    assert images == {"registry.example/sp-proxy:0.1.0"}


def test_its_numbers_are_those_of_the_manifests():
    proxy, init = proxy_container(Sidecar(), divide(30, pre_stop=False)), init_container(Sidecar())
    for container in (proxy, init):
        assert container["resources"] == {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    assert "100m, 128Mi; at most 512Mi" in TEXT
    native, classic = divide(30, pre_stop=False), divide(30, pre_stop=True)
    assert f"| {native.grace_period} s of 30 | {classic.grace_period} s of 30 |" in TEXT
    assert f"| {native.flush_timeout} s | {classic.flush_timeout} s |" in TEXT
    assert f"the preStop hook: {classic.pre_stop} s" in TEXT
    hook = proxy["lifecycle"]["postStart"]["exec"]["command"][-1].removesuffix(" || true")
    assert f"`{hook}`" in TEXT


def test_every_kind_is_named():
    missing = [kind for kind in TEMPLATES if f"{kind}s" not in TEXT]
    assert missing == []
