"""Where the chaos run takes place: three pods with real Envoys and Istio's rules, and sp_proxy in one of them.

    shop     an application, Envoy as user 1337, sp_proxy, a spool on a small disk
    control  the same without sp_proxy
    peer     who calls both and is called by both; behind its Envoy the backend, too

Mutual TLS between the pods. The traffic of ``shop`` and of ``control`` is the same at any moment.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

from benchmarks.chaos import clients, origin, sink
from benchmarks.chaos.daemon import GRACE_SECONDS, Pod
from benchmarks.chaos.history import History
from benchmarks.chaos.traffic import CONTROL, SHOP
from benchmarks.processes import BenchmarkError
from tests.e2e.envoy import Envoy, install_istio
from tests.e2e.harness import APP_UID, PROGRAM, home
from tests.e2e.servers import listen
from tests.netns import Namespace, default_route, link

ROOT = Path(__file__).parents[2]
PORT, BACKEND_PORT = 8081, 9002
"""Of the applications; of the backend."""
DISK_BYTES = 4 << 20
REQUESTS_PER_CONNECTION = 20
"""Of the Envoys, upstream."""
HEARTBEAT_TIMEOUT = 2.0
ISTIO_WRITER = "iptables-nft"
END_SECONDS = 60.0
"""In which what was asked to end must have ended."""
WAYS = ("out4", "out6", "in4", "in6")


class Stage:
    """All of it. A context manager; nothing is left behind."""

    def __init__(self, copies: int) -> None:
        """``copies`` of each busy client."""
        self._copies = copies
        self._stack = ExitStack()
        self.history = History()
        self._namespaces: dict[str, Namespace] = {}
        self._envoys: dict[str, Envoy] = {}
        self._clients: list[subprocess.Popen[Any]] = []
        self._origins: list[subprocess.Popen[Any]] = []
        self._backend: subprocess.Popen[Any] | None = None
        self._peer_addresses: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self.directory = stack.enter_context(home())
            for name in (SHOP, CONTROL, "peer"):
                self._namespaces[name] = stack.enter_context(Namespace(name))
            for name in (SHOP, CONTROL):
                self._link(name)
            stack.callback(self._end_processes)
            self._start_envoys()
            self._start_origins()
            self._mount_disk()
            self._mood = self.directory / "mood"
            self.set_mood("")
            self.start_backend()
            self.pod = Pod(self._namespaces[SHOP], self.directory, self.history)
            stack.callback(self._end_daemon)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ---- what there is

    def _link(self, name: str) -> None:
        pod, peer = self._namespaces[name], self._namespaces["peer"]
        link(pod, peer)
        default_route(pod, via=peer)
        self._peer_addresses[name] = peer.ipv4, peer.ipv6
        default_route(peer, via=pod)  # that there is one: Istio's rules see what has a route

    def _start_envoys(self) -> None:
        for name, namespace in self._namespaces.items():
            namespace.run("ip", "address", "add", "::6/128", "dev", "lo")  # as istio-iptables does
            self._envoys[name] = Envoy(
                namespace, self.directory / name, {}, requests_per_connection=REQUESTS_PER_CONNECTION
            )
        self._trusted = self.directory / "trusted.pem"
        self._trusted.write_bytes(b"".join(envoy.certificate.read_bytes() for envoy in self._envoys.values()))
        self._trusted.chmod(0o644)
        for name, envoy in self._envoys.items():
            envoy.start(self._trusted)
            install_istio(self._namespaces[name], ISTIO_WRITER)

    def _start_origins(self) -> None:
        for name, namespace in self._namespaces.items():
            journal = self._journal(f"arrived-{name}")
            self._origins.append(self._serve(namespace, PORT, origin.__name__, str(journal)))

    def _mount_disk(self) -> None:
        self.disk = self.directory / "disk"
        self.disk.mkdir()
        options = f"size={DISK_BYTES},mode=1777"
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "sp-proxy-chaos", str(self.disk)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mount.returncode:
            raise BenchmarkError(f"a small disk cannot be mounted: {mount.stderr.strip()}")
        self._stack.callback(subprocess.run, ["umount", "--lazy", str(self.disk)], check=True)

    def _journal(self, name: str) -> Path:
        journal = self.directory / f"{name}.journal"
        journal.touch()
        journal.chmod(0o666)
        return journal

    def _serve(self, namespace: Namespace, port: int, module: str, *arguments: str) -> "subprocess.Popen[Any]":
        """A module that serves a listening socket, as the application's user."""
        listening = namespace.call(partial(listen, port))
        try:
            return self._module(
                namespace, module, *arguments, str(listening.fileno()), descriptors=(listening.fileno(),)
            )
        finally:
            listening.close()

    @staticmethod
    def _module(
        namespace: Namespace, module: str, *arguments: str, descriptors: tuple[int, ...] = ()
    ) -> "subprocess.Popen[Any]":
        command = ("env", "-i", f"--chdir={ROOT}", sys.executable, "-m", module, *arguments)
        return namespace.popen(*command, user=APP_UID, pass_fds=descriptors)

    def _end_processes(self) -> None:
        processes = [*self._clients, *self._origins, *([self._backend] if self._backend else [])]
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for envoy in self._envoys.values():
            envoy.kill()

    def _end_daemon(self) -> None:
        self.pod.leave()

    # ---- settings of the daemon

    def settings(self, form: int = 0) -> dict[str, Any]:
        """Some hundred forms of them; all capture everything."""
        modes = ("always", "overflow")
        return {
            "service_name": SHOP,
            "sp_backend_url": f"http://{self._peer_addresses[SHOP][0]}:{BACKEND_PORT}",
            "public_key": "key",
            "log": {"level": ("info", "debug")[form % 2], "format": "json"},
            "relay": {"workers": (2, 1, 3)[form % 3]},
            "capture": {"max_body_size": f"{(64, 16, 1)[form % 3]}KiB", "skip_static": False},
            "batch": {"flush_timeout": ("200ms", "100ms", "500ms")[form % 3], "max_records": (64, 32)[form % 2]},
            "queue": {"max_records": (1000, 400)[form % 2]},
            "spool": {
                "mode": modes[form % 2],
                "directory": str(self.disk / "spool"),
                "max_size": "2MiB",
                "overflow_after": "1s",
            },
            "retry": {"initial_interval": "100ms", "max_interval": "1s", "max_elapsed_time": "20s"},
            "upload": {"read_timeout": "2s", "connect_timeout": "2s", "concurrency": (4, 2)[form % 2]},
            "shutdown": {"grace_period": f"{GRACE_SECONDS:g}s", "flush_timeout": "3s"},
            "reload": {"interval": "200ms", "settle_time": "100ms"},
            "netfilter": {"mode": "beside-istio", "heartbeat": {"timeout": f"{HEARTBEAT_TIMEOUT:g}s"}},
        }

    # ---- what is done to it

    def rules(self, action: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """``sp-proxy netfilter``, as the init container runs it."""
        command = (PROGRAM, "netfilter", action, "--config", str(self.directory / "rules.yaml"), *arguments)
        return self._namespaces[SHOP].run(*command, check=False, timeout=END_SECONDS)

    def write_rules_settings(self) -> None:
        """Of the rules alone: what the daemon's file says meanwhile is nothing to them."""
        (self.directory / "rules.yaml").write_text(json.dumps(self.settings()), "utf-8")

    def envoys(self, *names: str) -> list[Envoy]:
        """Of these pods."""
        return [self._envoys[name] for name in names]

    def start_envoy(self, envoy: Envoy) -> None:
        """Again; returns when it is ready."""
        envoy.start(self._trusted)

    def set_mood(self, mood: str) -> None:
        """Of the backend."""
        new = self.directory / "new-mood"
        new.write_text(mood, "ascii")
        new.chmod(0o644)
        new.rename(self._mood)

    def start_backend(self) -> None:
        """On its port."""
        journal = self._journal("backend")
        self._backend = self._serve(
            self._namespaces["peer"], BACKEND_PORT, sink.__name__, str(journal), str(self._mood)
        )

    @property
    def backend(self) -> "subprocess.Popen[Any]":
        """Its process."""
        if self._backend is None:
            raise BenchmarkError("the backend was not started")
        return self._backend

    def start_clients(self) -> None:
        """All of them, until ``end_clients``."""
        shop, control = self._namespaces[SHOP], self._namespaces[CONTROL]
        outbound = {name: [*zip(WAYS[:2], self._peer_addresses[name], strict=True)] for name in (SHOP, CONTROL)}
        places: Mapping[str, list[tuple[Any, ...]]] = {
            SHOP: [(SHOP, way, address, PORT, f"peer.mesh:{PORT}") for way, address in outbound[SHOP]],
            CONTROL: [(CONTROL, way, address, PORT, f"peer.mesh:{PORT}") for way, address in outbound[CONTROL]],
            "peer": [
                (name, way, address, PORT, f"{name}.mesh:{PORT}")
                for name, pod in ((SHOP, shop), (CONTROL, control))
                for way, address in zip(WAYS[2:], (pod.ipv4, pod.ipv6), strict=True)
            ],
        }
        for name, targets in places.items():
            arguments = (str(self._journal(f"asked-{name}")), str(self._copies), json.dumps(targets))
            self._clients.append(self._module(self._namespaces[name], clients.__name__, *arguments))

    def end_clients(self) -> list[clients.Request]:
        """Let them finish; every request of theirs."""
        _end(self._clients)
        return [
            request
            for name in self._namespaces
            for request in clients.read_journal(self.directory / f"asked-{name}.journal")
        ]

    def end_origins(self) -> list[str]:
        """Let them finish; the path of every request that arrived."""
        _end(self._origins)
        return [
            path
            for name in self._namespaces
            for path in (self.directory / f"arrived-{name}.journal").read_text().splitlines()
        ]

    def delivered(self) -> list[sink.Entry]:
        """What the backend has written."""
        return sink.read_journal(self.directory / "backend.journal")


def _end(processes: list["subprocess.Popen[Any]"]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        if code := process.wait(END_SECONDS):
            raise BenchmarkError(f"{process.args!r} ended with {code}")
