"""``sp-proxy demo`` as people start it, in both modes: what it says, what it shows, and that nothing of it remains."""

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sp_proxy.demo import access, runs
from tests.requirements import require_root_tools

PROGRAM = str(Path(sys.executable).with_name("sp-proxy"))
MARK = "DEMO_TEST_MARK"
TOTAL = re.compile(r"^(sent|expected|captured|accepted|dropped|stored) +(\d+)  ", re.MULTILINE)
LEAF = re.compile(r"(orders|inventory|payment) (inbound|outbound)  (GET|POST) (\S+)  (\d+)")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def mark() -> Iterator[str]:
    """A word in the environment of a demo and of all its processes, which a failed test ends."""
    word = uuid.uuid4().hex
    yield word
    for pid in marked(word):
        os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Processes that bear the mark, those of other users included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue  # ended meanwhile
    return found


def state() -> dict[str, object]:
    """What a demo could leave behind, but for processes. Others on this machine may run demos of their own."""

    def lines(command: str) -> set[str]:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
        return {line.strip() for line in done.stdout.splitlines() if runs.PREFIX in line or "sp_proxy" in line}

    return {command: lines(command) for command in ("nft list ruleset", "iptables-save", "ip6tables-save", "ip link")}


def left_of(pid: int) -> list[str]:
    """Names that the run of a process has left."""
    parents = [Path("/run/netns"), Path("/run"), Path(tempfile.gettempdir())]
    return [str(path) for parent in parents for path in parent.glob(f"{runs.PREFIX}-{pid}-*")]


