"""Real connections that show which path the kernel gives them. They carry no byte, so no exchange comes of them.

Destinations are of the ranges for documentation (RFC 5737, RFC 3849), which nobody answers: a connection there which is
answered, or refused at once, was redirected. Where the settings include certain networks only, it is an address of these.

The user of a connection is what the rules see of its socket: the file system user id of the thread that made it. Setting that
for a moment needs no other process.
"""

import ctypes
import errno
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from sp_proxy.netfilter.rules import Family, IPAddress, NetfilterError
from sp_proxy.relay.heartbeat import send

ANSWER_TIMEOUT_SECONDS = 1.0
"""Redirected connections are answered by this host; a SYN would be repeated after one second."""
BYPASS_TIMEOUT_SECONDS = 0.2
"""Long enough for the packet to have passed the rules, which is before ``connect`` returns."""
REMOTE = {4: "192.0.2.1", 6: "2001:db8::1"}
ELSEWHERE = {4: "192.0.2.2", 6: "2001:db8::2"}
"""Where no probe is redirected on its way to."""
_LINK = {4: ("198.51.100.1", "198.51.100.2", 30), 6: ("2001:db8:5b::1", "2001:db8:5b::2", 126)}
"""Our end, the peer's end and the prefix length of the link that inbound probes come in by."""
_REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET}


class Answer(StrEnum):
    """What came back to a connection attempt."""

    CONNECTED = "connected"
    REFUSED = "refused"
    SILENCE = "no answer"
    UNREACHABLE = "unreachable"


def route_source(destination: str) -> str:
    """The local address that would be used towards a destination; empty if there is no route. Sends nothing."""
    with socket.socket(_socket_family(destination), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((destination, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def route_interface(destination: str) -> str:
    """The interface that would be used towards a destination; empty if that cannot be told."""
    try:
        words = _ip("-o", "route", "get", destination).split()
    except NetfilterError:
        return ""
    return words[words.index("dev") + 1] if "dev" in words else ""


def heartbeat(port: int, user: int) -> None:
    """Sends a heartbeat, or with the port above it a withdrawal, as the daemon does. Raises ``NetfilterError``."""
    with _as_user(None if user == os.geteuid() else user):
        send(port)


def connect(destination: str, port: int, timeout: float, user: int | None = None, source: str = "") -> Answer:
    """Opens a connection as a user, from an address of this host if given, and closes it at once.

    Raises ``NetfilterError`` where it may not be this user or that address.
    """
    with _as_user(user):
        probe = socket.socket(_socket_family(destination), socket.SOCK_STREAM)
    with probe:
        probe.settimeout(timeout)
        if source:
            try:
                probe.bind((source, 0))
            except OSError as error:
                raise NetfilterError(f"no connection can come from {source} here ({error.strerror})") from error
        try:
            probe.connect((destination, port))
        except TimeoutError:
            return Answer.SILENCE
        except OSError as error:
            return Answer.REFUSED if error.errno in _REFUSED else Answer.UNREACHABLE
        return Answer.CONNECTED


def reaches_own_listener(address: str, user: int | None = None) -> bool:
    """Whether a connection to a local address arrives at the listener that was opened there for it.

    Raises ``NetfilterError`` where no listener can be opened.
    """
    with socket.socket(_socket_family(address), socket.SOCK_STREAM) as listener:
        try:
            listener.bind((address, 0))
            listener.listen(1)
        except OSError as error:
            raise NetfilterError(f"cannot listen there ({error.strerror})") from error
        listener.settimeout(ANSWER_TIMEOUT_SECONDS)
        with _as_user(user):
            probe = socket.socket(_socket_family(address), socket.SOCK_STREAM)
        with probe:
            probe.settimeout(ANSWER_TIMEOUT_SECONDS)
            try:
                probe.connect(listener.getsockname()[:2])
                accepted, peer = listener.accept()
            except OSError:
                return False
            accepted.close()
            return bool(peer[:2] == probe.getsockname()[:2])


@dataclass(frozen=True, slots=True)
class Peer:
    """A network namespace of its own with a link to this one: the world outside, for inbound probes."""

    interface: str
    call: Callable[[Callable[[], Answer]], Answer]
    """Runs a function in a thread inside."""

    def ends(self, family: Family) -> tuple[IPAddress, IPAddress]:
        """The addresses of our end and of the peer's end."""
        ours, theirs, _ = _LINK[family]
        return ip_address(ours), ip_address(theirs)


@contextmanager
def outside_peer(families: tuple[Family, ...]) -> Iterator[Peer]:
    """A peer for the time of the block. Raises ``NetfilterError`` where that is not permitted, or ``ip`` is missing.

    The namespace has no name and lives as long as its thread; the link dies with it. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
    """
    interface = f"sppr{os.getpid()}"
    home = str(threading.get_native_id())  # ip takes a thread's id for that of a process: whose namespace is meant
    tasks: list[Callable[[], None]] = []
    wake, done, ready = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
    failure: list[NetfilterError] = []

    def inside() -> None:
        try:
            os.unshare(os.CLONE_NEWNET)
            _ip("link", "add", "peer0", "type", "veth", "peer", "name", interface, "netns", home)
            _ip("link", "set", "peer0", "up")
            for family in families:
                _, theirs, length = _LINK[family]
                _ip("address", "add", f"{theirs}/{length}", "dev", "peer0", *_nodad(family))
        except OSError as error:
            failure.append(NetfilterError(f"a network namespace needs CAP_SYS_ADMIN ({error.strerror})"))
        except NetfilterError as error:
            failure.append(error)
        ready.set()
        while wake.acquire() and tasks:
            tasks.pop()()
            done.release()

    def call(function: Callable[[], Answer]) -> Answer:
        answers: list[Answer] = []
        tasks.append(lambda: answers.append(function()))
        wake.release()
        done.acquire()
        return answers[0]

    thread = threading.Thread(target=inside, name="outside-peer", daemon=True)
    thread.start()
    ready.wait()
    try:
        if failure:
            raise failure[0]
        _ip("link", "set", interface, "up")
        for family in families:
            ours, _, length = _LINK[family]
            _ip("address", "add", f"{ours}/{length}", "dev", interface, *_nodad(family))
        yield Peer(interface, call)
    finally:
        wake.release()  # no task: the thread ends
        thread.join()
        if not failure:
            _ip("link", "delete", interface, missing_is_fine=True)


def _nodad(family: Family) -> tuple[str, ...]:
    return ("nodad",) if family == 6 else ()


def _ip(*arguments: str, missing_is_fine: bool = False) -> str:
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        raise NetfilterError("ip is not installed: apt-get install iproute2") from None
    if done.returncode and not missing_is_fine:
        raise NetfilterError(
            f"ip {arguments[0]} {arguments[1]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
        )
    return done.stdout


def _socket_family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@contextmanager
def _as_user(user: int | None) -> Iterator[None]:
    """Sockets made in the block belong to the user. Raises ``NetfilterError`` where CAP_SETUID is missing."""
    if user is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    unknown = ctypes.c_uint(0xFFFFFFFF)  # no such user: setfsuid changes nothing and tells the present one
    before = libc.setfsuid(ctypes.c_uint(user))
    try:
        if libc.setfsuid(unknown) & 0xFFFFFFFF != user:
            raise NetfilterError(f"acting as user {user} needs CAP_SETUID")
        yield
    finally:
        libc.setfsuid(ctypes.c_uint(before))
