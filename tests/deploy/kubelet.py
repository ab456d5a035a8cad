"""Pods as a node runs them, with what their manifests say and nothing else: a network namespace for the pod, and containers by runc.

What is followed, from Kubernetes' documentation and the kubelet's source (``kuberuntime_container.go``): init containers
in order, native sidecars among them stay; variables with ``fieldRef``, ``secretKeyRef`` and ``$(NAME)``; ConfigMaps,
Secrets and emptyDirs; security contexts; memory limits; probes from the node's side. At the end: every preStop hook at once,
then SIGTERM to the application's containers, and to each native sidecar when what began after it has ended; SIGKILL when
``terminationGracePeriodSeconds`` is over, hooks included, but two seconds after SIGTERM at least.
"""

import base64
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sp_proxy.settings.types import parse_size
from tests.deploy.image import Image
from tests.deploy.oci import Container, Mount, Spec
from tests.e2e.harness import eventually
from tests.netns import Namespace

Plain = dict[str, Any]

_SMALLEST_GRACE = 2.0
_INIT_SECONDS = 120.0
_DEFAULT_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
"""What containerd leaves to a container that drops nothing."""


class PodError(AssertionError):
    """The pod does not start."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What pods find around them."""

    objects: Sequence[Plain]
    """ConfigMaps and Secrets among them."""
    images: Mapping[str, Image]
    directory: Path
    """Of this machine, for volumes and containers."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Name → address, in the place of the cluster's DNS."""
    node: Namespace | None = None
    """Where the kubelet's probes come from."""

    def data(self, kind: str, name: str) -> dict[str, bytes]:
        """Of a ConfigMap or a Secret."""
        for one in self.objects:
            if one["kind"] == kind and one["metadata"]["name"] == name:
                plain = {key: value.encode() for key, value in {**one.get("stringData", {})}.items()}
                data = one.get("data") or {}
                if kind == "Secret":
                    return {**{key: base64.b64decode(value) for key, value in data.items()}, **plain}
                return {key: value.encode() for key, value in data.items()}
        raise PodError(f"{kind} {name} not found")


