import os
import signal
import subprocess
import sys

import pytest

from sp_proxy.demo.errors import StoppedError
from sp_proxy.dev.signals import Signals


@pytest.fixture
def signals(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield Signals()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_are_noted_and_may_be_forgotten(signals):
    signals.wait_or_stop(0)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.wait(30)
    with pytest.raises(StoppedError):
        signals.wait_or_stop(0)
    assert signals.numbers == [signal.SIGTERM]
    signals.forget()
    assert not signals.wait(0)


def test_nohup_is_heeded():
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from sp_proxy.dev.signals import Signals; Signals();"
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"
