import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from pyarrow import parquet

from sp_proxy.cli.main import main
from tests.backend.requests import exchange_span
from tests.backend.serving import listener
from tests.cli.backends import holding


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


def test_daemons_whose_health_it_shows(tmp_path):
    port, nobody = free_port(), free_port()
    daemons = ["--daemon", f"orders=127.0.0.1:{nobody}", "--daemon", f"localhost:{nobody}"]
    process = command("--listen", f"127.0.0.1:{port}", *daemons, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/daemons", timeout=60) as answer:
        told = json.load(answer)["daemons"]
    process.terminate()
    process.communicate(timeout=20)
    assert [(each["name"], each["address"]) for each in told] == [
        ("orders", f"127.0.0.1:{nobody}"),
        (f"localhost:{nobody}", f"localhost:{nobody}"),
    ]
    assert all(each["problem"] for each in told)


def test_a_daemon_without_a_host_is_a_mistake(tmp_path):
    process = command("--daemon", "orders=16021", cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("sp-proxy: --daemon: backend.daemons[0].address: found")
    assert err.count("\n") == 1


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


@pytest.fixture(scope="module")
def url():
    spans = [exchange_span(at=at, path=f"/{at}", status=200 + 303 * (at % 2)) for at in range(4)]
    with holding(*spans) as address:
        yield address


def test_an_export_to_a_parquet_file(url, tmp_path, capsys):
    path = tmp_path / "out.parquet"
    assert main(["backend", "export", "status>=500", "--parquet", str(path), "--url", url]) == 0
    assert capsys.readouterr().err == f"sp-proxy: {path}: 2 exchanges\n"
    assert parquet.read_table(path).column("path").to_pylist() == ["/3", "/1"]


@pytest.mark.parametrize("form", ["jsonl", "har", "otlp", "curl", "httpie"])
def test_an_export_to_a_file_and_to_standard_output(url, tmp_path, capfdbinary, form):
    path = tmp_path / "out"
    assert main(["backend", "export", "--format", form, "-o", str(path), "-n", "3", "--url", url]) == 0
    assert main(["backend", "export", "--format", form, "-n", "3", "--url", url]) == 0
    assert capfdbinary.readouterr().out == path.read_bytes()
    assert path.read_bytes().count(b"shop.local:8080") >= 3


@pytest.mark.parametrize("option", ["--output", "--parquet"])
def test_a_file_that_cannot_be_written(url, tmp_path, capsys, option):
    path = tmp_path / "none" / "out"
    assert main(["backend", "export", option, str(path), "--url", url]) == 1
    err = capsys.readouterr().err
    assert str(path) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("-o", "/dev/full")])
def test_where_there_is_no_room(url, options):
    words = [sys.executable, "-m", "sp_proxy.cli.main", "backend", "export", "--url", url, *options]
    with Path("/dev/full").open("wb") as full:
        said = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    place = options[-1] if options else "standard output"
    assert (said.returncode, said.stderr.lower()) == (1, f"sp-proxy: {place}: no space left on device\n")


def test_a_wrong_query_leaves_no_file(url, tmp_path, capsys):
    path = tmp_path / "out.parquet"
    assert main(["backend", "export", "x:y", "--parquet", str(path), "--url", url]) == 2
    assert "column 1: 'x' is not a field" in capsys.readouterr().err
    assert not path.exists()
