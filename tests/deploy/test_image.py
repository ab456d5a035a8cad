"""The image really runs: with a read-only root, as an ordinary user, and with two capabilities where the rules are written."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sp_proxy import __version__
from tests.deploy.image import Image
from tests.deploy.oci import Container, Mount, Spec
from tests.e2e.harness import eventually, get, home
from tests.netns import Namespace

pytestmark = pytest.mark.timeout(1500)  # the first of them builds

NO_CAPABILITY = "0" * 16
Run = Callable[..., Container]


@pytest.fixture
def pod(image: Image) -> Iterator[Namespace]:
    with Namespace("image") as namespace:
        yield namespace


@pytest.fixture
def run(image: Image, pod: Namespace) -> Iterator[Run]:
    """Starts a container of the image in the namespace, as ``docker run --read-only --cap-drop ALL`` does."""
    with home() as directory, ExitStack() as stack:

        def start(*words: str, name: str = "sp-proxy", user: int = 1338, state: bool = True, **more: Any) -> Container:
            volume = directory / f"state-{name}"
            volume.mkdir(exist_ok=True)
            os.chown(volume, 1338, 1338)
            environment = {**image.environment, **more.pop("environment", {})}
            mounts = [Mount(volume, "/var/lib/sp-proxy")] if state else []
            words = (*more.pop("entrypoint", image.entrypoint), *words)
            spec = Spec(name, image.root, words, environment, image.directory, user, user, mounts=mounts, **more)
            container = Container(spec, pod, directory)
            stack.callback(container.delete)
            return container

        yield start


BACKEND = {"SP_PROXY_BACKEND__ENABLED": "true"}
RULES = frozenset({"NET_ADMIN", "NET_RAW"})


def finished(container: Container) -> str:
    assert container.wait(120) == 0, container.log
    return container.log


def test_labels_user_and_health_check(image: Image):
    assert image.labels["org.opencontainers.image.title"] == "sp-proxy"
    assert image.labels["org.opencontainers.image.version"] == __version__
    assert image.labels["org.opencontainers.image.revision"] == "0" * 40
    assert image.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.user == "1338:1338"
    assert (image.entrypoint, image.command, image.directory) == (["sp-proxy"], ["run"], "/var/lib/sp-proxy")
    assert image.health[0] == "python"


def test_only_what_runs_is_inside(image: Image):
    names = {
        path.name
        for directory in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "opt/sp-proxy/bin")
        for path in (image.root / directory).iterdir()
    }
    assert {"sp-proxy", "sp-proxy-init", "nft", "iptables", "ip6tables-legacy", "ip", "python3.12"} <= names
    assert not {"uv", "pip", "pip3", "gcc", "cc", "make", "git", "curl"} & names
    packages = {
        path.name.partition("-")[0].lower()
        for path in image.root.glob("opt/sp-proxy/lib/python*/site-packages/*.dist-info")
    }
    assert {"sp_proxy", "mitmproxy", "trio"} <= packages
    assert not {"pytest", "mypy", "ruff", "hypothesis", "hatchling", "uv", "pip", "kubernetes_validate"} & packages
    assert not any((image.root / "var/lib/apt/lists").iterdir())
    assert not (image.root / "src").exists()


def test_the_code_is_compiled_and_nothing_may_be_changed_by_its_user(image: Image):
    modules = list(image.root.glob("opt/sp-proxy/lib/python*/site-packages/sp_proxy/*.py"))
    assert modules
    for module in modules:
        assert list(module.parent.glob(f"__pycache__/{module.stem}.*.pyc")), module
    for path in image.root.glob("opt/sp-proxy/**/*"):
        mode = path.lstat()
        assert mode.st_uid == 0, path
        assert path.is_symlink() or not mode.st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_the_daemon_runs_without_a_capability_on_a_read_only_root(run: Run, pod: Namespace, image: Image):
    daemon = run(*image.command, environment=BACKEND)

    def ready() -> int:
        assert daemon.exit_code is None, daemon.log
        return get(pod, 16021, "/healthz/ready")[0]

    eventually(ready, lambda status: status == 200, "ready")
    assert get(pod, 16021, "/healthz/live") == (200, '{"status":"ok"}')
    status = daemon.status()
    assert status["Uid"].split() == ["1338"] * 4
    assert {status[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")} == {NO_CAPABILITY}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    checked = daemon.run(*image.health)
    assert checked.returncode == 0, checked.stderr
    for directory in ("/", "/etc", "/tmp", "/opt/sp-proxy/bin"):
        assert daemon.run("touch", f"{directory}/x").returncode != 0
    assert daemon.run("sp-proxy", "status").returncode == 0
    daemon.kill("TERM")
    assert daemon.wait(60) == 0, daemon.log
    assert "Traceback" not in daemon.log


def test_the_health_check_fails_where_nothing_answers(run: Run, image: Image):
    idle = run("3600", entrypoint=["sleep"])
    idle.wait_running()
    assert idle.run(*image.health).returncode == 1


@pytest.mark.parametrize("writer", ["nft", "iptables-nft", "iptables-legacy"])
def test_the_init_container_writes_the_rules_with_two_capabilities(run: Run, pod: Namespace, writer: str):
    environment = {"SP_PROXY_NETFILTER__WRITER": writer, "XTABLES_LOCKFILE": "/dev/shm/xtables.lock"}
    init = run(
        name="init", user=0, state=False, entrypoint=["sp-proxy-init"], capabilities=RULES, environment=environment
    )
    said = finished(init)
    assert f"with {writer}, mode standalone" in said
    assert "FAIL" not in said
    listing = pod.run("nft", "list", "ruleset") if writer == "nft" else pod.run(f"{writer}-save", "-t", "nat")
    assert "16006" in listing.stdout


def test_rules_that_cannot_be_written_stop_nobody(run: Run, tmp_path: Path, pod: Namespace):
    said = finished(run("--go-on", name="init", user=0, state=False, entrypoint=["sp-proxy-init"]))
    assert "NET_ADMIN" in said
    assert "going on: traffic flows, and nothing is captured" in said
    strict = run(name="strict", user=0, state=False, entrypoint=["sp-proxy-init"])
    assert strict.wait(60) == 1


def test_a_pod_on_the_nodes_own_network_gets_no_rules(run: Run, pod: Namespace):
    environment = {"POD_IP": "10.0.0.1", "HOST_IP": "10.0.0.1"}
    said = finished(
        run(
            "--go-on",
            name="init",
            user=0,
            state=False,
            entrypoint=["sp-proxy-init"],
            capabilities=RULES,
            environment=environment,
        )
    )
    assert "this pod is on its node's own network" in said
    assert json.loads(pod.run("nft", "-j", "list", "tables").stdout)["nftables"][1:] == []


def test_the_certificate_authority_and_the_backend_have_a_place_to_write(run: Run, pod: Namespace):
    assert "sp_proxy_ca" in finished(run("ca", "init", name="ca"))
    backend = run("backend", "--database", "/var/lib/sp-proxy/spans.sqlite3", name="backend")
    eventually(lambda: get(pod, 4318, "/healthz")[0], lambda status: status == 200, "the backend answers")
    backend.kill("TERM")
    assert backend.wait(60) == 0, backend.log
