import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from sp_proxy.cli.main import main
from tests.backend.requests import exchange_span
from tests.cli.backends import holding

PROGRAM = str(Path(sys.executable).with_name("sp-proxy"))
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def backend():
    with holding(
        exchange_span(at=1, path="/a", response_body='{"n":1}', direction="outbound"),
        exchange_span(at=2, path="/a", response_body='{"n":2}', direction="outbound"),
        exchange_span(
            at=3, path="/cut", service="cut", more={"http.response.body.size": 99, "sp.body.truncated": True}
        ),
        exchange_span(at=4, path="/cut", service="cut", direction="outbound", status=0),
    ) as url:
        yield url


def test_answers_misses_and_the_report(backend):
    command = [PROGRAM, "mock", "direction:outbound", "--strict", "--latency", "recorded", "--url", backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url, count = re.findall(r"^sp-proxy mock: (http://\S+) \((\d+) answers?; Ctrl-C ends it\)$", line)[0]
        assert count == "2"
        said = [httpx.get(f"{url}/a", timeout=60).json()["n"] for _ in range(3)]
        missed = httpx.get(f"{url}/b", timeout=60)
        httpx.get(f"{url}/c/%1B%5B31m", timeout=60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert said == [1, 2, 2]
    assert (missed.status_code, missed.headers["x-sp-mock"]) == (501, "miss")
    assert "1 x GET /b: no GET of this path was recorded" in out
    assert out.endswith("3 answered, 0 by likeness, 2 not known, 0 of 2 answers not used\n")
    assert process.returncode == 1
    assert err == "sp-proxy: warning: not used: 1 x no answer was recorded\n"


@pytest.mark.parametrize(
    "words, problem",
    [
        (["service:nobody"], "nothing was captured that fits and can be given again"),
        (["--fallthrough", "x"], "--fallthrough: found 'x'"),
        (["--rules", "/nowhere"], "/nowhere: cannot be read"),
        (["--latency", "slow"], "--latency"),
    ],
)
def test_what_cannot_be_done(backend, capsys, words, problem):
    assert main(["mock", *words, "--url", backend]) == 2
    err = capsys.readouterr().err
    assert problem in err
    assert err.count("\n") == 1


def test_a_port_that_is_taken(backend, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["mock", "service:orders", "-p", port, "--url", backend]) == 2
    assert capsys.readouterr().err.endswith(f"--port {port}: {os.strerror(98).lower()}\n")
