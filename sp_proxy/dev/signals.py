"""The signals that ask for the end of a run."""

import signal
import threading
from types import FrameType

from sp_proxy.demo.errors import StoppedError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """The signals that ask for the end, from now to the end of the process: a late Ctrl-C has nothing to cut."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self.numbers: list[int] = []
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._note)

    def wait(self, seconds: float) -> bool:
        """Wait; returns early, and True, when a signal has come that was not forgotten."""
        return self._arrived.wait(seconds)

    def wait_or_stop(self, seconds: float) -> None:
        """Wait; raises StoppedError when a signal has come."""
        if self.wait(seconds):
            raise StoppedError

    def forget(self) -> None:
        """What came was another one's to follow."""
        self.numbers.clear()
        self._arrived.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.numbers.append(number)
        self._arrived.set()
