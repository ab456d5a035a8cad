"""``docker-compose.yaml``, run: every service as the file says, in the order of its dependencies, on one network."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.image import Image
from tests.deploy.oci import Container, Mount, Spec
from tests.deploy.test_files import SERVICES, SHOP
from tests.deploy.test_walk_through import ask
from tests.e2e.harness import eventually, home
from tests.netns import Namespace, default_route, link

pytestmark = pytest.mark.timeout(1500)  # the first of them builds the image

REQUESTS = 100
"""Of the customers' burst, as the file says; then they go on slowly."""
STOP_SECONDS = 60.0
"""Docker kills after ten; this machine may be busy."""
HEARTBEAT = {"SP_PROXY_NETFILTER__HEARTBEAT__TIMEOUT": "60s"}
"""Of rules and sidecars, over the file: on a machine that stalls for seconds, connections would go straight, as they should."""
STALL_SECONDS = 120.0


def while_it_goes_on[T](look: Callable[[], T], accept: Callable[[T], bool], what: str) -> T:
    """Looks until it is as wanted. However slow the machine is: only when nothing changes any more is it over."""
    last, changed = look(), time.monotonic()
    while not accept(last):
        time.sleep(0.2)
        seen = look()
        if seen != last:
            last, changed = seen, time.monotonic()
        assert time.monotonic() < changed + STALL_SECONDS, f"nothing goes on: {what}; last seen: {last}"
    return last


class Project:
    """What ``docker compose up`` makes of the file."""

    def __init__(self, image: Image, directory: Path, stack: ExitStack) -> None:
        self._image = image
        self._directory = directory
        self._stack = stack
        self.places: dict[str, Namespace] = {}
        self.containers: dict[str, Container] = {}
        router = stack.enter_context(Namespace("router"))
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for name, service in SERVICES.items():
            if "network_mode" not in service:
                self.places[name] = stack.enter_context(Namespace(name))
                link(router, self.places[name])
                default_route(self.places[name], via=router)
        for name, service in SERVICES.items():
            if "network_mode" in service:
                self.places[name] = self.places[service["network_mode"].removeprefix("service:")]
        self._hosts = directory / "hosts"
        lines = [
            f"{self.places[name].ipv4} {name}" for name, service in SERVICES.items() if "network_mode" not in service
        ]
        self._hosts.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n", "ascii")

    def up(self) -> None:
        waiting = list(SERVICES)
        while waiting:
            name = next(name for name in waiting if set(self._needs(name)) <= set(self.containers))
            waiting.remove(name)
            for other, condition in self._needs(name).items():
                self._wait(other, condition)
            self.containers[name] = self._start(name)

    def stop(self, name: str) -> int:
        """As ``docker stop``: its exit code."""
        container = self.containers[name]
        container.kill("TERM")
        return container.wait(STOP_SECONDS)

    @staticmethod
    def _needs(name: str) -> dict[str, str]:
        needs = SERVICES[name].get("depends_on", {})
        if isinstance(needs, list):
            return dict.fromkeys(needs, "service_started")
        return {other: each["condition"] for other, each in needs.items()}

    def _wait(self, name: str, condition: str) -> None:
        container = self.containers[name]
        if condition == "service_completed_successfully":
            assert container.wait(300) == 0, container.log
            return
        container.wait_running()
        if condition == "service_healthy":
            words = SERVICES[name].get("healthcheck", {}).get("test", ["CMD", *self._image.health])[1:]

            def healthy() -> bool:
                assert container.exit_code is None, container.log
                return container.run(*words).returncode == 0

            eventually(healthy, bool, f"{name} is healthy", timeout=300)

    def _start(self, name: str) -> Container:
        service: dict[str, Any] = SERVICES[name]
        image = self._image
        user, _, group = str(service.get("user", image.user)).partition(":")
        words = [
            *service.get("entrypoint", image.entrypoint),
            *service.get("command", [] if "entrypoint" in service else image.command),
        ]
        assert "ALL" in service["cap_drop"]
        assert service["read_only"]
        environment = {key: str(value) for key, value in service.get("environment", {}).items()}
        if "network_mode" in service:
            environment |= HEARTBEAT
        volume = self._directory / name
        volume.mkdir()
        os.chown(volume, 1338, 1338)  # the image's volume, as it is there
        spec = Spec(
            name,
            image.root,
            words,
            {**image.environment, **environment},
            image.directory,
            int(user),
            int(group),
            frozenset(service.get("cap_add", ())),
            no_new_privileges="no-new-privileges:true" in service["security_opt"],
            mounts=[Mount(self._hosts, "/etc/hosts"), Mount(volume, "/var/lib/sp-proxy")],
        )
        container = Container(spec, self.places[name], self._directory)
        self._stack.callback(container.delete)
        return container


@contextmanager
def project(image: Image) -> Iterator[Project]:
    with home() as directory, ExitStack() as stack:
        yield Project(image, directory, stack)


def test_the_demo_in_containers_is_captured_at_both_ends(image: Image):
    with project(image) as demo:
        demo.up()
        backend = demo.places["backend"]

        def counts() -> Counter[tuple[str, str]]:
            found = ask(backend, "/api/v1/exchanges", password="demo", limit="1000")["exchanges"]
            return Counter((one["service"], one["direction"]) for one in found)

        def both_ends(seen: Counter[tuple[str, str]]) -> bool:
            inner = seen["inventory", "inbound"] + seen["payment", "inbound"]
            return 0 < inner == seen["orders", "outbound"]

        while_it_goes_on(counts, lambda seen: seen["orders", "inbound"] >= REQUESTS, "the burst has arrived")
        # Then nothing moves any more, and what was called and what was asked for are the same.
        assert demo.stop("customers") == 0, demo.containers["customers"].log
        while_it_goes_on(counts, both_ends, "both ends of all calls have arrived")
        for name in SHOP:
            sidecar = demo.containers[f"{name}-sidecar"]
            assert demo.stop(f"{name}-sidecar") == 0, sidecar.log
            assert '"event": "not_ended_in_time"' not in sidecar.log
        for name in SHOP:
            assert "FAIL" not in demo.containers[f"{name}-rules"].log
            assert "Traceback" not in demo.containers[f"{name}-sidecar"].log
        # Without the sidecars the shop goes on.
        answer = demo.places["customers"].run("curl", "-sSf", f"http://{demo.places['inventory'].ipv4}:8080/catalog")
        assert "Espresso" in answer.stdout
