"""Builds the demo up and takes it down: places, backend, services, daemons, rules, customers.

Sockets on which our own programs listen are made here and inherited, so no port can be taken in between and nobody has to be
waited for. The backend listens on this host's loopback and on that of every pod: its address is the same for all, and this
host's network is not touched.
"""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import yaml

from sp_proxy.backend import process as backend_process
from sp_proxy.demo import layout
from sp_proxy.demo.children import Child, stop_all
from sp_proxy.demo.counts import CallBook
from sp_proxy.demo.errors import DemoError
from sp_proxy.demo.inquiries import BackendApi, ready
from sp_proxy.demo.layout import CALLS, LOOPBACK, HostPort, Layout, Member
from sp_proxy.demo.places import Host, Namespace, Place, connect, python, run_tool
from sp_proxy.demo.shop import report
from sp_proxy.demo.shop.customers import Traffic
from sp_proxy.demo.shop.report import CUSTOMERS
from sp_proxy.demo.window import Window
from sp_proxy.settings.backend import Backend, Daemon
from sp_proxy.settings.types import Address

START_SECONDS = 60.0
"""A slow machine starts three daemons one after the other in less."""
_LOOK_SECONDS = 0.1

type Wait = Callable[[float], None]
"""Waits some seconds; raises StoppedError if the demo is to end."""


class Stage:
    """Everything that runs. ``stack`` takes it down, in the reverse order, whatever has been built."""

    def __init__(self, directory: Path, stack: ExitStack, wait: Wait) -> None:
        """``directory`` is the run's own; ``wait`` is how to wait."""
        self.directory = directory
        self._stack = stack
        self._wait = wait
        self.host: Place = Host()
        self.places: dict[str, Place] = {}
        """By service, and for the customers."""
        self.members: tuple[Member, ...] = ()
        self.backend: BackendApi
        self._backend_socket: socket.socket
        self._plan: Layout
        self.daemons: dict[str, Child] = {}
        self.services: list[Child] = []
        self.windows: dict[str, Window] = {}
        """Through which the backend sees the daemons' admin servers, by service."""
        self.calls = CallBook()
        self._everything: list[Child] = []
        self._daemon_user: int | None = None
        self._application_user: int | None = None
        stack.callback(lambda: stop_all(self._everything))

    def check(self) -> None:
        """Raises DemoError if anything has ended which should run."""
        for child in self._everything:
            child.check()

    # ---- places

    def settle_on_host(self) -> None:
        """Everything is on this host, and runs as this user."""
        self.places = dict.fromkeys([*CALLS, CUSTOMERS], self.host)

    def settle_in_pods(self, opener: list[str]) -> None:
        """A namespace for each service and one for the customers. Raises NotPermittedError."""
        namespaces: dict[str, Namespace] = {}
        for name in [*CALLS, CUSTOMERS]:
            namespaces[name] = Namespace(name, opener)
            self._stack.callback(namespaces[name].delete)
            # What runs in it ends before it goes; again is the same as once.
            self._stack.callback(lambda: stop_all(self._everything))
        for wire in layout.wires():
            connect(namespaces[wire.left], wire.left_address, namespaces[wire.right], wire.right_address)
        self.places = dict(namespaces)
        self.host = Host(opener)
        self._daemon_user, self._application_user = layout.DAEMON_USER, layout.APPLICATION_USER
        for user in (self._daemon_user, self._application_user):
            probe = namespaces[CUSTOMERS].command(python("-c", "import sp_proxy.demo"), user)
            try:
                run_tool(*probe)
            except DemoError as error:
                raise DemoError(f"user {user} cannot run this installation: {error} (try --forward)") from error

    @property
    def in_pods(self) -> bool:
        """Whether services have a network each."""
        return self._daemon_user is not None

    # ---- processes

    def claim_backend_port(self, port: int | None) -> bool:
        """Listen on ``port``; without one, on the usual port, or a free one if that is taken: then returns False."""
        self._backend_socket, usual = listen_for_backend(port)
        self._stack.callback(self._backend_socket.close)
        self.backend = BackendApi(self._backend_socket.getsockname()[1])
        return usual

    def start_backend(self) -> None:
        """Start the backend and wait until it answers."""
        sockets = [self._backend_socket]
        if self.in_pods:
            where = (LOOPBACK, layout.BACKEND_PORT)
            sockets += [self.places[name].call(partial(socket.create_server, where)) for name in CALLS]
        database = self.directory / "backend"
        database.mkdir(mode=0o700)
        if self._daemon_user is not None:
            os.chown(database, self._daemon_user, self._daemon_user)
        for name in CALLS:
            window = self.windows[name] = Window(self.places[name])
            self._stack.callback(window.close)
        settings = Backend(
            listen=Address(LOOPBACK, self.backend.port),
            database=str(database / "demo.sqlite3"),
            daemons=[Daemon(address=window.address, name=name) for name, window in self.windows.items()],
        )
        ours, theirs = socket.socketpair()
        self._stack.callback(ours.close)  # its end is the backend's
        with theirs:
            inherited = [theirs.fileno(), *(sock.fileno() for sock in sockets)]
            command = python("-m", "sp_proxy.backend", "--control-fd", str(theirs.fileno()))
            self._start("backend", self.host.command(command, self._daemon_user), inherited)
        for sock in sockets:
            sock.close()
        start = backend_process.Start(backend_process.plain_settings(settings), inherited[1:], "warning", "json")
        ours.sendall(msgspec.json.encode(start) + b"\n")
        ours.setblocking(False)
        self._until(lambda: has_started(ours), "the backend")

    def start_shop(self) -> None:
        """Start services and daemons, and wait until the daemons are ready; in pods, write the rules."""
        if self.in_pods:
            plan = layout.transparent()
            sockets = {
                member.name: self.places[member.name].call(partial(socket.create_server, member.application))
                for member in plan.members
            }
            self._start_members(plan, sockets)
            for member in plan.members:
                self._redirect(member)
            return
        sockets = {name: socket.create_server((LOOPBACK, 0)) for name in CALLS}
        ports = {name: sock.getsockname()[1] for name, sock in sockets.items()}
        with ExitStack() as reserved:
            plan = layout.forwarding(self.backend.port, ports, lambda: reserve_port(reserved))
            self._start_members(plan, sockets)

    def start_customers(self, run: str, traffic: Traffic) -> Child:
        """Let the customers in."""
        words = ["--orders", _text(self._plan.entry), "--run", run, "--requests", str(traffic.requests)]
        words += ["--pause", str(traffic.pause)]
        words += [] if traffic.slow_pause is None else ["--slow-pause", str(traffic.slow_pause)]
        customers = self._start_reporting(CUSTOMERS, words, [])
        self._everything.remove(customers)  # they end by themselves
        self._stack.callback(lambda: stop_all([customers]))
        return customers

    def finish_traffic(self, customers: Child) -> None:
        """Let what is under way be answered, and end the shop: after this, ``calls`` does not change any more."""
        stop_all([customers])
        for service in self.services:
            self._everything.remove(service)
        stop_all(self.services)

    def _start_members(self, plan: Layout, sockets: dict[str, socket.socket]) -> None:
        self._plan = plan
        self.members = plan.members
        for member in plan.members:
            sock = sockets[member.name]
            words = ["--listen-fd", str(sock.fileno())]
            for name, address in member.peers.items():
                words += [f"--{name}", _text(address)]
            self.services.append(self._start_reporting(member.name, words, [sock.fileno()]))
            sock.close()
            self.windows[member.name].look_at(member.admin)
        for member in plan.members:
            config = self._config(member)
            command = python("-m", "sp_proxy.cli.main", "run", "--config", str(config))
            command = self.places[member.name].command(command, self._daemon_user)
            self.daemons[member.name] = self._start(f"{member.name}-daemon", command, [])
        for member in plan.members:
            self._until(partial(ready, self.places[member.name], member), f"the daemon of {member.name}")
        if self._daemon_user is not None:
            for daemon in self.daemons.values():
                require_no_privilege(daemon, self._daemon_user)

    def _redirect(self, member: Member) -> None:
        """Write the redirect rules of a pod, as an init container would."""
        command = python("-m", "sp_proxy.cli.main", "netfilter", "apply", "--config", str(self._config(member)))
        run_tool(*self.places[member.name].command(command, None))

    def _config(self, member: Member) -> Path:
        path = self.directory / f"{member.name}.yaml"
        path.write_text(yaml.safe_dump(member.settings, sort_keys=False), encoding="utf-8")
        path.chmod(0o644)
        return path

    def _start_reporting(self, role: str, words: list[str], descriptors: list[int]) -> Child:
        command = self.places[role].command(python("-m", "sp_proxy.demo.shop", role, *words), self._application_user)
        return self._start(role, command, descriptors, self._read_report)

    def _read_report(self, line: str) -> None:
        if call := report.parse(line):
            self.calls.add(call)

    def _start(
        self,
        name: str,
        command: list[str],
        descriptors: list[int],
        on_line: Callable[[str], None] | None = None,
    ) -> Child:
        child = Child(name, command, self.directory / f"{name}.log", pass_fds=descriptors, on_line=on_line)
        self._everything.append(child)
        return child

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(int(START_SECONDS / _LOOK_SECONDS)):
            if condition():
                return
            self.check()
            self._wait(_LOOK_SECONDS)
        raise DemoError(f"{what} was not ready within {START_SECONDS:.0f} seconds")


