"""Where things run: on this host, or in network namespaces of our own, which are pods to all that is in them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from sp_proxy.demo import runs
from sp_proxy.demo.errors import DemoError, NotPermittedError

TOOLS = {"ip": "iproute2", "setpriv": "util-linux"}
"""What namespaces need, and the Debian package of each. nft and iptables are ``sp-proxy netfilter``'s own affair."""
_NAMESPACES = Path("/run/netns")
_TOOL_TIMEOUT_SECONDS = 30.0


class Place(Protocol):
    """Somewhere with a network."""

    def call[T](self, function: Callable[[], T]) -> T:
        """Call a function there. A socket that it makes belongs there, wherever it is used later."""

    def command(self, command: Sequence[str], user: int | None) -> list[str]:
        """The command line that runs a command there, without any privilege if a user id is given."""


class Host:
    """The network of this host."""

    def __init__(self, opener: Sequence[str] = ()) -> None:
        """``opener`` goes before commands of users without privilege (``access.py``)."""
        self._opener = opener

    def call[T](self, function: Callable[[], T]) -> T:
        """Call a function."""
        return function()

    def command(self, command: Sequence[str], user: int | None) -> list[str]:
        """The command line."""
        if user is not None:
            return [*self._opener, *identity(user), *command]
        # Without setpriv a killed demo leaves its processes to whoever killed it.
        return [*identity(user), *command] if shutil.which("setpriv") else [*command]


class Namespace:
    """A network namespace with its loopback up; gone after ``delete``."""

    def __init__(self, label: str, opener: Sequence[str] = (), prefix: str = runs.PREFIX) -> None:
        """``opener`` goes before commands of users without privilege (``access.py``)."""
        self._opener = opener
        self.name = f"{runs.this_run(prefix)}-{label}"
        # A thread that lives in the namespace: entering one is for threads, not for processes, and this one never leaves.
        self._inside = ThreadPoolExecutor(1, initializer=self._enter)
        run_tool("ip", "netns", "add", self.name, failure=NotPermittedError)
        try:
            run_tool("ip", "-n", self.name, "link", "set", "lo", "up", failure=NotPermittedError)
        except BaseException:
            self.delete()
            raise

    def call[T](self, function: Callable[[], T]) -> T:
        """Call a function in a thread that is in the namespace."""
        return self._inside.submit(function).result()

    def command(self, command: Sequence[str], user: int | None) -> list[str]:
        """The command line; as root in the namespace if ``user`` is None."""
        opener = self._opener if user is not None else ()
        return ["ip", "netns", "exec", self.name, *opener, *identity(user), *command]

    def delete(self) -> None:
        """Remove it, with its wires and rules. What ran in it has ended."""
        self._inside.shutdown()
        _delete(self.name)

    def _enter(self) -> None:
        with (_NAMESPACES / self.name).open("rb") as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)


def identity(user: int | None) -> list[str]:
    """What goes before a command so that it ends with the demo, and runs as a user without any privilege if one is given."""
    drop = [] if user is None else [f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all"]
    return ["setpriv", "--pdeathsig", "TERM", *drop, *([] if user is None else ["--no-new-privs"]), "--"]


def connect(left: Namespace, left_address: str, right: Namespace, right_address: str) -> None:
    """Join two namespaces with a veth pair: a /30 in which each has one address."""
    names = [f"to-{right.name.rpartition('-')[2]}", f"to-{left.name.rpartition('-')[2]}"]
    run_tool(
        *("ip", "link", "add", names[0], "netns", left.name, "type", "veth"),
        *("peer", "name", names[1], "netns", right.name),
        failure=NotPermittedError,
    )
    for namespace, interface, address in zip((left, right), names, (left_address, right_address), strict=True):
        run_tool("ip", "-n", namespace.name, "address", "add", f"{address}/30", "dev", interface)
        run_tool("ip", "-n", namespace.name, "link", "set", interface, "up")


def missing_tools() -> dict[str, str]:
    """The tools that are not installed, and their Debian packages."""
    return {tool: package for tool, package in TOOLS.items() if shutil.which(tool) is None}


def remove_left_over_namespaces(prefix: str = runs.PREFIX) -> list[str]:
    """Remove the namespaces of ended runs, and end what still runs in them; returns those that were removed."""
    names = [path.name for path in _NAMESPACES.glob(f"{prefix}-*") if runs.is_left_over(path.name, prefix)]
    for name in names:
        for pid in run_tool("ip", "netns", "pids", name).split():
            run_tool("kill", "-KILL", pid, check=False)
        _delete(name)
    return names


def python(*arguments: str) -> list[str]:
    """A command of this interpreter. ``-P``: nothing in the working directory stands in for a module of ours."""
    return [sys.executable, "-P", *arguments]


def run_tool(*command: str, failure: type[DemoError] = DemoError, check: bool = True) -> str:
    """Run a command to its end; gives what it printed. A failure raises ``failure`` with what it said, in one line."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TOOL_TIMEOUT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,  # a second Ctrl-C does not cut what takes things down
        )
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"{command[0]} did not end in {_TOOL_TIMEOUT_SECONDS:.0f} seconds") from error
    if check and done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise failure(f"{' '.join(command[:3])}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _delete(name: str) -> None:
    if (_NAMESPACES / name).exists():
        run_tool("ip", "netns", "delete", name, failure=NotPermittedError)
