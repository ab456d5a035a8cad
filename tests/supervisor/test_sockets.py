"""Listening sockets: both IP versions, all or nothing, and errors that a person can act on."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from sp_proxy.core.exchange import Direction
from sp_proxy.settings.model import ForwardListener, Listen
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.sockets import BindError, BoundListener, bind_address, bind_listeners, describe


@contextmanager
def closing(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def free_port() -> int:
    """A port that is free on all addresses just now."""
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return int(sock.getsockname()[1])


def listen(**keys: object) -> Listen:
    return Listen.model_validate({"inbound": "off", "outbound": "off", **keys})


def addresses(listeners: list[BoundListener]) -> list[tuple[str, str]]:
    return [(listener.key, listener.address) for listener in listeners]


def test_a_port_alone_is_bound_on_both_ip_versions():
    port = free_port()
    with closing(bind_address("listen.inbound", Address("", port))) as sockets:
        assert [describe(sock) for sock in sockets] == [f"0.0.0.0:{port}", f"[::]:{port}"]
        assert sockets[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


def test_sockets_do_not_block_and_are_not_inherited_by_accident():
    with closing(bind_address("listen.inbound", Address("127.0.0.1", 0))) as (sock,):
        assert not sock.get_inheritable()
        assert not sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


@pytest.mark.parametrize("host, family", [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_an_address_is_bound_alone(host, family):
    with closing(bind_address("admin.listen", Address(host, 0))) as (sock,):
        assert sock.family == family
        assert sock.getsockname()[0] == host


def test_what_listen_names_becomes_listeners_with_their_keys():
    inbound, forward = free_port(), free_port()
    settings = listen(
        inbound=f"127.0.0.1:{inbound}",
        forward=[ForwardListener(listen=f"127.0.0.1:{forward}", upstream="127.0.0.1:3000", direction="outbound")],
    )
    listeners = bind_listeners(settings)
    with closing([listener.socket for listener in listeners]):
        assert addresses(listeners) == [
            ("listen.inbound", f"127.0.0.1:{inbound}"),
            ("listen.forward[0].listen", f"127.0.0.1:{forward}"),
        ]
        assert [listener.direction for listener in listeners] == [Direction.INBOUND, Direction.OUTBOUND]
        assert [listener.upstream for listener in listeners] == [None, Address("127.0.0.1", 3000)]


def test_a_port_in_use_is_named_with_its_key_and_nothing_stays_bound():
    free = free_port()
    with closing(bind_address("other", Address("127.0.0.1", 0))) as (other,):
        port = other.getsockname()[1]
        with pytest.raises(BindError) as raised:
            bind_listeners(listen(inbound=f"127.0.0.1:{free}", outbound=f"127.0.0.1:{port}"))
        assert str(raised.value) == f"listen.outbound: cannot listen on 127.0.0.1:{port}: address already in use"
    bind_address("again", Address("127.0.0.1", free))[0].close()


def test_the_same_port_twice_in_our_own_settings_is_the_second_ones_error():
    port = free_port()
    with pytest.raises(
        BindError, match=rf"^listen\.outbound: cannot listen on 0\.0\.0\.0:{port}: address already in use$"
    ):
        bind_listeners(listen(inbound=port, outbound=port))


def test_an_address_of_another_host():
    with (
        capture_logs() as logs,
        pytest.raises(BindError, match=r"^admin\.listen: cannot listen on 192\.0\.2\.1:\d+: cannot assign requested"),
    ):
        bind_address("admin.listen", Address("192.0.2.1", free_port()))
    assert logs == []


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 70 + ".invalid", "ü" * 64])
def test_a_name_that_nobody_knows(name):
    with pytest.raises(BindError) as raised:
        bind_address("admin.listen", Address(name, 1))
    assert str(raised.value).startswith(f"admin.listen: cannot listen on {name}:1: ")
    assert "\n" not in str(raised.value)


def test_a_privileged_port_says_what_is_missing(monkeypatch):
    # The kernel lets root bind it, so the refusal has to be made.
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(BindError, match=r"80: permission denied \(a port below 1024 needs CAP_NET_BIND_SERVICE\)$"):
        bind_address("listen.inbound", Address("127.0.0.1", 80))


def test_without_ipv6_only_ipv4_is_bound_and_one_line_says_so(monkeypatch):
    plain = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return plain(family, kind)

    port = free_port()
    monkeypatch.setattr(socket, "socket", without_ipv6)
    with capture_logs() as logs, closing(bind_address("listen.inbound", Address("", port))) as sockets:
        assert [describe(sock) for sock in sockets] == [f"0.0.0.0:{port}"]
    assert [(line["event"], line["address"]) for line in logs] == [("address_left_out", f"[::]:{port}")]
