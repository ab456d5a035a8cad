"""The namespace helper itself: others' end-to-end tests stand on it."""

import socket
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.netns import Namespace, default_route, link
from tests.requirements import require_root_tools, unavailable


@pytest.fixture(autouse=True)
def _requirements():
    require_root_tools("ip", "setpriv")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_two_namespaces_reach_each_other_over_both_ip_versions(family):
    with Namespace("one") as one, Namespace("two") as two:
        link(one, two)
        default_route(two, one)
        address = one.ipv4 if family == socket.AF_INET else one.ipv6
        with one.call(partial(socket.create_server, ("", 0), family=family)) as server:
            port = server.getsockname()[1]
            with two.call(partial(socket.create_connection, (address, port), 5)) as client:
                accepted, peer = server.accept()
                assert client.getsockname()[0] == peer[0]
                accepted.close()


def test_leaving_kills_its_children_and_removes_it():
    with Namespace("gone") as namespace:
        child = namespace.popen("sleep", "60", user=1338, stdout=subprocess.PIPE)
        assert "sleep" in Path(f"/proc/{child.pid}/cmdline").read_text() or child.poll() is None
    assert child.returncode is not None
    assert not Path("/run/netns", namespace.name).exists()
    namespace.delete()


def test_commands_run_as_the_user_and_fail_with_what_they_wrote():
    with Namespace("user") as namespace:
        assert namespace.run("id", "-u", user=1338).stdout == "1338\n"
        assert namespace.run("cat", stdin="text").stdout == "text"
        with pytest.raises(AssertionError, match="exit code 3\nwhy"):
            namespace.run("sh", "-c", "echo why >&2; exit 3")


def test_an_error_inside_a_call_is_the_callers():
    with Namespace("call") as namespace, pytest.raises(ZeroDivisionError):
        namespace.call(lambda: 1 // 0)


def test_what_is_missing_is_a_failure_only_under_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool"):
        require_root_tools("no-such-tool")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-such-tool"):
        require_root_tools("no-such-tool")
    with pytest.raises(pytest.fail.Exception, match="because"):
        unavailable("because")
