"""``sp-proxy run`` as a person or a container starts it."""

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.requirements import unavailable
from tests.supervisor.daemon import free_ports

RUN = (sys.executable, "-m", "sp_proxy.cli.main", "run")
TIMEOUT = 60


@pytest.fixture(autouse=True)
def _spool(monkeypatch, tmp_path):
    """What these daemons cannot deliver is not to wait in this machine's own spool."""
    monkeypatch.setenv("SP_PROXY_SPOOL__DIRECTORY", str(tmp_path / "spool"))


def fails(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Exit code and lines of a start that fails."""
    done = subprocess.run(
        [*RUN, *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, **(environ or {})},
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def quiet(*keys: str) -> list[str]:
    """Flags for a daemon that needs nothing from outside, and no port but one for admin."""
    (admin,) = free_ports(1)
    pairs = ["sp_backend_url=http://127.0.0.1:9", "listen.inbound=off", "listen.outbound=off"]
    pairs += [f"admin.listen=127.0.0.1:{admin}", "shutdown.grace_period=1s", *keys]
    return [word for pair in pairs for word in ("--set", pair)]


@contextmanager
def started(command: list[str], log: Path, **how: object) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that has said that it is ready."""
    process = subprocess.Popen(command, **how)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + TIMEOUT
        while '"event": "ready"' not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


def drains(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 0


def test_a_wrong_configuration_is_one_line_and_exit_code_2(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("sp_backend_url: http://127.0.0.1:9\nrelay:\n  wrokers: 2\n")
    code, lines = fails("--config", str(bad))
    assert code == 2
    (line,) = lines
    assert line.startswith(f"sp-proxy: {bad}:3: relay.wrokers")
    assert "relay.workers" in line


def test_a_file_that_is_not_there():
    code, lines = fails("--config", "/nonexistent/sp_proxy.yaml")
    assert (code, len(lines)) == (2, 1)
    assert "/nonexistent/sp_proxy.yaml" in lines[0]


def test_a_port_in_use_is_one_line_with_the_key_and_the_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = fails(*quiet(f"admin.listen=127.0.0.1:{port}"))
    assert (code, lines) == (
        1,
        [f"sp-proxy: admin.listen: cannot listen on 127.0.0.1:{port}: address already in use"],
    )


def test_an_address_of_another_machine():
    code, lines = fails(*quiet("listen.inbound=192.0.2.1:16006"))
    assert (code, lines) == (
        1,
        ["sp-proxy: listen.inbound: cannot listen on 192.0.2.1:16006: cannot assign requested address"],
    )


def test_without_a_file_from_the_environment(tmp_path):
    (admin,) = free_ports(1)
    log = tmp_path / "log"
    environ = {
        **os.environ,
        "SP_PROXY_SP_BACKEND_URL": "http://127.0.0.1:9",
        "SP_PROXY_LISTEN__INBOUND": "off",
        "SP_PROXY_LISTEN__OUTBOUND": "off",
        "SP_PROXY_ADMIN__LISTEN": f"127.0.0.1:{admin}",
    }
    with log.open("wb") as stderr, started(list(RUN), log, stderr=stderr, env=environ) as process:
        drains(process)
    assert "settings_warning" in log.read_text()  # nothing listens


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_with_standard_streams_closed(tmp_path, closed):
    """Otherwise descriptors 0 and 1 would become sockets that no worker inherits in one piece."""
    forward, upstream = free_ports(2)
    log = tmp_path / "log"
    arguments = quiet(f'listen.forward=[{{listen: "127.0.0.1:{forward}", upstream: "127.0.0.1:{upstream}"}}]')
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *RUN, *arguments]
    with (
        log.open("wb") as stderr,
        started(command, log, stderr=stderr) as process,
        socket.create_server(("127.0.0.1", upstream)) as application,
    ):
        with socket.create_connection(("127.0.0.1", forward), timeout=TIMEOUT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            application.settimeout(TIMEOUT)
            served, _ = application.accept()
            with served:
                assert served.recv(4) == b"GET "
        drains(process)


def test_with_every_standard_stream_closed_it_still_runs():
    (forward,) = free_ports(1)
    arguments = quiet(f'listen.forward=[{{listen: "127.0.0.1:{forward}", upstream: "127.0.0.1:9"}}]')
    process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *RUN, *arguments])
    try:
        deadline = time.monotonic() + TIMEOUT
        while not listens(forward):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        drains(process)
    finally:
        process.kill()
        process.wait()


def test_as_nobody_without_home_in_a_directory_that_may_not_be_read(tmp_path):
    if os.geteuid() != 0:
        unavailable("needs root, to become another user")
    nobody = pwd.getpwnam("nobody")
    if subprocess.run(["setpriv", "--reuid=nobody", sys.executable, "-c", ""], check=False).returncode:
        unavailable("the interpreter is in a place that only its owner may read")
    log = tmp_path / "log"
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with (
        log.open("wb") as stderr,
        started(
            [*RUN, *quiet()],
            log,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            cwd=closed,
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            env={"PATH": os.environ["PATH"]},
            start_new_session=True,
        ) as process,
    ):
        drains(process)


def test_a_start_that_fails_may_linger_so_that_others_begin_meanwhile(tmp_path):
    """For as long as said, counted from its beginning, or until it is asked to end."""
    began = time.monotonic()
    code, lines = fails("--set", "relay.wrokers=2", "--linger", "1.5s")
    assert (code, len(lines)) == (2, 1)
    assert time.monotonic() - began >= 1.5
    process = subprocess.Popen([*RUN, "--set", "relay.wrokers=2", "--linger", "1h"], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        assert "wrokers" in process.stderr.readline()
        deadline = time.monotonic() + TIMEOUT
        while process.poll() is None:  # the line is written a moment before it waits for signals
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGHUP)  # comes too early to mean anything
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.returncode in {2, -signal.SIGTERM}


def test_a_wrong_time_to_linger_is_one_line():
    code, lines = fails("--linger", "soon")
    assert (code, len(lines)) == (2, 1)
    assert "--linger" in lines[0]
