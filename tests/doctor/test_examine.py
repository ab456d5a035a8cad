"""All of it at once, on this machine; the e2e tests have a daemon and rules."""

import trio

from sp_proxy.doctor.examine import examine
from sp_proxy.settings.source import Source
from tests.supervisor.daemon import free_ports, running_daemon


def areas(source: Source) -> list[str]:
    return list(dict.fromkeys(finding.area for finding in examine(source, {})))


def test_with_wrong_settings_nothing_else_is_looked_at(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("strcit: raw\n")
    assert areas(Source(path, {}, {})) == ["configuration"]


def test_without_a_daemon(tmp_path):
    ports = free_ports(1)
    flags = {"sp_backend_url": "http://127.0.0.1:9", "listen.inbound": "off", "listen.outbound": "off"}
    flags |= {"admin.listen": f"127.0.0.1:{ports[0]}", "spool.directory": str(tmp_path)}
    found = list(examine(Source(None, {}, flags), {}))
    assert [each.area for each in found if each.verdict == "FAIL"] == ["daemon", "backend"]
    assert list(dict.fromkeys(each.area for each in found)) == [
        "configuration",
        "daemon",
        "ports",
        "kernel",
        "rules",
        "disk",
        "backend",
    ]


async def test_with_a_daemon(tmp_path):
    settings = {"spool": {"directory": str(tmp_path)}, "exporters": [{"type": "file", "path": str(tmp_path / "x")}]}
    async with running_daemon("127.0.0.1:9", settings, directory=tmp_path):
        source = Source(tmp_path / "config.json", {}, {})
        found = await trio.to_thread.run_sync(lambda: list(examine(source, {})))
    assert [each for each in found if each.verdict == "FAIL"] == []
    texts = [each.text for each in found]
    assert "the daemon runs with these settings" in texts
    assert any(text.endswith(": its own") for text in texts)
