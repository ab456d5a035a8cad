import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from sp_proxy.dev.errors import DevError
from sp_proxy.dev.processes import Running, require_program, stop_all


class Lines:
    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        self._came = threading.Condition()

    def __call__(self, name: str, line: str) -> None:
        with self._came:
            self.got.append((name, line))
            self._came.notify_all()

    def wait_for(self, text: str) -> None:
        with self._came:
            assert self._came.wait_for(lambda: any(text in line for _, line in self.got), 30), self.got


def start(lines: Lines, *command: str) -> Running:
    return Running("shop", command, os.environ, Path.cwd(), lines)


def test_output_line_by_line_and_the_exit_code():
    lines = Lines()
    running = start(lines, "sh", "-c", "echo one; echo two >&2; printf three; exit 7")
    running.process.wait(30)
    running.finish()
    assert lines.got == [("shop", "one"), ("shop", "two"), ("shop", "three")]
    assert running.exit_code == 7
    assert not running.on_our_terminal


def test_a_signal_is_an_exit_code_as_in_a_shell():
    running = start(Lines(), "sh", "-c", "kill -9 $$")
    running.process.wait(30)
    assert running.exit_code == 128 + signal.SIGKILL


def test_all_of_its_group_ends_with_it():
    lines = Lines()
    running = start(lines, "sh", "-c", "sleep 300 & echo child $!; wait")
    lines.wait_for("child")
    child = int(lines.got[0][1].split()[1])
    stop_all([running])
    assert running.exit_code == 128 + signal.SIGTERM
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_what_does_not_follow_is_killed(monkeypatch):
    monkeypatch.setattr("sp_proxy.dev.processes.STOP_SECONDS", 0.2)
    lines = Lines()
    running = start(
        lines,
        sys.executable,
        "-c",
        "import signal; signal.signal(15, signal.SIG_IGN); print('on', flush=True); signal.pause()",
    )
    lines.wait_for("on")
    stop_all([running, running])
    assert running.exit_code == 128 + signal.SIGKILL


def test_a_line_without_end_is_broken(monkeypatch):
    monkeypatch.setattr("sp_proxy.dev.processes.MAX_LINE", 10)
    lines = Lines()
    running = start(lines, "printf", "%s", "x" * 25)
    running.process.wait(30)
    running.finish()
    assert [line for _, line in lines.got] == ["x" * 10, "x" * 10, "x" * 5]


@pytest.mark.parametrize(
    "command, directory, said", [("no-such-program", ".", "no-such-program"), ("true", "missing", "missing")]
)
def test_what_cannot_be_started_is_one_line(tmp_path, command, directory, said):
    with pytest.raises(DevError, match=f"shop: .*{said}: no such file or directory"):
        Running("shop", [command], os.environ, tmp_path / directory, Lines())


def test_a_program_that_is_not_there(tmp_path):
    (tmp_path / "there").write_text("")
    require_program("./there", tmp_path)
    require_program("sh", tmp_path)
    for name in ("./missing", "no-such-program-anywhere"):
        with pytest.raises(DevError, match="no such program"):
            require_program(name, tmp_path)
    with pytest.raises(DevError, match=r"x: (file name too long|no such program)$"):
        require_program(f"./{'x' * 300}", tmp_path)
