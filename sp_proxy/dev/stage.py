"""Builds a run up on this host and takes it down: the backend, a daemon for each service, the services themselves.

The form with network namespaces (``pods.py``) is the same stage in other places.
"""

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from sp_proxy.backend import process as backend_process
from sp_proxy.demo.children import Child, stop_all
from sp_proxy.demo.inquiries import BackendApi, Unanswered, get
from sp_proxy.demo.places import Host, Place, python
from sp_proxy.demo.stage import has_started, listen_for_backend
from sp_proxy.demo.window import Window
from sp_proxy.dev import environment, layout, processes
from sp_proxy.dev.environment import Trust
from sp_proxy.dev.errors import DevError
from sp_proxy.dev.layout import LOOPBACK, Common, Inbound
from sp_proxy.dev.processes import Running
from sp_proxy.dev.project import Project, Service
from sp_proxy.dev.view import Cover
from sp_proxy.settings.backend import Backend, Daemon
from sp_proxy.settings.types import Address

START_SECONDS = 120.0
"""A slow machine starts many daemons in less."""
_LOOK_SECONDS = 0.05

type Wait = Callable[[float], None]
"""Waits some seconds; raises StoppedError if the run is to end."""


class Member:
    """A service with what belongs to it."""

    def __init__(self, service: Service, place: Place) -> None:
        self.service = service
        self.place = place
        self.inbound: Inbound | None = None
        self.admin = (LOOPBACK, layout.ADMIN_PORT)
        self.proxy: tuple[str, int] | None = None
        """Its daemon's explicit proxy; None in a namespace, where nobody needs to know."""
        self.settings: dict[str, object] = {}
        self.daemon: Child | None = None
        self.running: Running | None = None
        self.covers: list[Cover] = []
        """In a namespace: what it sees in the place of the machine's certificate stores."""

    @property
    def name(self) -> str:
        """The service's."""
        return self.service.name


