"""What systemd passes to us: taken by its address, or let go so that nobody waits in vain."""

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from sp_proxy.settings.types import Address
from sp_proxy.supervisor.passed import FIRST, STORED, Passed
from sp_proxy.supervisor.sockets import bind_address
from tests.supervisor.daemon import REAL, TIMEOUT, free_ports, running_daemon
from tests.supervisor.test_run import Handler, http_server

__all__ = ["http_server"]
UNIT = "sp-proxy.socket"
PLACE = 700
"""The first descriptor of those that are passed in this process."""


@contextmanager
def passed(*given: tuple[str, socket.socket]) -> Iterator[Passed]:
    """As if systemd had started us with these; it keeps its own copies."""
    for index, (_, sock) in enumerate(given):
        os.dup2(sock.fileno(), PLACE + index)
    names = ":".join(name for name, _ in given)
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": names}
    found = Passed(environ, PLACE)
    yield found
    with capture_logs():
        found.leave()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


@pytest.mark.parametrize("name", [STORED, UNIT])
def test_a_listener_is_the_passed_one_and_who_waits_there_is_served(listening: socket.socket, name: str):
    port = port_of(listening)
    with socket.create_connection(("127.0.0.1", port)) as client, passed((name, listening)) as found:
        (sock,) = bind_address("listen.inbound", Address("127.0.0.1", port), found)
        with sock:
            assert not sock.get_inheritable()
            assert not sock.getblocking()
            accepted, peer = sock.accept()
            accepted.close()
            assert peer == client.getsockname()


def test_both_ip_versions_are_found():
    with ExitStack() as stack:
        (port,) = free_ports(1)
        before = bind_address("listen.inbound", Address("", port))
        for sock in before:
            stack.enter_context(sock)
        found = stack.enter_context(passed(*((STORED, sock) for sock in before)))
        after = bind_address("listen.inbound", Address("", port), found)
        for sock in after:
            stack.enter_context(sock)
        assert [os.fstat(sock.fileno()).st_ino for sock in after] == [os.fstat(sock.fileno()).st_ino for sock in before]


def test_one_that_was_kept_is_not_in_the_way_of_another_address(listening: socket.socket):
    port = port_of(listening)
    with passed((STORED, listening)) as found:
        (sock,) = bind_address("listen.inbound", Address("0.0.0.0", port), found)
        with sock:
            assert sock.getsockname() == ("0.0.0.0", port)
            assert not listens(listening)


def test_what_no_setting_names_does_not_listen_on_unless_it_is_a_units(listening: socket.socket):
    with socket.create_server(("127.0.0.1", 0)) as units:
        with capture_logs() as logs, passed((STORED, listening), (UNIT, units)) as found:
            found.leave()
        assert not listens(listening)
        assert listens(units)
        address = f"127.0.0.1:{port_of(units)}"
    assert [(line["event"], line["name"], line["address"], line["reason"]) for line in logs] == [
        ("passed_socket_unused", UNIT, address, "no listener has it")
    ]


def test_a_units_that_was_also_kept_is_left_to_the_unit(listening: socket.socket):
    with passed((UNIT, listening), (STORED, listening)) as found, capture_logs():
        found.leave()
    assert listens(listening)


def unfit(kind: str) -> socket.socket:
    if kind == "unix":
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if kind == "udp":
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if kind == "idle":
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("unix", "not a TCP socket"),
        ("udp", "not a TCP socket"),
        ("idle", "it does not listen"),
        ("dual", "it takes IPv4 too: name both addresses, with BindIPv6Only=ipv6-only"),
    ],
)
def test_what_cannot_be_listened_on_is_said(kind: str, reason: str):
    with unfit(kind) as sock, capture_logs() as logs, passed((UNIT, sock)) as found:
        assert found.take(sock.family, "127.0.0.1", 1) is None
    assert [(line["event"], line["reason"]) for line in logs] == [("passed_socket_unused", reason)]


def test_a_file_is_no_socket(tmp_path: Path):
    with (tmp_path / "file").open("wb") as file, capture_logs() as logs:
        os.dup2(file.fileno(), PLACE)
        Passed({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, PLACE)
        os.close(PLACE)
    assert [line["reason"] for line in logs] == ["not a socket"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "many", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_what_is_meant_for_others_is_not_touched(listening: socket.socket, environ: dict[str, str]):
    os.dup2(listening.fileno(), PLACE)
    try:
        found = Passed(environ, PLACE)
        assert found.take(socket.AF_INET, "127.0.0.1", port_of(listening)) is None
        found.leave()
        assert listens(listening)
    finally:
        os.close(PLACE)


WITH_PASSED = """
import os, sys
given = int(sys.argv[1])
os.dup2(given, {first})
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="{name}")
os.execv(sys.argv[2], sys.argv[2:])
"""


def received(manager: socket.socket) -> Sequence[int]:
    """The descriptors that come with the first message that has any."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(manager, 4096, 8)
        if descriptors:
            assert data == f"FDSTORE=1\nFDNAME={STORED}".encode()
            return descriptors


async def test_over_a_restart_nobody_is_refused(tmp_path: Path, http_server: tuple[str, list[bytes]]):
    """We are systemd: what the daemon gave us to keep, the next one is passed."""
    upstream, _ = http_server
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(TIMEOUT)
        environ = {"NOTIFY_SOCKET": str(address)}
        async with running_daemon(upstream, directory=tmp_path, command=REAL, environ=environ) as daemon:
            (kept,) = await trio.to_thread.run_sync(received, manager)
            daemon.signal(signal.SIGKILL)
            assert await daemon.ended() == -signal.SIGKILL
            port = daemon.port
    # Nobody is there.
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        listen = {"inbound": "off", "outbound": "off"}
        forward = {"forward": [{"listen": f"127.0.0.1:{port}", "upstream": upstream}]}
        program = WITH_PASSED.format(first=FIRST, name=STORED)
        command = (REAL[0], "-c", program, str(kept), *REAL)
        settings = {"listen": {**listen, **forward}}
        async with running_daemon(upstream, settings, directory=tmp_path, command=command, pass_fds=(kept,)) as daemon:
            client.settimeout(TIMEOUT)
            answer = await trio.to_thread.run_sync(client.recv, 4096)
            assert answer.startswith(f"{Handler.protocol_version} 200".encode())
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
    os.close(kept)
