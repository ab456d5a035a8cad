"""The stage as root on Linux: a network namespace for each service, with redirect rules, and nothing that a service must know.

A service finds the others at ``localhost:PORT`` as on the host (``layout.py``), the outside by NAT, names by this host's own
resolver, and our authority in the certificate stores that it sees (``view.py``). Published ports are reached on the host's
loopback by a plain relay, which leads to the service's daemon.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from sp_proxy.demo.access import opener
from sp_proxy.demo.children import stop_all
from sp_proxy.demo.errors import DemoError
from sp_proxy.demo.places import Host, Namespace, Place, python, remove_left_over_namespaces, run_tool
from sp_proxy.dev import environment, layout, view, wiring
from sp_proxy.dev.environment import Trust
from sp_proxy.dev.errors import DevError
from sp_proxy.dev.identity import Identity
from sp_proxy.dev.layout import DAEMON_USER, LOOPBACK, LOOPBACKS, Common, Inbound, Peer
from sp_proxy.dev.project import Project
from sp_proxy.dev.relays import Address, Relays
from sp_proxy.dev.stage import Member, Stage, Wait, has_ipv6_loopback
from sp_proxy.dev.wiring import PREFIX, Wiring
from sp_proxy.netfilter.install import prepare_apply
from sp_proxy.netfilter.rules import NetfilterError
from sp_proxy.settings.flags import parse_assignments
from sp_proxy.settings.source import Source

_RESOLVER = Path("/etc/resolv.conf")
_DNS = 53


def sweep() -> list[str]:
    """Remove what killed runs left; returns what was removed."""
    return [*(f"network namespace {name}" for name in remove_left_over_namespaces(PREFIX)), *wiring.sweep()]


class Pods(Stage):
    """Everything that runs, in namespaces."""

    def __init__(self, directory: Path, stack: ExitStack, wait: Wait, project: Project, identity: Identity) -> None:
        """``identity`` is who the services run as."""
        super().__init__(directory, stack, wait, project)
        self.daemon_user = DAEMON_USER
        self.backend_user = None if identity.is_root else identity.uid
        self._identity = identity
        self._opener = opener(directory)
        self._namespaces: dict[str, Namespace] = {}
        self._wiring = Wiring()
        self._relays = Relays()
        self._published: list[tuple[socket.socket, int, Member]] = []
        stack.callback(self._relays.close)

    def settle(self) -> None:
        """Namespaces, wires and ports for all. Raises NotPermittedError where there are none to be had."""
        self.stack.callback(self._wiring.close)
        for index, service in enumerate(self.project.services):
            namespace = Namespace(service.name, self._opener, PREFIX)
            self.stack.callback(namespace.delete)
            self.stack.callback(partial(_end_all_in, namespace.name))
            self.stack.callback(lambda: stop_all(self.infrastructure))
            self.stack.callback(self.stop_services)
            self._namespaces[service.name] = namespace
            self._wiring.connect(index, namespace.name)
            self._wiring.resolve_by(index, namespace.name, _resolver_file())
            namespace.call(partial(_write, Path("/proc/sys/net/ipv4/ip_unprivileged_port_start"), "0"))
            member = Member(service, namespace)
            self.members.append(member)
            if service.port is not None:
                self._inbound(member, index, service.port)
        self._wiring.open_outside()
        self._probe(DAEMON_USER)

    def claim_backend_port(self, port: int | None) -> bool:
        """As on the host; it is the same address in every namespace."""
        usual = super().claim_backend_port(port)
        for member in self.members:
            where = (LOOPBACK, self.backend.port)
            sock = member.place.call(partial(socket.create_server, where))
            self.stack.callback(sock.close)
            self.backend_sockets.append(sock)
        return usual

    def configure(self, common: Common) -> None:
        """What each daemon is told."""
        peers = {
            member.name: Peer(member.inbound.port, self._wiring.address(index))
            for index, member in enumerate(self.members)
            if member.inbound
        }
        for index, member in enumerate(self.members):
            others = [peer for name, peer in peers.items() if name != member.name]
            others += [Peer(port, self._wiring.gateway(index)) for port in self.project.host_ports]
            member.settings = layout.transparent(member.name, common, member.inbound, others)

    def daemons_ready(self) -> None:
        """Redirect rules, published ports, name service."""
        for member in self.members:
            member.place.call(partial(_redirect, member))
        for sock, index, member in self._published:
            assert member.inbound
            self._relays.tcp(sock, (self._wiring.address(index), member.inbound.port))
        servers = name_servers(_resolver_file())
        for index, _ in enumerate(self.members):
            gateway = self._wiring.gateway(index)
            questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.stack.callback(questions.close)
            questions.bind((gateway, _DNS))
            self._relays.udp(questions, servers)
            self._relay((gateway, _DNS), servers[0])
            for port in self.project.host_ports:
                self._relay((gateway, port), (LOOPBACK, port))
        self.stack.callback(self._relays.close)  # before the sockets that it serves

    def command_of(self, member: Member) -> list[str]:
        """In the namespace, with its view of the certificate stores, as the user."""
        command = self._identity.command(member.service.words)
        namespace = self._namespaces[member.name]
        return ["ip", "netns", "exec", namespace.name, *view.covered(member.covers, command)]

    def environment_of(self, member: Member, environ: Mapping[str, str], trust: Trust, preload: Path) -> dict[str, str]:  # noqa: ARG002
        """The user's own: no variable leads anywhere, and one lets Node.js trust our authority."""
        made = environment.trusting_node(self._identity.environment(environ), trust)
        directory = self.project.directory / member.service.directory
        member.covers = view.covers(trust, self.directory, member.service.words, directory, made)
        return made

    def host_place(self) -> Place:
        """Where the backend is: on the host, readable for a user without rights."""
        return Host(self._opener)

    def _inbound(self, member: Member, index: int, port: int) -> None:
        service = member.service
        to = service.to or next(each for each in range(3000, 65536) if each != port)
        if reserved := {port, to} & layout.reserved_ports():
            raise DevError(f"{service.name}: port {min(reserved)} is the daemon's own in a namespace")
        member.inbound = Inbound(port, to)
        for host in LOOPBACKS if has_ipv6_loopback() else (LOOPBACK,):
            address = (host.strip("[]"), port)
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            try:
                sock = socket.create_server(address, family=family)
            except OSError as error:
                raise DevError(f"port {port} of {service.name}: {os.strerror(error.errno or 0).lower()}") from error
            self.stack.callback(sock.close)
            self._published.append((sock, index, member))

    def _relay(self, listen: Address, target: Address) -> None:
        sock = socket.create_server(listen)
        self.stack.callback(sock.close)
        self._relays.tcp(sock, target)

    def _probe(self, user: int) -> None:
        try:
            run_tool(*self.members[0].place.command(python("-c", "import sp_proxy.dev"), user))
        except DemoError as error:
            raise DevError(f"user {user} cannot run this installation: {error} (try --proxy)") from error


def name_servers(text: str) -> list[Address]:
    """The name servers of a resolv.conf, at most three, as resolvers have it; this host's own where none is named."""
    words = [line.split() for line in text.splitlines()]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [(address, _DNS) for address in found[:3]] or [(LOOPBACK, _DNS)]


def _redirect(member: Member) -> None:
    """Write the redirect rules of the namespace that the calling thread is in. Raises DevError."""
    given = parse_assignments(layout.assignments(member.settings)[1::2])
    try:
        prepare_apply(Source(None, {}, given).load(sends=False).settings, None, check=False).run()
    except NetfilterError as error:
        raise DevError(f"redirect rules of {member.name}: {error} (try --proxy)") from error


def _resolver_file() -> str:
    try:
        return _RESOLVER.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _end_all_in(namespace: str) -> None:
    """What left its process group too."""
    for pid in run_tool("ip", "netns", "pids", namespace, check=False).split():
        run_tool("kill", "-KILL", pid, check=False)


def _write(path: Path, text: str) -> None:
    path.write_text(text, "ascii")