class Stage:
    """Everything that runs. ``stack`` takes it down, in the reverse order, whatever has been built."""

    daemon_user: int | None = None
    """None: ourselves."""
    backend_user: int | None = None
    """Likewise."""

    def __init__(self, directory: Path, stack: ExitStack, wait: Wait, project: Project) -> None:
        """``directory`` is the run's own; ``wait`` is how to wait."""
        self.directory = directory
        self.stack = stack
        self.project = project
        self.members: list[Member] = []
        self.backend: BackendApi
        self.backend_sockets: list[socket.socket] = []
        self._wait = wait
        self.infrastructure: list[Child] = []
        self._reserved: list[socket.socket] = []
        stack.callback(lambda: stop_all(self.infrastructure))
        stack.callback(self.stop_services)
        stack.callback(self._release)

    # ---- what a place decides; ``pods.py`` decides otherwise

    def settle(self) -> None:
        """Places and ports for all. Raises DevError."""
        host = Host()
        self.members = [Member(service, host) for service in self.project.services]
        for member in self.members:
            service = member.service
            member.admin = (LOOPBACK, self._reserve(0))
            member.proxy = (LOOPBACK, self._reserve(0))
            if service.port is not None:
                self._reserve(service.port, f"port {service.port} of {service.name}")
                member.inbound = Inbound(service.port, service.to or self._reserve(0))

    def configure(self, common: Common) -> None:
        """What each daemon is told."""
        for member in self.members:
            assert member.proxy
            member.settings = layout.explicit(
                member.name,
                common,
                proxy_port=member.proxy[1],
                admin_port=member.admin[1],
                inbound=member.inbound,
                ipv6=has_ipv6_loopback(),
            )

    def daemons_ready(self) -> None:
        """Called when all daemons take traffic, before the services start."""

    def command_of(self, member: Member) -> list[str]:
        """The service's command as it is executed."""
        return Host().command(member.service.words, None)

    def environment_of(self, member: Member, environ: Mapping[str, str], trust: Trust, preload: Path) -> dict[str, str]:
        """The service's environment."""
        assert member.proxy
        return environment.proxied(environ, member.proxy, trust, preload)

    def host_place(self) -> Place:
        """Where the backend is."""
        return Host()

    # ---- the same everywhere

    def claim_backend_port(self, port: int | None) -> bool:
        """Listen on ``port``; without one on the usual port, or on a free one if that is taken: then returns False."""
        sock, usual = listen_for_backend(port, "--dashboard-port")
        self.backend_sockets.append(sock)
        self.stack.callback(sock.close)
        self.backend = BackendApi(sock.getsockname()[1])
        return usual

    def start_backend(self, database: Path) -> None:
        """Start the backend and wait until it answers."""
        settings = Backend(
            listen=Address(LOOPBACK, self.backend.port),
            database=str(database),
            daemons=[Daemon(address=self._window(member).address, name=member.name) for member in self.members],
        )
        ours, theirs = socket.socketpair()
        self.stack.callback(ours.close)  # its end is the backend's
        with theirs:
            inherited = [theirs.fileno(), *(sock.fileno() for sock in self.backend_sockets)]
            command = python("-m", "sp_proxy.backend", "--control-fd", str(theirs.fileno()))
            self._start("backend", self.host_place().command(command, self.backend_user), inherited)
        for sock in self.backend_sockets:
            sock.close()
        start = backend_process.Start(backend_process.plain_settings(settings), inherited[1:], "warning", "json")
        ours.sendall(msgspec.json.encode(start) + b"\n")
        ours.setblocking(False)
        self._until(lambda: has_started(ours), "the backend")

    def _window(self, member: Member) -> Window:
        """Through which the backend sees the admin server of a daemon, wherever that is."""
        window = Window(member.place)
        self.stack.callback(window.close)
        window.look_at(member.admin)
        return window

    def start_daemons(self, config: Path | None, assignments: list[str]) -> None:
        """A daemon for each service; wait until all take traffic."""
        given = [*(["--config", str(config)] if config else [])]
        given += [word for assignment in assignments for word in ("--set", assignment)]
        self._release()
        for member in self.members:
            words = [*given, *layout.assignments(member.settings)]
            command = member.place.command(python("-m", "sp_proxy.cli.main", "run", *words), self.daemon_user)
            member.daemon = self._start(f"daemon of {member.name}", command, [])
        for member in self.members:
            self._until(partial(_is_ready, member), f"the daemon of {member.name}")
        self.daemons_ready()

    def start_services(
        self, environ: Mapping[str, str], trust: Trust, preload: Path, on_line: Callable[[str, str], None] | None
    ) -> None:
        """Start the services. Raises DevError for what cannot be started."""
        for member in self.members:
            variables = {**environ, **member.service.env}
            if member.inbound:
                variables["PORT"] = str(member.inbound.to)
            variables = self.environment_of(member, variables, trust, preload)
            member.running = Running(
                member.name,
                self.command_of(member),
                variables,
                self.project.directory / member.service.directory,
                on_line,
            )

    def check(self) -> None:
        """Raises DemoError if a daemon or the backend has ended."""
        for child in self.infrastructure:
            child.check()

    def stop_services(self) -> None:
        """End what the developer runs."""
        processes.stop_all([member.running for member in self.members if member.running])

    def stop_daemons(self) -> None:
        """Let the daemons deliver what they have, and end."""
        daemons = [member.daemon for member in self.members if member.daemon]
        self.infrastructure = [child for child in self.infrastructure if child not in daemons]
        stop_all(daemons)

    def _start(self, name: str, command: list[str], descriptors: list[int]) -> Child:
        log = self.directory / f"{name.replace(' ', '-')}.log"
        child = Child(name, command, log, pass_fds=descriptors)
        self.infrastructure.append(child)
        return child

    def _reserve(self, port: int, what: str = "") -> int:
        """A port of the loopback address, kept from others until the daemons start. Raises DevError if it is taken."""
        sock = socket.socket()
        self._reserved.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, port))
        except OSError as error:
            raise DevError(f"{what}: {os.strerror(error.errno or 0).lower()}") from error
        taken: int = sock.getsockname()[1]
        return taken

    def _release(self) -> None:
        for sock in self._reserved:
            sock.close()
        self._reserved.clear()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(int(START_SECONDS / _LOOK_SECONDS)):
            if condition():
                return
            self.check()
            self._wait(_LOOK_SECONDS)
        raise DevError(f"{what} was not ready within {START_SECONDS:.0f} seconds")


def has_ipv6_loopback() -> bool:
    """Whether ``localhost`` may be ::1 here."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _is_ready(member: Member) -> bool:
    try:
        member.place.call(lambda: get(member.admin, "/healthz/ready"))
    except Unanswered:
        return False
    return True
