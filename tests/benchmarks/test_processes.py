"""CPU time, memory and the ends of processes, asked of real ones."""

import subprocess
import sys
import time

import pytest

from benchmarks.processes import BenchmarkError, Running, cpu_seconds, free_port, memory, system_part, tree
from tests.requirements import require_root_tools


@pytest.fixture(autouse=True)
def _setpriv():
    require_root_tools("setpriv")


def test_the_cpu_time_of_another_process_and_of_its_ended_threads(tmp_path):
    code = (
        "import threading, time\n"
        "def burn():\n"
        "    while time.thread_time() < 0.2: pass\n"
        "thread = threading.Thread(target=burn); thread.start(); thread.join()\n"
        "print('done', flush=True); time.sleep(60)\n"
    )
    with Running("burner", [sys.executable, "-c", code], tmp_path) as burner:
        burner.wait_for(lambda: burner.last_words() == "done")
        assert cpu_seconds(burner.pid) >= 0.2
        assert cpu_seconds(burner.pid) < 5


@pytest.mark.parametrize(
    "code,low,high", [("while True: pass", 0.0, 0.2), ("while True: open('/dev/zero', 'rb').read(1 << 24)", 0.3, 1.0)]
)
def test_the_part_of_the_kernel(tmp_path, code, low, high):
    with Running("burner", [sys.executable, "-c", code], tmp_path) as burner:
        read, start = system_part(burner.pid), cpu_seconds(burner.pid)
        burner.wait_for(lambda: cpu_seconds(burner.pid) > start + 0.5)
        assert low <= read() <= high


def test_the_tree_has_descendants_and_their_memory(tmp_path):
    with Running("parent", ["sh", "-c", "sh -c 'sleep 60; true'; true"], tmp_path) as parent:
        parent.wait_for(lambda: len(parent.pids()) == 3)
        whole, own = memory(parent.pids()), memory([parent.pid])
        assert 0 < own.pss < whole.pss
        assert whole.pss <= whole.rss
        pids = parent.pids()
    assert tree(pids[0]) == []
    for pid in pids[1:]:
        # Left by their parent's end; they are ours to end too.
        subprocess.run(["kill", str(pid)], check=False, stderr=subprocess.DEVNULL)


def test_a_process_that_is_gone():
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(BenchmarkError, match="is gone"):
        cpu_seconds(process.pid)


def test_one_that_ends_instead_of_getting_ready_is_quoted(tmp_path):
    with (
        Running("broken", ["sh", "-c", "echo first; echo the reason; exit 3"], tmp_path) as broken,
        pytest.raises(BenchmarkError, match="broken ended with 3: the reason"),
    ):
        broken.wait_for(lambda: False)


def test_one_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.processes.STOP_SECONDS", 0.2)
    with Running("stubborn", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], tmp_path) as stubborn:
        stubborn.wait_for(lambda: stubborn.last_words() == "up")
        start = time.monotonic()
    assert not stubborn.alive
    assert time.monotonic() - start < 5


def test_a_free_port_is_below_the_range_of_outgoing_connections():
    assert all(1024 < free_port() < 32768 for _ in range(20))
