"""The settings: their mistakes, and whether the daemon has the same."""

import json

import pytest

from sp_proxy.doctor.configuration import compare, load, readable
from sp_proxy.doctor.findings import Verdict
from sp_proxy.settings.masking import masked
from sp_proxy.settings.source import Source


def source(path, text: str = "public_key: k\n", **flags) -> Source:
    path.write_text(text)
    return Source(path, {}, flags)


def test_right_wrong_and_hardly_meant(tmp_path):
    path = tmp_path / "f.yaml"
    loaded, (found,) = load(source(path))
    assert loaded is not None
    assert (found.verdict, found.text) == (Verdict.OK, f"{path}: no mistakes")

    loaded, findings = load(source(path, "public_key: k\nstrcit: raw\nrelay: {workers: 0}\n"))
    assert loaded is None
    assert [each.verdict for each in findings] == [Verdict.FAIL] * len(findings)
    assert "strcit" in findings[0].text
    assert "sp-proxy config check FILE" in findings[0].advice

    _, (found,) = load(Source(None, {}, {}))
    assert found.verdict is Verdict.FAIL
    assert "--config FILE" in found.advice

    _, findings = load(source(path, "public_key: k\nbypass_cache: 1\n"))
    assert [each.verdict for each in findings] == [Verdict.OK, Verdict.WARN]
    _, findings = load(source(path, f"public_key: k\ntls: {{intercept: [x], ca_directory: {tmp_path}/none}}\n"))
    assert findings[-1].verdict is Verdict.FAIL
    assert "sp-proxy ca init" in findings[-1].advice


def test_a_file_that_the_daemon_cannot_read(tmp_path):
    made = source(tmp_path / "f.yaml")
    assert list(readable(made)) == []
    (tmp_path / "f.yaml").unlink()
    (found,) = readable(made)
    assert found.verdict is Verdict.FAIL
    assert list(readable(Source(None, {}, {}))) == []


@pytest.mark.parametrize(
    "other, verdict, keys",
    [
        ({}, Verdict.OK, ""),
        ({"strict": "reject"}, Verdict.WARN, "strict"),
        ({"tags": {"a.b": "c"}, "relay.workers": 2}, Verdict.WARN, "tags, relay.workers"),
        ({"public_key": "another"}, Verdict.OK, ""),  # secrets are masked on both sides
    ],
)
def test_what_the_daemon_runs_with(tmp_path, other, verdict, keys):
    loaded, _ = load(source(tmp_path / "f.yaml"))
    running, _ = load(source(tmp_path / "g.yaml", **other))
    assert loaded is not None
    assert running is not None
    (found,) = compare(loaded, json.loads(json.dumps({"settings": masked(running.settings)})))
    assert found.verdict is verdict
    assert keys in found.text


def test_many_differences_are_counted(tmp_path):
    loaded, _ = load(source(tmp_path / "f.yaml"))
    running, _ = load(
        source(tmp_path / "g.yaml", text="public_key: k\nbatch: {max_records: 7, max_size: 7, flush_timeout: 7}\n")
    )
    assert loaded is not None
    assert running is not None
    settings = masked(running.settings) | {"queue": {}, "strict": "reject"}
    (found,) = compare(loaded, {"settings": settings})
    assert "and 1 more" in found.text
    assert list(compare(loaded, {"error": "only for clients on this host"})) == []
