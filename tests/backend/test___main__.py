import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sp_proxy.backend.__main__ import main
from sp_proxy.backend.process import Start, Started, plain_settings
from sp_proxy.settings.backend import Backend
from tests.backend.serving import listener


def start(first_line: bytes, pass_fds=()):
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [sys.executable, "-m", "sp_proxy.backend", "--control-fd", str(theirs.fileno())],
        pass_fds=(theirs.fileno(), *pass_fds),
        stderr=subprocess.PIPE,
    )
    theirs.close()
    ours.settimeout(20)
    ours.sendall(first_line)
    return ours, child


def started_child():
    sock = listener()
    message = Start(plain_settings(Backend(database=":memory:")), [sock.fileno()], log_format="json")
    control, child = start(msgspec.json.encode(message) + b"\n", [sock.fileno()])
    answer = msgspec.json.decode(control.makefile("rb").readline(), type=Started)
    assert answer.url == f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    return control, child


def test_it_ends_when_its_parent_is_gone():
    control, child = started_child()
    control.close()
    _, stderr = child.communicate(timeout=20)
    assert child.returncode == 0
    assert b'"event": "backend_stopped"' in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal(number):
    control, child = started_child()
    os.kill(child.pid, number)
    child.communicate(timeout=20)
    assert child.returncode == 0
    control.close()


@pytest.mark.parametrize(
    "line", [b"", b"{}\n", b"garbage\n", b'{"settings": {"token": ["s3cret"]}}\n', b"x" * 100 + b"\n"]
)
def test_a_wrong_start_is_one_line_without_secrets(line):
    control, child = start(line)
    control.shutdown(socket.SHUT_WR)
    _, stderr = child.communicate(timeout=20)
    control.close()
    assert child.returncode == 2
    assert stderr == b"sp_proxy.backend: what came over the control socket is not a start message\n"


def test_a_wrong_descriptor(capsys):
    with Path(os.devnull).open() as file:
        assert main(["--control-fd", str(file.fileno())]) == 2
    assert capsys.readouterr().err == "sp_proxy.backend: --control-fd is not an open socket\n"
