"""The report on the command line: text, JSON, exit code."""

import json

import pytest

from sp_proxy.cli.main import main
from tests.supervisor.daemon import free_ports


@pytest.fixture
def words(tmp_path) -> list[str]:
    """Settings with which no daemon runs."""
    (admin,) = free_ports(1)
    pairs = ["sp_backend_url=http://127.0.0.1:9", "listen.inbound=off", "listen.outbound=off"]
    pairs += [f"admin.listen=127.0.0.1:{admin}", f"spool.directory={tmp_path}"]
    return [word for pair in pairs for word in ("--set", pair)]


def test_each_finding_is_a_line_with_its_advice(words, capsys):
    assert main(["doctor", *words]) == 1
    out = capsys.readouterr().out.splitlines()
    failed = [number for number, line in enumerate(out) if line.startswith("FAIL")]
    assert any("daemon" in out[number] for number in failed)
    assert all(out[number + 1].lstrip().startswith("→ ") for number in failed)


def test_json(words, capsys):
    assert main(["doctor", "--json", *words]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "fail"
    assert {"configuration", "daemon", "backend"} <= {finding["area"] for finding in report["findings"]}


def test_wrong_settings_are_findings_too(tmp_path, capsys):
    path = tmp_path / "f.yaml"
    path.write_text("strcit: raw\n")
    assert main(["doctor", "--config", str(path)]) == 1
    assert f"FAIL  configuration  {path}:1: strcit" in capsys.readouterr().out
    assert main(["doctor", "--set", "nonsense"]) == 2
