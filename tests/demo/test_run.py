import io
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sp_proxy.demo import places, run, runs
from sp_proxy.demo.errors import DemoError, NotPermittedError, StoppedError
from sp_proxy.demo.run import Demo, Interrupts, Options
from sp_proxy.demo.stage import Stage


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def demo(output):
    def make(**options) -> Demo:
        return Demo(Options(**options), Console(file=output, width=100), Interrupts())

    return make


def test_a_signal_ends_waiting():
    interrupts = Interrupts()
    assert not interrupts.wait(0)
    interrupts.wait_or_stop(0)
    interrupts.note(signal.SIGINT, None)
    assert interrupts.wait(99)
    with pytest.raises(StoppedError):
        interrupts.wait_or_stop(99)
    interrupts.note(signal.SIGINT, None)
    assert interrupts.count == 2


def test_signals_are_watched(monkeypatch):
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_IGN)  # as under nohup
    interrupts = run.watch_signals()
    assert set(handlers) == {signal.SIGINT, signal.SIGTERM}
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert interrupts.count == 1


def test_forwarding_when_asked_for(demo, output, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not demo(forward=True)._may_be_transparent()
    assert output.getvalue() == ""


def test_forwarding_for_everyone_but_root(demo, output, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not demo()._may_be_transparent()
    assert output.getvalue().startswith("not root: forwarding mode")


def test_root_needs_tools(demo, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(places, "missing_tools", lambda: {"ip": "iproute2", "setpriv": "util-linux"})
    with pytest.raises(
        DemoError, match=r"^ip, setpriv not found: apt-get install iproute2 util-linux, or use --forward"
    ):
        demo()._may_be_transparent()
    monkeypatch.setattr(places, "missing_tools", dict)
    assert demo()._may_be_transparent()


def test_no_right_to_have_namespaces_means_forwarding(demo, output, tmp_path, monkeypatch):
    def refuse() -> list[str]:
        raise NotPermittedError("ip netns delete: Operation not permitted")

    monkeypatch.setattr(places, "remove_left_over_namespaces", refuse)
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack, lambda _seconds: None)
        demo()._settle(stage, transparent=True)
        assert not stage.in_pods
        assert stage.places
    assert output.getvalue().startswith("no network namespaces here (ip netns delete: Operation not permitted)")


def test_the_directory_of_a_run(tmp_path):
    with ExitStack() as stack:
        directory = run._run_directory(tmp_path, stack)
        assert directory.name.startswith(runs.this_run())
        assert directory.stat().st_mode & 0o777 == 0o711
    assert not directory.exists()
    with (
        pytest.raises(DemoError, match=r"no directory can be made in .*: no such file or directory"),
        ExitStack() as stack,
    ):
        run._run_directory(Path(tmp_path / "none"), stack)


def test_an_interrupt_while_building_is_the_exit_code_of_ctrl_c(monkeypatch, output):
    def stopped(_self: Demo) -> int:
        raise StoppedError

    monkeypatch.setattr(Demo, "run", stopped)
    monkeypatch.setattr(run, "watch_signals", Interrupts)
    assert run.run(Options(), Console(file=output)) == 130