class Pod:
    """One pod of a template."""

    def __init__(self, cluster: Cluster, name: str, template: Plain, namespace: Namespace, host_address: str) -> None:
        self.name = name
        self.namespace = namespace
        self.events: list[tuple[float, str, str]] = []
        """When (monotonic), which container, what: ``started``, ``preStop``, a signal, ``exit N``."""
        self._cluster = cluster
        self._spec: Plain = template["spec"]
        self._metadata: Plain = template.get("metadata") or {}
        self._host_address = host_address
        self._directory = cluster.directory / name
        self._directory.mkdir(mode=0o755)
        self.containers: dict[str, Container] = {}
        self._running: list[tuple[Plain, Container]] = []
        self._lock = threading.Lock()
        for volume in self._spec.get("volumes") or []:
            self._make_volume(volume)
        self._hosts = self._directory / "hosts"
        lines = ["127.0.0.1 localhost", "::1 localhost", f"{namespace.ipv4} {name}"]
        lines += [f"{address} {host}" for host, address in cluster.hosts.items()]
        self._hosts.write_text("\n".join(lines) + "\n", "ascii")

    # ---- birth

    def start(self) -> None:
        """Init containers, then the others. Raises PodError when an init container fails."""
        for container in self._spec.get("initContainers") or []:
            started = self._start(container)
            if container.get("restartPolicy") == "Always":
                started.wait_running()
                self._post_start(container, started)
                if "startupProbe" in container:
                    eventually(
                        partial(self._probe, container, "startupProbe"), bool, f"{container['name']} has started"
                    )
            elif code := started.wait(_INIT_SECONDS):
                raise PodError(f"init container {container['name']}: exit code {code}\n{started.log}")
        for container in self._spec["containers"]:
            started = self._start(container)
            started.wait_running()
            self._post_start(container, started)

    def _post_start(self, container: Plain, started: Container) -> None:
        """What comes behind the container waits for this hook; the container is killed when it fails."""
        if hook := container.get("lifecycle", {}).get("postStart", {}).get("exec"):
            done = started.run(*hook["command"], timeout=_INIT_SECONDS)
            self._note(container, "postStart")
            if done.returncode:
                started.kill("KILL")
                raise PodError(
                    f"{container['name']}: postStart hook: exit code {done.returncode}\n{done.stderr}{started.log}"
                )

    def wait_ready(self) -> None:
        """Every container's readiness probe succeeds, from the node's side."""
        for container, running in list(self._running):
            if "readinessProbe" in container:

                def look(container: Plain = container, running: Container = running) -> bool:
                    assert running.exit_code is None, f"{container['name']}: {running.exit_code}\n{running.log}"
                    return self._probe(container, "readinessProbe")

                eventually(look, bool, f"{self.name}: {container['name']} is ready")

    def is_alive(self, name: str) -> bool:
        """What the container's liveness probe says."""
        (container,) = [container for container, _ in self._running if container["name"] == name]
        return self._probe(container, "livenessProbe")

    def restart(self, name: str) -> None:
        """After its end, as the kubelet does with ``restartPolicy: Always``."""
        (container,) = [container for container, _ in self._running if container["name"] == name]
        self.containers[name].delete()
        self._running = [(one, running) for one, running in self._running if one["name"] != name]
        self._start(container).wait_running()

    # ---- death

    def stop(self) -> float:
        """Deletes the pod as ``kubectl delete`` does; returns the seconds that it took. The logs stay."""
        began = time.monotonic()
        seconds = float(self._spec.get("terminationGracePeriodSeconds", 30))
        sidecars = [one["name"] for one in self._spec.get("initContainers") or []]
        ended = {container["name"]: threading.Event() for container, _ in self._running}
        later: dict[str, list[threading.Event]] = {}
        for container, _ in self._running:
            name = container["name"]
            after = sidecars[sidecars.index(name) + 1 :] if name in sidecars else None
            mains = [each for each in ended if each not in sidecars]
            later[name] = [] if after is None else [ended[each] for each in (*mains, *after) if each in ended]
        with ThreadPoolExecutor(max(1, len(self._running))) as pool:
            waiting = [
                pool.submit(
                    self._end, container, running, began + seconds, later[container["name"]], ended[container["name"]]
                )
                for container, running in self._running
            ]
        for one in waiting:
            one.result()
        return time.monotonic() - began

    def delete(self) -> None:
        """Whatever is left."""
        for container in self.containers.values():
            container.delete()

    def when(self, container: str, what: str) -> float:
        """The time of an event."""
        return next(at for at, name, happened in self.events if (name, happened) == (container, what))

    def _end(
        self,
        container: Plain,
        running: Container,
        deadline: float,
        before: list[threading.Event],
        ended: threading.Event,
    ) -> None:
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec")
        if hook and running.exit_code is None:
            self._note(container, "preStop")
            with suppress(subprocess.TimeoutExpired):
                running.run(*hook["command"], timeout=max(deadline - time.monotonic(), 0.1))
        for one in before:
            one.wait(max(deadline - time.monotonic(), 0))
        if running.exit_code is None:
            self._note(container, "TERM")
            running.kill("TERM")
            try:
                running.wait(max(deadline - time.monotonic(), _SMALLEST_GRACE))
            except subprocess.TimeoutExpired:
                self._note(container, "KILL")
                running.kill("KILL")
        self._note(container, f"exit {running.wait(30)}")
        ended.set()

    # ---- what the manifest says

    def _start(self, container: Plain) -> Container:
        image = self._cluster.images[container["image"]]
        environment = self._environment(container, image)
        words = [
            *(container.get("command") or ([] if "command" in container else image.entrypoint)),
            *(container.get("args") or ([] if "command" in container or "args" in container else image.command)),
        ]
        context = {**(self._spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
        user, _, group = image.user.partition(":")
        uid = int(context.get("runAsUser", user or 0))
        assert not (context.get("runAsNonRoot") and uid == 0), f"{container['name']}: runAsNonRoot, and runs as root"
        assert context.get("readOnlyRootFilesystem"), f"{container['name']}: containers here are read-only"
        log = self._directory / f"{container['name']}.termination-log"
        log.touch(0o666)
        log.chmod(0o666)
        mounts = [
            Mount(self._directory / "volumes" / mount["name"], mount["mountPath"], mount.get("readOnly", False))
            for mount in container.get("volumeMounts") or []
        ]
        mounts += [Mount(self._hosts, "/etc/hosts"), Mount(log, "/dev/termination-log")]
        spec = Spec(
            container["name"],
            image.root,
            [_expanded(word, environment) for word in words],
            environment,
            container.get("workingDir", image.directory),
            uid,
            int(context.get("runAsGroup", group or 0)),
            _capabilities(context.get("capabilities") or {}),
            no_new_privileges=context.get("allowPrivilegeEscalation") is False,
            mounts=mounts,
            memory=parse_size(f"{memory}B")
            if (memory := container.get("resources", {}).get("limits", {}).get("memory"))
            else 0,
            hostname=self.name,
        )
        started = Container(spec, self.namespace, self._cluster.directory)
        self._note(container, "started")
        self.containers[container["name"]] = started
        if container.get("restartPolicy") == "Always" or container in self._spec["containers"]:
            self._running.append((container, started))
        return started

    def termination_message(self, name: str) -> str:
        return (self._directory / f"{name}.termination-log").read_text("utf-8")

    def _environment(self, container: Plain, image: Image) -> dict[str, str]:
        found = {**image.environment, "HOSTNAME": self.name}
        for variable in container.get("env") or []:
            if "value" in variable:
                assert isinstance(variable["value"], str), variable
                found[variable["name"]] = _expanded(variable["value"], found)
                continue
            (kind,) = variable["valueFrom"]
            asked = variable["valueFrom"][kind]
            if kind == "fieldRef":
                found[variable["name"]] = self._field(asked["fieldPath"])
                continue
            sort = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}[kind]
            try:
                found[variable["name"]] = self._cluster.data(sort, asked["name"])[asked["key"]].decode()
            except (PodError, KeyError):
                if not asked.get("optional"):
                    raise
        return found

    def _field(self, path: str) -> str:
        if label := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
            return str((self._metadata.get(label[1]) or {}).get(label[2], ""))
        return {
            "metadata.name": self.name,
            "metadata.namespace": "shop",
            "metadata.uid": "00000000-0000-4000-8000-000000000001",
            "spec.nodeName": "node-1",
            "spec.serviceAccountName": "default",
            "status.podIP": self.namespace.ipv4,
            "status.hostIP": self._host_address,
        }[path]

    def _make_volume(self, volume: Plain) -> None:
        directory = self._directory / "volumes" / volume["name"]
        directory.mkdir(parents=True)
        directory.chmod(0o777)  # an emptyDir's
        if "configMap" in volume:
            for key, value in self._cluster.data("ConfigMap", volume["configMap"]["name"]).items():
                (directory / key).write_bytes(value)
                (directory / key).chmod(0o644)
            directory.chmod(0o755)
        else:
            assert "emptyDir" in volume, volume

    def _probe(self, container: Plain, kind: str) -> bool:
        probe = container[kind]
        (way,) = {"httpGet", "tcpSocket", "exec"} & set(probe)
        timeout = float(probe.get("timeoutSeconds", 1))
        if way == "exec":
            return self.containers[container["name"]].run(*probe["exec"]["command"], timeout=timeout).returncode == 0
        named = {port.get("name"): port["containerPort"] for port in container.get("ports") or []}
        port = int(named.get(probe[way]["port"], probe[way]["port"]))
        node = self._cluster.node or self.namespace
        return node.call(partial(_asks, self.namespace.ipv4, port, probe[way].get("path", ""), timeout))

    def _note(self, container: Plain, what: str) -> None:
        with self._lock:
            self.events.append((time.monotonic(), container["name"], what))


@contextmanager
def running(pods: Callable[[], Iterator[Pod]]) -> Iterator[None]:
    """Deletes what is left of the pods at the end."""
    try:
        yield
    finally:
        for pod in pods():
            pod.delete()


def _asks(address: str, port: int, path: str, timeout: float) -> bool:
    """A connection; with a path, an HTTP request that is answered with 2xx or 3xx."""
    try:
        with socket.create_connection((address, port), timeout) as connection:
            if not path:
                return True
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: {address}:{port}\r\nconnection: close\r\n\r\n".encode())
            answer = connection.makefile("rb").readline()
    except OSError:
        return False
    return re.match(rb"HTTP/1\.1 [23]", answer) is not None


def _capabilities(asked: Plain) -> frozenset[str]:
    dropped = set(asked.get("drop") or ())
    kept = frozenset() if "ALL" in dropped else _DEFAULT_CAPABILITIES - dropped
    return kept | set(asked.get("add") or ())


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    return re.sub(r"\$\(([A-Za-z_][\w.-]*)\)", lambda found: environment.get(found[1], found[0]), text)
