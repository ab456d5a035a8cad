"""The parts that need no processes; whole runs are in ``tests/e2e/test_dev.py``."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from sp_proxy.dev.errors import DevError
from sp_proxy.dev.layout import Common
from sp_proxy.dev.project import Project, Service
from sp_proxy.dev.stage import Stage, has_ipv6_loopback


def stage(stack: ExitStack, tmp_path: Path, *services: Service) -> Stage:
    return Stage(tmp_path, stack, lambda _seconds: None, Project(services, tmp_path))


def test_ports_are_kept_from_others_and_differ(tmp_path):
    with ExitStack() as stack:
        made = stage(stack, tmp_path, Service("a", "x", port=None), Service("b", "x"))
        made.settle()
        made.configure(Common(4318, "/state", "/known"))
        ports = [port for member in made.members for port in (member.admin[1], (member.proxy or ("", 0))[1])]
        assert len(set(ports)) == 4
        with socket.socket() as sock, pytest.raises(OSError, match="in use"):
            sock.bind(("127.0.0.1", ports[0]))
        assert made.members[0].settings["listen.proxy"] == f"127.0.0.1:{ports[1]}"
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", ports[0]))


def test_a_service_without_a_port_to_listen_on_gets_one(tmp_path):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()[1]
    with ExitStack() as stack:
        made = stage(stack, tmp_path, Service("a", "x", port=free))
        made.settle()
        inbound = made.members[0].inbound
        assert inbound
        assert inbound.port == free
        assert inbound.to not in {0, free}


def test_the_backend_knows_the_daemons(tmp_path):
    with ExitStack() as stack:
        made = Stage(tmp_path, stack, time.sleep, Project((Service("a", "x"), Service("b", "x")), tmp_path))
        made.settle()
        made.claim_backend_port(None)
        made.start_backend(tmp_path / "backend.sqlite3")
        told = made.backend.json("/api/v1/daemons")["daemons"]
        assert [each["name"] for each in told] == ["a", "b"]
        assert all(each["problem"] for each in told)  # they have not been started


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as stack:
        port = sock.getsockname()[1]
        with pytest.raises(DevError, match=rf"^port {port} of a: address already in use$"):
            stage(stack, tmp_path, Service("a", "x", port=port)).settle()


def test_the_loopback_of_ipv6():
    with socket.socket(socket.AF_INET6) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            assert not has_ipv6_loopback()
        else:
            assert has_ipv6_loopback()
