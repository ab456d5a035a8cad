import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sp_proxy.demo import places, runs
from sp_proxy.demo.errors import DemoError, NotPermittedError
from sp_proxy.demo.places import Host, Namespace, connect, identity, run_tool
from tests.requirements import require_root_tools


@pytest.fixture
def namespace():
    require_root_tools("ip", "setpriv")
    made = Namespace("one")
    yield made
    made.delete()


def test_a_command_of_nobody_in_particular_ends_with_the_demo():
    assert identity(None) == ["setpriv", "--pdeathsig", "TERM", "--"]


def test_a_host_without_setpriv_does_without(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert Host().command(["true"], None) == ["true"]


def test_an_opener_is_for_users_without_privilege():
    assert Host(["opener"]).command(["true"], 1338)[0] == "opener"
    assert "opener" not in Host(["opener"]).command(["true"], None)


def test_missing_tools_are_named_with_their_packages(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ip" else f"/bin/{name}")
    assert places.missing_tools() == {"ip": "iproute2"}


def test_a_tool_that_fails_is_one_line():
    with pytest.raises(DemoError, match=r"^sh -c echo a; echo b >&2; exit 3: b$"):
        run_tool("sh", "-c", "echo a; echo b >&2; exit 3")
    with pytest.raises(NotPermittedError, match="exit code 4"):
        run_tool("sh", "-c", "exit 4", failure=NotPermittedError)
    assert run_tool("sh", "-c", "echo out; exit 3", check=False) == "out\n"


def test_python_is_this_one_and_takes_nothing_from_here():
    assert places.python("-m", "x") == [sys.executable, "-P", "-m", "x"]


def test_a_socket_made_in_a_namespace_belongs_there(namespace):
    listening = namespace.call(lambda: socket.create_server(("127.0.0.1", 0)))
    with closing(listening):
        address = listening.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        namespace.call(lambda: socket.create_connection(address, timeout=5)).close()


def test_two_namespaces_on_a_wire(namespace):
    other = Namespace("two")
    try:
        connect(namespace, "10.80.9.1", other, "10.80.9.2")
        with closing(other.call(lambda: socket.create_server(("10.80.9.2", 0)))) as listening:
            address = listening.getsockname()
            with closing(namespace.call(lambda: socket.create_connection(address, timeout=5))) as sock:
                assert sock.getsockname()[0] == "10.80.9.1"
    finally:
        other.delete()


def test_a_user_in_a_namespace_has_no_privilege(namespace):
    script = "id -u; id -G; grep -E 'Cap(Eff|Prm|Inh|Amb)|NoNewPrivs' /proc/self/status | cut -f2 | sort -u"
    done = subprocess.run(namespace.command(["sh", "-c", script], 1338), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1338", "1338", "0" * 16, "1"]
    root = subprocess.run(namespace.command(["id", "-u"], None), capture_output=True, text=True, check=True)
    assert root.stdout == "0\n"


def test_a_deleted_namespace_is_gone_and_twice_is_fine(namespace):
    path = Path("/run/netns", namespace.name)
    assert path.exists()
    namespace.delete()
    namespace.delete()
    assert not path.exists()


def test_what_ended_runs_left_is_removed_with_its_processes(namespace, monkeypatch):
    monkeypatch.setattr(runs, "this_run", lambda prefix: f"{prefix}-{os.getpid()}-1")
    ended = Namespace("old")
    ended._inside.shutdown()
    process = subprocess.Popen(ended.command(["sh", "-c", "echo up; exec sleep 99"], None), stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        process.stdout.readline()
        assert ended.name in places.remove_left_over_namespaces()
    assert process.returncode == -9
    assert not Path("/run/netns", ended.name).exists()
    assert Path("/run/netns", namespace.name).exists()


def test_no_right_to_have_one_is_told_apart(monkeypatch):
    require_root_tools("ip")

    def refuse(*command: str, failure: type[DemoError] = DemoError, check: bool = True) -> str:
        raise failure("ip netns add: Operation not permitted")

    monkeypatch.setattr(places, "run_tool", refuse)
    with pytest.raises(NotPermittedError):
        Namespace("refused")
