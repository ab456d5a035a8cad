"""Stored answers in the sidecar, as a tester uses them: what an application was told once it is told again, by the daemon alone."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from tests.replay.origins import Given, Got, origin
from tests.supervisor.daemon import free_ports

PROGRAM = str(Path(sys.executable).with_name("sp-proxy"))
pytestmark = pytest.mark.timeout(180)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=30).status_code == 200
    except httpx.HTTPError:
        return False


def test_an_answer_that_was_recorded_is_given_again(tmp_path):
    asked: list[str] = []

    def answer(got: Got) -> Given:
        asked.append(f"{got.method} {got.target} {got.body.decode()}")
        return 201, {"content-type": "application/json", "x-number": str(len(asked))}, b'{"charge":"ch_1"}'

    listen, admin, backend = free_ports(3)
    settings = {
        "service_name": "orders",
        "backend": {"enabled": True, "listen": f"127.0.0.1:{backend}", "database": str(tmp_path / "b.sqlite3")},
        "inject": {"enabled": True, "timeout": "30s"},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "batch": {"flush_timeout": "50ms"},
        "spool": {"mode": "off"},
        "log": {"format": "json"},
    }
    with origin(answer) as there:
        forward = {"listen": listen, "upstream": there.url.removeprefix("http://"), "direction": "outbound"}
        settings["listen"] = {"inbound": "off", "outbound": "off", "forward": [forward]}
        config = tmp_path / "sp.yaml"
        config.write_text(yaml.safe_dump(settings))
        with subprocess.Popen([PROGRAM, "run", "--config", str(config)], stderr=subprocess.PIPE, text=True) as daemon:
            try:
                eventually(lambda: answers(f"http://127.0.0.1:{admin}/healthz/ready"), "the daemon is ready")
                with httpx.Client(base_url=f"http://127.0.0.1:{listen}", timeout=60) as application:
                    real = application.post("/charge", json={"amount": 5})
                    stored = f"http://127.0.0.1:{backend}/api/v1/exchanges?path=/charge"
                    eventually(lambda: bool(httpx.get(stored, timeout=30).json()["exchanges"]), "it is recorded")
                    again = application.post("/charge", json={"amount": 5})
                    with httpx.Client(base_url=application.base_url, http1=False, http2=True, timeout=60) as another:
                        over_http2 = another.post("/charge", json={"amount": 5})
                    other = application.post("/charge", json={"amount": 6})
                    listed = httpx.get(stored, timeout=30).json()["exchanges"]
            finally:
                daemon.send_signal(signal.SIGTERM)
                _, log = daemon.communicate(timeout=90)
    assert [each.status_code for each in (real, again, other)] == [201] * 3
    assert again.json() == over_http2.json() == {"charge": "ch_1"}
    assert (over_http2.status_code, over_http2.http_version) == (201, "HTTP/2")
    assert [each.headers["x-number"] for each in (real, again, other)] == ["1", "1", "2"]
    assert asked == ['POST /charge {"amount":5}', 'POST /charge {"amount":6}']
    assert all(each["path"] == "/charge" for each in listed)
    assert daemon.returncode == 0
    assert "FOR TESTS ONLY" in log
    assert "inject_for_tests_only" in log
    assert "Traceback" not in log
