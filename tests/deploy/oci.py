"""Containers, run by runc: what a container runtime makes of what a kubelet or a compose tool asks for."""

import functools
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.netns import Namespace

SECCOMP = Path("/usr/share/containers/seccomp.json")
"""The default profile of Debian's container tools: what ``RuntimeDefault`` means there."""
_ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of this machine in a container."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Spec:
    """One container."""

    name: str
    root: Path
    """Its file system, which is never written to."""
    words: Sequence[str]
    environment: Mapping[str, str]
    directory: str = "/"
    user: int = 0
    group: int = 0
    capabilities: frozenset[str] = frozenset()
    """Names without ``CAP_``."""
    no_new_privileges: bool = True
    mounts: Sequence[Mount] = ()
    memory: int = 0
    """Bytes at most; 0: no limit."""
    hostname: str = "pod"
    extra: Mapping[str, str] = field(default_factory=dict)


class Container:
    """One that was started. Its output is in ``log``."""

    def __init__(self, spec: Spec, namespace: Namespace, directory: Path) -> None:
        """``directory`` is its own, and this machine's."""
        self.spec = spec
        self.id = f"{namespace.name}-{spec.name}-{time.monotonic_ns()}"
        self._directory = directory / self.id
        self._directory.mkdir(parents=True)
        (self._directory / "config.json").write_text(json.dumps(_config(spec, namespace)), "utf-8")
        self._log = self._directory / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["runc", "--root", str(directory / "runc"), "run", "--bundle", str(self._directory), self.id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._runc = ["runc", "--root", str(directory / "runc")]

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float) -> int:
        """Its exit code. Raises TimeoutExpired."""
        return self._process.wait(timeout)

    def wait_running(self) -> None:
        """It has begun; perhaps it has ended since."""
        deadline = time.monotonic() + _START_SECONDS
        while self.exit_code is None and self._state() != "running":
            assert time.monotonic() < deadline, f"{self.id} does not start\n{self.log}"
            time.sleep(0.02)

    def run(self, *words: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Runs a command inside, as its user and with its capabilities."""
        return subprocess.run(
            [*self._runc, "exec", self.id, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def kill(self, signal: str) -> None:
        """Sends a signal to its first process, if it still runs."""
        if self.exit_code is None:
            self.wait_running()
            subprocess.run([*self._runc, "kill", self.id, signal], capture_output=True, check=False)

    def delete(self) -> None:
        """Kills all of it. Twice is fine."""
        subprocess.run([*self._runc, "delete", "--force", self.id], capture_output=True, check=False)
        self._process.wait(_START_SECONDS)
        shutil.rmtree(self._directory, ignore_errors=True)

    def status(self) -> dict[str, str]:
        """Of its first process, as the kernel sees it (proc(5))."""
        pid = json.loads(subprocess.run([*self._runc, "state", self.id], capture_output=True, check=True).stdout)["pid"]
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def _state(self) -> str:
        done = subprocess.run([*self._runc, "state", self.id], capture_output=True, text=True, check=False)
        return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else ""


def _config(spec: Spec, namespace: Namespace) -> dict[str, Any]:
    """The runtime specification's config.json, laid out as containerd does."""
    capabilities = sorted(f"CAP_{name}" for name in spec.capabilities)
    fixed = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ]
    bound = [
        {
            "destination": mount.target,
            "type": "bind",
            "source": str(mount.source),
            "options": ["rbind", "rprivate", "ro" if mount.read_only else "rw"],
        }
        for mount in sorted(spec.mounts, key=lambda mount: mount.target)
    ]
    granted = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": spec.user, "gid": spec.group},
            "args": list(spec.words),
            "env": [f"{name}={value}" for name, value in spec.environment.items()],
            "cwd": spec.directory,
            "capabilities": granted,
            "noNewPrivileges": spec.no_new_privileges,
        },
        "root": {"path": str(spec.root), "readonly": True},
        "hostname": spec.hostname,
        "mounts": [*fixed, *bound],
        "linux": {
            "resources": {"memory": {"limit": spec.memory}} if spec.memory else {},
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                {"type": "network", "path": f"/run/netns/{namespace.name}"},
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": _seccomp(spec.capabilities),
        },
    }


@functools.cache
def _seccomp(capabilities: frozenset[str]) -> dict[str, Any]:
    """The default profile for a container that has these capabilities: its conditions are decided here, as the tools do."""
    profile = json.loads(SECCOMP.read_text("utf-8"))
    name, architecture = _ARCHITECTURES[platform.machine()]
    granted = {f"CAP_{each}" for each in capabilities}

    def holds(rule: dict[str, Any]) -> bool:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        return (
            (not includes.get("arches") or name in includes["arches"])
            and set(includes.get("caps") or ()) <= granted
            and not (excludes.get("arches") and name in excludes["arches"])
            and not set(excludes.get("caps") or ()) & granted
        )

    rules = []
    for rule in filter(holds, profile["syscalls"]):
        kept = {key: rule[key] for key in ("names", "action", "args") if rule.get(key)}
        rules.append(kept | ({"errnoRet": rule["errnoRet"]} if rule.get("errnoRet") is not None else {}))
    result = {"defaultAction": profile["defaultAction"], "architectures": [architecture], "syscalls": rules}
    return result | ({"defaultErrnoRet": profile["defaultErrnoRet"]} if "defaultErrnoRet" in profile else {})
