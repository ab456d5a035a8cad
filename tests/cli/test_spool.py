"""``sp-proxy spool``, from its command line, with real files and a real backend."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sp_proxy.cli.main import main
from sp_proxy.exporter.spool_files import SpoolFiles
from sp_proxy.settings.model import SettingsModel
from tests.exporter.filled_spool import fill


class Backend(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
        pass


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SP_PROXY_SPOOL__DIRECTORY", str(tmp_path))
    monkeypatch.setenv("SP_PROXY_RETRY__INITIAL_INTERVAL", "10ms")
    monkeypatch.setenv("SP_PROXY_LOG__LEVEL", "error")


@pytest.fixture
def url(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Backend) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("SP_PROXY_SP_BACKEND_URL", url)
        yield url
        server.shutdown()
        thread.join()


@pytest.fixture
def spool(url, tmp_path):
    return fill(SettingsModel.model_validate({"sp_backend_url": url, "spool": {"directory": str(tmp_path)}}), 1, 20, 3)


def test_nothing_on_disk(capfd, tmp_path):
    for command in ("ls", "export"):
        assert main(["spool", command]) == 0
        assert capfd.readouterr() == ("", "sp-proxy: nothing is on disk\n")
    assert not list(tmp_path.iterdir())


def test_ls(spool, capsys):
    assert main(["spool", "ls"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    size = sum(path.stat().st_size for path in spool.glob("*.entry"))
    assert title == f"{spool} (softprobe): 3 entries, 24 records, {size} bytes"
    assert [line.split()[:4] for line in lines] == [
        ["1", "2096-10-02T07:06:40Z", "1", "records"],
        ["2", "2096-10-02T07:06:40Z", "20", "records"],
        ["3", "2096-10-02T07:06:40Z", "3", "records"],
    ]


def test_ls_of_a_backend_that_is_not_configured_any_more(spool, capsys, monkeypatch):
    monkeypatch.setenv("SP_PROXY_SP_BACKEND_URL", "http://127.0.0.1:1")
    assert main(["spool", "ls"]) == 0
    assert "(of no exporter in these settings)" in capsys.readouterr().out


def test_check(spool, capsys):
    assert main(["spool", "check"]) == 0
    assert capsys.readouterr().out.endswith("\n0 damaged\n")
    second = sorted(spool.glob("*.entry"))[1]
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    before = sorted(spool.iterdir())
    assert main(["spool", "check"]) == 1
    _title, line, result = capsys.readouterr().out.splitlines()
    assert line.endswith("the body is not what was stored")
    assert line.split()[0] == "2"
    assert result == "1 damaged"
    assert sorted(spool.iterdir()) == before


def test_export(spool, capfd, tmp_path):
    assert main(["spool", "export"]) == 0
    documents = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [len(each["resourceSpans"][0]["scopeSpans"][0]["spans"]) for each in documents] == [1, 20, 3]
    assert main(["spool", "export", "-o", str(tmp_path / "out.jsonl")]) == 0
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 3
    assert len(list(spool.glob("*.entry"))) == 3


def test_export_leaves_out_what_is_damaged(spool, capfd):
    min(spool.glob("*.entry")).write_bytes(b"")
    assert main(["spool", "export"]) == 1
    captured = capfd.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert captured.err == f"sp-proxy: {spool.name}: entry 1: ends after 0 bytes\n"


def test_export_to_a_place_that_cannot_be_written(spool, capsys, tmp_path):
    assert main(["spool", "export", "-o", str(tmp_path / "missing" / "x")]) == 1
    assert capsys.readouterr().err == f"sp-proxy: {tmp_path}/missing/x: No such file or directory\n"


def test_drain(spool, capsys):
    assert main(["spool", "drain"]) == 0
    assert capsys.readouterr().out == "softprobe: 24 accepted, 0 rejected, 0 left\n"
    assert [path.name for path in spool.iterdir()] == ["lock"]


def test_drain_says_what_it_leaves(spool, capsys, monkeypatch):
    monkeypatch.setenv("SP_PROXY_SP_BACKEND_URL", "http://127.0.0.1:1")
    assert main(["spool", "drain"]) == 0
    assert capsys.readouterr() == ("", f"sp-proxy: {spool}: of no exporter in these settings; left as it is\n")


def test_nothing_to_drain(capsys, tmp_path):
    assert main(["spool", "drain", "--set", "public_key=k", "--set", f"spool.directory={tmp_path}/none"]) == 0
    assert capsys.readouterr() == ("", "sp-proxy: nothing is on disk\n")


def test_drain_to_a_backend_that_is_down(spool, url, capsys, monkeypatch, tmp_path):
    down = {"sp_backend_url": "http://127.0.0.1:1", "spool": {"directory": str(tmp_path)}}
    monkeypatch.setenv("SP_PROXY_SP_BACKEND_URL", "http://127.0.0.1:1")
    fill(SettingsModel.model_validate(down), 4)
    assert main(["spool", "drain", "--timeout", "0.2"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "softprobe: 0 accepted, 0 rejected, 4 left\n"
    assert captured.err.startswith("sp-proxy: softprobe: ConnectError")


@pytest.mark.parametrize("command", ["ls", "check", "drain"])
def test_a_place_that_nobody_can_look_into(command, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SP_PROXY_SPOOL__DIRECTORY", str(tmp_path / ("n" * 300)))
    assert main(["spool", command, "--set", "sp_backend_url=http://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err.endswith(": File name too long\n")


def test_drain_beside_a_daemon(spool, capsys):
    owner = SpoolFiles(spool)
    owner.open()
    assert main(["spool", "drain"]) == 1
    assert "in use by process" in capsys.readouterr().err
    owner.close()
