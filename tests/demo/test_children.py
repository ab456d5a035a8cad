import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sp_proxy.demo.children import Child, clean_environment, stop_all
from sp_proxy.demo.errors import DemoError
from sp_proxy.demo.places import Host

STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
GUARD = """
import subprocess, sys
from sp_proxy.demo.places import Host
child = subprocess.Popen(Host().command([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(99)"], None))
print(child.pid, flush=True)
child.wait()
"""


def child(tmp_path, code, name="it"):
    return Child(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")


def test_what_ended_is_told_with_its_last_words(tmp_path):
    one = child(tmp_path, "import sys; print('first', file=sys.stderr); sys.exit('the reason  ')")
    one.process.wait()
    with pytest.raises(DemoError, match=r"^it ended unexpectedly: the reason$"):
        one.check()
    stop_all([one])


def test_a_silent_end_is_told_by_its_exit_code(tmp_path):
    one = child(tmp_path, "raise SystemExit(3)")
    one.process.wait()
    assert one.last_words() == "exit code 3"
    stop_all([one])


@pytest.mark.parametrize(
    "line, words",
    [
        ('{"event": "failed", "exception": "Traceback\\n  x\\nOSError: why\\n"}', "failed: OSError: why"),
        ('{"event": "stopped", "exit_code": 1}', "stopped"),
        ("{}", "{}"),
        ("[1]", "[1]"),
        ("plain", "plain"),
    ],
)
def test_a_log_line_is_told_in_plain_words(line, words, tmp_path):
    one = child(tmp_path, f"import sys; sys.exit({line!r})")
    one.process.wait()
    assert one.last_words() == words
    stop_all([one])


def test_every_line_is_read_before_it_counts_as_stopped(tmp_path):
    lines: list[str] = []
    code = "print('\\n'.join(map(str, range(5000))))"
    one = Child("it", [sys.executable, "-c", code], tmp_path / "log", on_line=lines.append)
    one.process.wait()
    stop_all([one])
    assert len(lines) == 5000


def test_without_a_reader_output_is_in_the_log(tmp_path):
    one = child(tmp_path, "print('said')")
    one.process.wait()
    assert one.last_words() == "said"


def test_what_is_not_there_cannot_be_started(tmp_path):
    with pytest.raises(DemoError, match="it cannot be started: no-such-tool: No such file"):
        Child("it", ["no-such-tool"], tmp_path / "log")


def test_all_are_stopped_and_twice_is_fine(tmp_path):
    several = [child(tmp_path, "import time; time.sleep(99)", f"c{number}") for number in range(2)]
    for each in several:
        each.check()
    stop_all(several)
    stop_all(several)
    assert [each.process.returncode for each in several] == [-signal.SIGTERM] * 2


def test_what_does_not_want_to_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("sp_proxy.demo.children._STOP_SECONDS", 0.1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    one = Child("it", [sys.executable, "-c", STUBBORN], tmp_path / "log", on_line=lines.put)
    assert lines.get(timeout=30) == "up\n"
    stop_all([one])
    assert one.process.returncode == -signal.SIGKILL


def test_a_killed_demo_takes_its_processes_along():
    demo = subprocess.Popen([sys.executable, "-c", GUARD], stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    with demo, demo.stdout:
        lines = {demo.stdout.readline().strip() for _ in range(2)}
        (pid,) = lines - {"up"}
        demo.kill()
    for _ in range(500):
        if not _runs(int(pid)):
            return
        time.sleep(0.01)
    raise AssertionError("it lived on")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_environment_configures_nothing():
    environ = {
        "PATH": "/bin",
        "SP_PROXY_PUBLIC_KEY": "x",
        "OTEL_SERVICE_NAME": "y",
        "http_proxy": "z",
        "HTTPS_PROXY": "z",
        "LANG": "C",
    }
    assert clean_environment(environ) == {"PATH": "/bin", "LANG": "C"}


def test_the_host_is_a_place():
    assert Host().call(lambda: 5) == 5