@contextmanager
def demo(mark: str, *words: str, before: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, MARK: mark, "TERM": "dumb"}
    process = subprocess.Popen(
        [*before, PROGRAM, "demo", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(mark: str, *words: str, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
    with demo(mark, *words, before=before) as process:
        out, err = process.communicate(timeout=200)
    assert left_of(process.pid) == []
    eventually(lambda: not marked(mark), "processes have ended")
    return process.returncode, out, err


def eventually(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def mode_options(mode: str) -> list[str]:
    if mode == "transparent":
        require_root_tools("ip", "nft", "iptables", "setpriv")
        return []
    return ["--forward"]


modes = pytest.mark.parametrize("mode", ["transparent", "forwarding"])


@modes
def test_once(mode, mark):
    options = mode_options(mode)
    before = state()
    code, out, err = run(mark, "--once", "--requests", "45", *options)
    assert (code, err) == (0, ""), err
    assert ("transparent mode" in out) == (mode == "transparent")
    assert re.search(r"^dashboard http://127\.0\.0\.1:\d+/$", out, re.MULTILINE)
    totals = {name: int(number) for name, number in TOTAL.findall(out)}
    calls = totals["sent"] - 45
    assert calls > 45  # services call each other more than they are called from outside
    assert totals["expected"] == 45 + 2 * calls
    assert totals["captured"] == totals["accepted"] == totals["stored"] == totals["expected"]
    assert totals["dropped"] == 0
    assert "ok: all counts agree" in out
    assert_joined(LEAF.findall(out))
    assert state() == before


def assert_joined(halves: list[tuple[str, str, str, str, str]]) -> None:
    """One trace through all services: every call between them with its outbound and its inbound half."""
    assert {(service, direction) for service, direction, *_ in halves} == {
        ("orders", "inbound"),
        ("orders", "outbound"),
        ("inventory", "inbound"),
        ("payment", "inbound"),
    }
    outbound = sorted(request for _, direction, *request in halves if direction == "outbound")
    inbound = sorted(request for service, direction, *request in halves if service != "orders")
    assert outbound == inbound


@modes
def test_it_goes_on_until_ctrl_c(mode, mark):
    options = mode_options(mode)
    with demo(mark, "--requests", "40", *options) as process:
        assert process.stdout is not None
        url = next(line.split()[1] for line in process.stdout if line.startswith("dashboard "))
        port = int(url.rstrip("/").rpartition(":")[2])
        eventually(lambda: ask(port, "/api/v1/exchanges?host=payment:8080&status=500")["exchanges"], "the fault")
        eventually(lambda: ask(port, "/api/v1/stats")["exchanges"] > 100, "traffic")
        statuses = {each["status"] for each in ask(port, "/api/v1/exchanges?limit=1000")["exchanges"]}
        assert {200, 201, 402, 404, 500, 502} <= statuses
        assert len(ask(port, "/api/v1/sessions")["sessions"]) == 4
        compressed = ask(port, "/api/v1/exchanges?service=inventory&path=/catalog&limit=1")["exchanges"][0]
        detail = ask(port, f"/api/v1/exchanges/{compressed['span_id']}")
        assert dict(detail["response"]["headers"])["content-encoding"] == "gzip"
        assert len(json.loads(detail["response"]["body"]["data"])["products"]) == 6
        charge = ask(port, "/api/v1/exchanges?service=orders&direction=outbound&host=payment:8080")["exchanges"][-1]
        detail = ask(port, f"/api/v1/exchanges/{charge['span_id']}")
        assert detail["session_id"].startswith("sess-")
        assert "the-orders-secret" not in json.dumps(detail)
        if mode == "transparent":
            assert_unprivileged(mark)
            assert detail["attributes"]["network.peer.address"] == "10.80.3.2"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "ok: all counts agree" in out
    assert left_of(process.pid) == []
    eventually(lambda: not marked(mark), "processes have ended")


def ask(port: int, target: str) -> Any:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", target)
        return json.loads(connection.getresponse().read())


def assert_unprivileged(mark: str) -> None:
    """Daemons, their workers and the backend run as user 1338, without any capability."""
    checked = []
    for pid in marked(mark):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if re.search(r"sp_proxy\.(cli\.main run|relay|backend)", command):
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^Uid:\t1338\t1338\t1338\t1338$", status, re.MULTILINE), command
            assert re.search(r"^CapPrm:\t0{16}$", status, re.MULTILINE), command
            checked.append(command)
    assert len(checked) == 7


@modes
def test_killed_and_cleaned_up_after(mode, mark):
    """SIGKILL leaves nobody running; what else is left, the next run removes."""
    options = mode_options(mode)
    with demo(mark, *options) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("dashboard "):
                break
        process.kill()
        process.wait()
    eventually(lambda: not marked(mark), "the killed demo's processes have ended")
    assert left_of(process.pid)
    code, out, _ = run(mark, "--once", "--requests", "4", *options)
    assert code == 0
    assert "removed what an earlier run left" in out
    assert left_of(process.pid) == []


@modes
def test_ctrl_c_while_it_starts(mode, mark):
    options = mode_options(mode)
    with demo(mark, *options) as process:
        eventually(lambda: len(marked(mark)) > 2, "something has started")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode in {0, 130}
    assert err == ""
    assert left_of(process.pid) == []
    eventually(lambda: not marked(mark), "processes have ended")


def test_as_another_user_it_forwards(mark):
    require_root_tools("setpriv")
    before = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    code, out, err = run(mark, "--once", "--requests", "10", before=before)
    assert (code, err) == (0, ""), err
    assert out.startswith("not root: forwarding mode")
    assert "ok: all counts agree" in out


def test_root_without_the_right_to_have_namespaces_forwards(mark):
    require_root_tools("ip", "setpriv")
    before = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    code, out, err = run(mark, "--once", "--requests", "10", before=before)
    assert (code, err) == (0, ""), err
    assert re.search(r"^no network namespaces here \(.*not permitted\): forwarding mode$", out, re.MULTILINE)


def test_an_installation_that_only_root_may_read_runs_transparently_all_the_same(mark):
    """A clone in root's home: its directory is closed to the daemons' user."""
    require_root_tools("ip", "nft", "setpriv", "unshare", "mount")
    needed = [path for path in access.needed_paths() if len(path.parts) > 2 and path.parts[1] not in {"usr", "run"}]
    if not needed:
        pytest.skip("nothing of this installation lies where it could be hidden")
    with tempfile.TemporaryDirectory(dir="/run", prefix="spt-") as directory:
        lines = []
        for number, path in enumerate(needed):
            Path(directory, str(number)).mkdir()
            lines.append(f"mount --bind {shlex.quote(str(path))} {directory}/{number}")
        tops = sorted({shlex.quote(str(Path(*path.parts[:2]))) for path in needed})
        lines += [f"mount -t tmpfs -o mode=0700 tmpfs {top}" for top in tops]
        for number, path in enumerate(needed):
            quoted = shlex.quote(str(path))
            lines.append(f"mkdir -p {quoted} && mount --bind {directory}/{number} {quoted}")
        script = " && ".join(["cd /", *lines, 'exec "$@"'])
        before = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
        code, out, err = run(mark, "--once", "--requests", "10", before=before)
    assert (code, err) == (0, ""), err
    assert "transparent mode" in out
    assert "ok: all counts agree" in out


def test_a_port_that_is_taken(mark):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run(mark, "--port", str(port))
    assert code == 1
    assert "dashboard" not in out
    assert err == f"sp-proxy: --port {port}: address already in use; without --port, a free one is taken\n"