def listen_for_backend(port: int | None, option: str = "--port") -> tuple[socket.socket, bool]:
    """A socket that listens on the port, and True; without one on the usual port, or on a free one, and False. ``option``
    is what the port was given by.
    """
    wanted = layout.BACKEND_PORT if port is None else port
    try:
        return socket.create_server((LOOPBACK, wanted)), True
    except OSError as error:
        if port is not None:
            raise DemoError(
                f"{option} {port}: {os.strerror(error.errno or 0).lower()}; without {option}, a free one is taken"
            ) from error
    return socket.create_server((LOOPBACK, 0)), False


def has_started(control: socket.socket) -> bool:
    """Whether the backend has said that it listens; it says one short line. Raises DemoError if it cannot."""
    try:
        line = control.recv(65536)
    except BlockingIOError:
        return False
    started = msgspec.json.decode(line or b"{}", type=backend_process.Started)
    if not started.url:
        raise DemoError(f"the backend cannot start: {started.error or 'it ended'}")
    return True


def require_no_privilege(daemon: Child, user: int) -> None:
    """The proof that the daemon needs none: it is ready, and has none (proc(5), status)."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines())
    if status["Uid"].split() != [str(user)] * 4 or int(status["CapEff"], 16) or int(status["CapPrm"], 16):
        raise DemoError(
            f"{daemon.name} runs as user {status['Uid']}, capabilities {status['CapEff']}: not as user {user}"
        )


def reserve_port(stack: ExitStack) -> int:
    """A free port, kept from others until ``stack`` closes.

    A socket that is bound but does not listen lets another one listen there if both have SO_REUSEADDR (socket(7)), and
    nobody gets the port by chance.
    """
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOOPBACK, 0))
    port: int = sock.getsockname()[1]
    return port


def _text(address: HostPort) -> str:
    return f"{address[0]}:{address[1]}"
