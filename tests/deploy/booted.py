"""A host that boots systemd: this machine's own file system, overlaid, in namespaces. What is written there is gone with it.

with Namespace("vm") as network, booted_host(network) as host:
    host.run("systemctl is-system-running --wait")
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.netns import Namespace
from tests.requirements import require_root_tools, unavailable

ROOT = Path(__file__).parent.parent.parent
BOOT = Path(__file__).with_name("boot.sh")
_BOOT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Host:
    """One that has booted."""

    pid: int
    """Of its first process, as this machine counts."""
    log: Path

    def run(
        self,
        command: str,
        *,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        directory: Path | str = "/",
        timeout: float = 60.0,
        online: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a line of shell there, as root. ``online``: with this machine's network, to fetch packages."""
        namespaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", *([] if online else ["--net"])]
        enter = ["nsenter", f"--target={self.pid}", *namespaces, "--root", "--wdns=/"]
        done = subprocess.run(
            [*enter, "sh", "-c", 'cd "$0" && eval "$1"', str(directory), command],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file there, as root; one that exists keeps its owner and mode."""
        file = Path(f"/proc/{self.pid}/root{path}")
        existed = file.exists()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        if not existed:
            file.chmod(mode)

    def read(self, path: str) -> str:
        return Path(f"/proc/{self.pid}/root{path}").read_text("utf-8")


@contextmanager
def booted_host(network: Namespace) -> Iterator[Host]:
    """For the time of the block, in this network."""
    require_root_tools("nsenter", "unshare", "setpriv", "systemctl", "systemd-sysusers")
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="sp-proxy-host-"))
        stack.callback(shutil.rmtree, directory)
        group = stack.enter_context(_own_control_group(directory / "cgroup"))
        mounts = directory / "host"
        mounts.mkdir()
        log = directory / "log"
        with log.open("wb") as output:
            unshare = ["unshare", "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--fork", "--kill-child"]
            # In its control group before the namespace is made: that is the root which systemd sees.
            entering = ["sh", "-c", f'echo 0 >"{group}/cgroup.procs"; exec "$@"', "-"]
            process = subprocess.Popen(
                network.command(*entering, *unshare, str(BOOT), str(mounts), str(ROOT)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            host = Host(_first_process(process, log), log)
            _wait_booted(host)
            yield host
        finally:
            process.kill()  # and with it, the first process and all others
            process.wait()


@contextmanager
def _own_control_group(directory: Path) -> Iterator[Path]:
    """A group of version 2. The hierarchy is mounted here for that: elsewhere it is anywhere, or nowhere, or read-only."""
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "cgroup2", "none", str(directory)], capture_output=True, check=False)
    if mounted.returncode:
        unavailable(f"needs control groups of version 2: {mounted.stderr.decode().strip()}")
    group = directory / directory.parent.name
    try:
        group.mkdir()
        try:
            yield group
        finally:
            _remove_control_group(group)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
        directory.rmdir()


def _remove_control_group(group: Path) -> None:
    """With all below it. Processes that were killed take a moment to leave."""
    deadline = time.monotonic() + 10.0
    while group.exists():
        for path, _, _ in sorted(os.walk(group), reverse=True):
            with suppress(OSError):
                Path(path).rmdir()
        assert time.monotonic() < deadline, f"{group} is not empty"
        time.sleep(0.02)


def _first_process(unshare: "subprocess.Popen[bytes]", log: Path) -> int:
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    deadline = time.monotonic() + _BOOT_SECONDS
    while True:
        assert unshare.poll() is None, log.read_text("utf-8", "replace")
        assert time.monotonic() < deadline, "no first process"
        # The namespaces are new ones when it runs systemd.
        for pid in map(int, children.read_text("ascii").split()):
            if Path(f"/proc/{pid}/comm").read_text("ascii").strip() == "systemd":
                return pid
        time.sleep(0.05)


def _wait_booted(host: Host) -> None:
    deadline = time.monotonic() + _BOOT_SECONDS
    while (state := host.run("systemctl is-system-running", check=False).stdout.strip()) not in {"running", "degraded"}:
        assert time.monotonic() < deadline, f"{state}\n{host.log.read_text('utf-8', 'replace')}"
        time.sleep(0.1)
