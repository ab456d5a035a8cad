import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.backend.serving import listener


def command(*arguments, cwd, **environ):
    return subprocess.Popen(
        [sys.executable, "-m", "sp_proxy.cli.main", "backend", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **environ},
    )


def free_port():
    sock = listener()
    port = sock.getsockname()[1]
    sock.close()
    return port


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_address_and_ends_cleanly(tmp_path, number):
    port = free_port()
    process = command("--listen", f"127.0.0.1:{port}", "--database", "here.sqlite3", cwd=tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == f"sp-proxy backend: http://127.0.0.1:{port} (database here.sqlite3; Ctrl-C ends it)\n"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/stats", timeout=20) as answer:
        assert json.load(answer)["spans"] == 0
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")
    assert (tmp_path / "here.sqlite3").exists()


def test_a_config_file_with_flags_on_top(tmp_path):
    port = free_port()
    (tmp_path / "config.yaml").write_text("backend:\n  database: ':memory:'\n  listen: 127.0.0.1:1\n")
    process = command("--config", "config.yaml", "--listen", f"127.0.0.1:{port}", cwd=tmp_path)
    assert process.stdout is not None
    assert f"http://127.0.0.1:{port} (database :memory:;" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    "arguments, environ, code, message",
    [
        (["--listen", "TAKEN"], {}, 1, "backend.listen: cannot listen on TAKEN: address already in use"),
        (["--listen", "127.0.0.1:FREE", "--database", "no/such/db"], {}, 1, "there is no directory no/such"),
        (["--listen", "0.0.0.0:FREE", "--database", ":memory:"], {}, 1, "backend.token: required"),
        (["--listen", "nonsense:x"], {}, 2, "--listen"),
        (["--config", "missing.yaml"], {}, 2, "missing.yaml"),
        ([], {"SP_PROXY_BACKEND__RETENTION": "soon"}, 2, "SP_PROXY_BACKEND__RETENTION"),
    ],
)
def test_what_prevents_the_start_is_one_line(tmp_path, arguments, environ, code, message):
    taken = listener()
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    arguments = [one.replace("TAKEN", address).replace("FREE", str(free_port())) for one in arguments]
    process = command(*arguments, cwd=tmp_path, **environ)
    out, err = process.communicate(timeout=20)
    taken.close()
    assert (process.returncode, out) == (code, "")
    assert message.replace("TAKEN", address) in err
    assert err.startswith("sp-proxy: ")
    assert err.count("\n") == 1
