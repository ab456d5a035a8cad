"""Network namespaces for tests: a pod and its peers on one machine, gone when the test ends.

    with Namespace("pod") as pod, Namespace("client") as client:
        link(pod, client)
        server = pod.call(lambda: socket.create_server(("", 0)))
        client.run("curl", f"http://{pod.ipv4}:{server.getsockname()[1]}/")

Names carry the test process's id and a counter, so that test runs side by side do not meet. Needs root and iproute2
(``require_root_tools("ip")``). Duplicate address detection is off, so an IPv6 address works at once.
"""

import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

_PREFIX = "spt"
_numbers = itertools.count(1)
_links = itertools.count(1)

type Stream = int | IO[Any] | None


class Namespace:
    """One network namespace with its loopback up. A context manager; leaving it kills what ``popen`` started inside."""

    def __init__(self, label: str) -> None:
        self.name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}-{label}"
        self.ipv4 = ""
        """Address on the latest link; empty before ``link``."""
        self.ipv6 = ""
        self._children: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        self.create()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.delete()

    def create(self) -> None:
        _run("ip", "netns", "add", self.name)
        try:
            self.call(_no_duplicate_address_detection)
            self.run("ip", "link", "set", "lo", "up")
        except BaseException:
            self.delete()
            raise

    def delete(self) -> None:
        """Kills its children and removes it, with its links and firewall rules; twice is fine."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            with suppress(ValueError):  # a pipe closed by the test
                child.communicate()
        self._children.clear()
        if Path("/run/netns", self.name).exists():
            _run("ip", "netns", "delete", self.name)

    def command(self, *command: str, user: int | None = None) -> list[str]:
        """The command line that runs a command in here, as another user id (and group id) if given."""
        identity = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
        return ["ip", "netns", "exec", self.name, *identity, *command]

    def run(
        self,
        *command: str,
        user: int | None = None,
        check: bool = True,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; a failure raises with what it wrote, unless ``check`` is off."""
        return _run(*self.command(*command, user=user), check=check, stdin=stdin, env=env, timeout=timeout)

    def popen(
        self,
        *command: str,
        user: int | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool = True,
        pass_fds: tuple[int, ...] = (),
    ) -> subprocess.Popen[Any]:
        """Starts a command. Its pid is the command's own (``ip`` and ``setpriv`` exec it). Killed by ``delete``."""
        child = subprocess.Popen(
            self.command(*command, user=user),
            env=None if env is None else {**os.environ, **env},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            pass_fds=pass_fds,
        )
        self._children.append(child)
        return child

    def call[T](self, function: Callable[[], T]) -> T:
        """Calls a function in a thread of this process that is in the namespace. A socket made there stays there."""
        outcome: list[T] = []
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                with Path("/run/netns", self.name).open("rb") as namespace:
                    os.setns(namespace.fileno(), os.CLONE_NEWNET)
                outcome.append(function())
            except BaseException as error:  # raised again by the caller's thread
                errors.append(error)

        thread = threading.Thread(target=inside, name=self.name)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return outcome[0]

    def add_address(self, interface: str, address: str) -> None:
        """Adds an address with its prefix length, of either IP version, usable at once."""
        self.run("ip", "address", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))


def link(left: Namespace, right: Namespace) -> tuple[str, str]:
    """Joins two namespaces with a veth pair: 10.90.N.1 and .2, fd90:N::1 and ::2. Returns the interface names.

    ``ipv4`` and ``ipv6`` of both are set to these addresses.
    """
    number = next(_links) % 250 + 1
    names = (f"v{os.getpid()}l{number}", f"v{os.getpid()}r{number}")
    _run(
        *("ip", "link", "add", names[0], "netns", left.name, "type", "veth"),
        *("peer", "name", names[1], "netns", right.name),
    )
    for host, (namespace, interface) in enumerate(zip((left, right), names, strict=True), 1):
        namespace.ipv4, namespace.ipv6 = f"10.90.{number}.{host}", f"fd90:{number}::{host}"
        namespace.add_address(interface, f"{namespace.ipv4}/24")
        namespace.add_address(interface, f"{namespace.ipv6}/64")
        namespace.run("ip", "link", "set", interface, "up")
    return names


def default_route(namespace: Namespace, via: Namespace) -> None:
    """Sends everything else of both IP versions to a linked neighbour."""
    namespace.run("ip", "route", "replace", "default", "via", via.ipv4)
    namespace.run("ip", "-6", "route", "replace", "default", "via", via.ipv6)


def _no_duplicate_address_detection() -> None:
    for scope in ("all", "default"):
        Path("/proc/sys/net/ipv6/conf", scope, "accept_dad").write_text("0", "ascii")


def _run(
    *command: str,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        input="" if stdin is None else stdin,
        env=None if env is None else {**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done
