"""Folded stacks as py-spy writes them, and a short run of it on a real worker."""

import os
import subprocess
import sys

import pytest

from benchmarks.profile import Share, shares
from tests.requirements import require_root_tools, unavailable
from tests.test_project import ROOT


def test_shares():
    folded = [
        "main (worker.py:170);data_received (sp_proxy/relay/connection.py:150) 6",
        "main (worker.py:170);data_received (sp_proxy/relay/connection.py:155);client (taps/http1.py:3) 3",
        "main (worker.py:170);walk (a/b/tree.py:1);walk (a/b/tree.py:2) 1",
    ]
    assert shares(folded) == [
        Share("data_received (relay/connection.py)", 6, 9),
        Share("client (taps/http1.py)", 3, 3),
        Share("walk (b/tree.py)", 1, 1),
        Share("main (worker.py)", 0, 10),
    ]


@pytest.mark.parametrize("line", ["", "no count", "half 1x", " 3"])
def test_what_is_no_stack_is_skipped(line):
    assert shares([line]) == []


def test_a_worker_is_profiled():
    require_root_tools("setpriv", "nginx", "wrk")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.profile", "--seconds", "1", "--top", "50"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ermission denied" in done.stderr:
        unavailable("py-spy may not look into other processes here (ptrace)")
    assert done.returncode == 0, done.stderr
    assert "CPU µs a request" in done.stdout
    assert "relay/stream.py" in done.stdout
