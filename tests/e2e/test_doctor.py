"""The doctor in a pod: a well daemon, and one thing wrong after another."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Pair
from tests.e2e.harness import DAEMON_UID, PROGRAM, SETTINGS, eventually, home, launch, netfilter, write_config
from tests.netns import Namespace

HEARTBEAT = {"netfilter": {"heartbeat": {"timeout": "2s"}}}


def doctor(pod: Namespace, config: Path, *words: str, user: int | None = None) -> dict[str, Any]:
    done = pod.run(PROGRAM, "doctor", "--json", "--config", str(config), *words, user=user, check=False)
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["verdict"] == "fail" else 0)
    return report


def verdicts(report: dict[str, Any], *wanted: str) -> list[tuple[str, str]]:
    """Areas and texts of these verdicts. Whatever is not well has advice."""
    assert all(each["advice"] for each in report["findings"] if each["verdict"] != "ok")
    return [(each["area"], each["text"]) for each in report["findings"] if each["verdict"] in wanted]


@contextmanager
def daemon(pod: Namespace, directory: Path, user: int = DAEMON_UID) -> Iterator[Path]:
    # A relative path: the daemon's directory is not the doctor's.
    settings = {**SETTINGS, **HEARTBEAT, "backend": {"enabled": True, "database": "spans.sqlite3"}}
    config = write_config(directory, settings)
    running = launch(pod, directory, config, user=user)
    try:
        running.wait_ready()
        yield config
    except BaseException:
        print(running.log)
        raise
    finally:
        running.process.terminate()
        running.process.wait(30)


@pytest.mark.parametrize("writer", ["nft", "iptables-nft"])
def test_a_well_daemon_and_what_may_be_seen_of_it(pair: Pair, writer: str):
    pod, _ = pair
    with home() as directory, daemon(pod, directory) as config:
        report = doctor(pod, config)
        assert verdicts(report, "fail") == [("rules", "none in the kernel: nothing is redirected")]
        netfilter(pod, config, "apply", "--writer", writer)
        try:
            report = eventually(
                lambda: doctor(pod, config), lambda seen: seen["verdict"] != "fail", "everything is well"
            )
            texts = [each["text"] for each in report["findings"] if each["verdict"] == "ok"]
            assert "the daemon runs with these settings" in texts
            assert f"the daemon runs as user {DAEMON_UID}" in texts
            assert any(text.startswith("arrives; 2 s after the last one") for text in texts)
            assert any(text.endswith(f"written by {writer}, as the settings say") for text in texts)
            assert any("accepts, in " in text for text in texts)
            store = f"store of the embedded backend, {directory}/spans.sqlite3"
            assert any(text.startswith(store) for text in texts)
            # As the daemon's own user it sees less, and says so.
            assert verdicts(doctor(pod, config, user=DAEMON_UID), "skip", "fail") == [("rules", "they cannot be read")]
            # With other settings than the daemon's.
            other = verdicts(doctor(pod, config, "--set", "netfilter.inbound_exclude_ports=[22]"), "fail", "warn")
            assert ("configuration", "the daemon runs with other settings: netfilter.inbound_exclude_ports") in other
            assert any(area == "rules" and text.startswith("not as the settings say") for area, text in other)
        finally:
            netfilter(pod, config, "remove")


def test_a_daemon_that_runs_as_somebody_else(pair: Pair):
    pod, _ = pair
    with home() as directory, daemon(pod, directory, user=1000) as config:
        netfilter(pod, config, "apply", "--no-verify")
        try:
            failed = dict(verdicts(doctor(pod, config), "fail"))
        finally:
            netfilter(pod, config, "remove")
    assert "the daemon runs as user 1000, and the rules know it as 1338" in failed["user"]
    assert failed["heartbeat"] == "does not arrive, so nothing is redirected"


def test_nothing_runs_and_nothing_can_be_read(pair: Pair):
    pod, _ = pair
    with home() as directory:
        config = write_config(directory, {"public_key": "k", "sp_backend_url": "http://127.0.0.1:9", **HEARTBEAT})
        config.chmod(0o600)
        failed = verdicts(doctor(pod, config), "fail")
        assert [area for area, _ in failed] == ["daemon", "rules", "configuration", "backend"]
        assert failed[2][1] == f"{config}: the daemon's user may not read it"
