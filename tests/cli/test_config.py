"""``sp-proxy config``, from its command line."""

import json

import pytest
import yaml

from sp_proxy.cli.main import main


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> str:
        (tmp_path / "f.yaml").write_text(text)
        return "f.yaml"

    return write


def test_a_good_file(file, capsys):
    assert main(["config", "check", file("public_key: k\nenable_inject: false\n")]) == 0
    captured = capsys.readouterr()
    assert captured.out == "f.yaml: ok\n"
    assert captured.err == "sp-proxy: warning: f.yaml:2: enable_inject: has no effect, as in the filter\n"


def test_a_bad_file(file, capsys):
    assert main(["config", "check", file("public_key: k\nstrict: x\nlisten:\n  inbund: 5\n")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        'sp-proxy: f.yaml:2: strict: found "x"; allowed: raw or reject',
        "sp-proxy: f.yaml:4: listen.inbund: unknown key; nearest known key: listen.inbound (allowed here: inbound, outbound, forward, proxy)",
    ]


def test_a_file_that_is_not_there(capsys):
    assert main(["config", "check", "nope"]) == 2
    assert capsys.readouterr().err == "sp-proxy: nope: no such file\n"


@pytest.mark.parametrize(
    "text, said",
    [
        ("tls: {intercept: [x], ca_directory: /no/such}", "tls.ca_directory: /no/such/sp-proxy-ca.pem does not exist; needed"),
        ("upload: {ca_file: /no/such}", "upload.ca_file: /no/such: No such file or directory"),
        ("upload: {client_cert_file: /no/such}", "upload.client_cert_file: /no/such: No such file or directory"),
    ],
)  # fmt: skip
def test_what_a_start_would_not_find_is_a_warning(file, capsys, text, said):
    assert main(["config", "check", file(f"public_key: k\n{text}\n")]) == 0
    captured = capsys.readouterr()
    assert captured.out == "f.yaml: ok\n"
    assert captured.err.startswith(f"sp-proxy: warning: {said}")
    assert captured.err.endswith("; the daemon does not start without it\n")
    assert captured.err.count("\n") == 1


def test_the_environment_counts(file, monkeypatch, capsys):
    assert main(["config", "check", file("strict: raw")]) == 2
    monkeypatch.setenv("SP_PROXY_PUBLIC_KEY", "k")
    assert main(["config", "check", "f.yaml"]) == 0
    capsys.readouterr()


def test_show_as_text(file, capsys):
    path = file("public_key: hunter2\nsp_backend_url: https://u:hunter2@h\nlisten: {outbound: off}\n")
    assert main(["config", "show", "--config", path, "--set", "log.level=debug", "--set", "tags.a.b=c"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["public_key", '"**********"', "f.yaml:1"] in lines
    assert ["sp_backend_url", '"https://***@h"', "f.yaml:2"] in lines
    assert ["listen.outbound", '"off"', "f.yaml:3"] in lines
    assert ["listen.inbound", '"16006"', "default"] in lines
    assert ["log.level", '"debug"', "--set"] in lines
    assert ['tags."a.b"', '"c"', "--set"] in lines


@pytest.mark.parametrize("style,parse", [("json", json.loads), ("yaml", yaml.safe_load)])
def test_show_for_programs(file, capsys, style, parse):
    assert main(["config", "show", "-c", file("public_key: hunter2\n"), "--format", style]) == 0
    out = capsys.readouterr().out
    data = parse(out)
    assert data["settings"]["public_key"] == "**********"
    assert data["settings"]["listen"]["inbound"] == "16006"
    assert data["origins"]["public_key"] == "f.yaml:1"
    assert data["origins"]["listen.inbound"] == "default"
    assert "hunter2" not in out


def test_show_needs_no_public_key(capsys):
    assert main(["config", "show"]) == 0
    assert "public_key" in capsys.readouterr().out


def test_show_tells_problems_instead(capsys):
    assert main(["config", "show", "--set", "strict=x"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == 'sp-proxy: --set: strict: found "x"; allowed: raw or reject\n'


def test_a_format_that_does_not_exist(capsys):
    assert main(["config", "show", "--format", "xml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'xml' is not one of" in line
