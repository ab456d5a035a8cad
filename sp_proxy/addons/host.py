"""The process of one capture hook: takes records, calls the hook with each, says what became of them.

Nothing here can be relied on by the exporter, for the addon's code runs in the same interpreter: time limits are kept here
so that one slow record costs that record only, and again by the exporter, which ends the process (``process.py``).
"""

import contextlib
import faulthandler
import inspect
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, override

from sp_proxy.addons import wire
from sp_proxy.addons.exchange import WRONG_RETURN, CapturedExchange, WrongReturnError, instead
from sp_proxy.addons.loading import (
    LOAD_SECONDS,
    TooSlowError,
    confine,
    end_after,
    fault_of,
    line_of_function,
    load,
    time_limit,
)
from sp_proxy.addons.wire import MAX_SAID, Changed, Done, Emitted, Fault, Loaded, Setup, Task

STUCK: Final = 10.0
"""Seconds beyond all limits after which nobody is left who would end it."""
MAX_EMITTED: Final = 4096
"""Changes of metrics for each task."""
AT_ONCE: Final = 32
"""Calls of an async hook that wait at the same time."""
MAX_LINE: Final = 500


class Said(io.TextIOBase):
    """In the place of standard output: an addon's ``print`` becomes lines of the daemon's log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._begun = ""

    @override
    def write(self, text: str, /) -> int:
        *whole, self._begun = (self._begun + wire.clean(text, 1 << 16)).split("\n")
        self._begun = self._begun[:MAX_LINE]
        for line in whole:
            if line.strip() and len(self.lines) < MAX_SAID:
                self.lines.append(line[:MAX_LINE])
        return len(text)

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken, self.lines = self.lines, []
        return taken


class Work:
    """What came of one task so far."""

    def __init__(self, setup: Setup, hook: Callable[[CapturedExchange], Any], task: Task) -> None:
        self._setup = setup
        self._hook = hook
        self._first_line = line_of_function(hook, setup.path)
        self._is_async = inspect.iscoroutinefunction(hook)
        self._began = time.monotonic()
        self._until = self._began + task.seconds
        self._task = task
        self._emitted: list[Emitted] = []
        self._made: dict[int, list[Changed]] = {}
        self._failed: list[int] = []
        self._skipped: list[int] = []
        self._faults: dict[Fault, None] = {}

    def run(self) -> None:
        """Call a plain hook with each record."""
        budget = self._setup.call_budget
        for place in range(len(self._task.exchanges)):
            if time.monotonic() >= self._until:
                self._skipped.append(place)
                continue
            ex, kept = self._begin(place)
            try:
                with time_limit(budget):
                    answer = self._hook(ex)
                self._end(ex, answer)
            except BaseException as error:  # noqa: BLE001  # sys.exit, KeyboardInterrupt and TooSlowError too
                self._fail(place, error, kept)

    async def run_async(self) -> None:
        """Call an async hook, with many records at once."""
        import trio  # noqa: PLC0415  # for async hooks only: 15 MB

        slots = trio.CapacityLimiter(AT_ONCE)

        async def call(place: int) -> None:
            async with slots:
                if time.monotonic() >= self._until:
                    self._skipped.append(place)
                    return
                ex, kept = self._begin(place)
                try:
                    with trio.move_on_after(self._setup.call_budget) as scope:
                        answer = await self._hook(ex)
                    if scope.cancelled_caught:
                        raise TooSlowError
                    self._end(ex, answer)
                except trio.Cancelled:
                    raise
                except BaseException as error:  # noqa: BLE001  # as above
                    self._fail(place, error, kept)

        async with trio.open_nursery() as nursery:
            for place in range(len(self._task.exchanges)):
                nursery.start_soon(call, place)

    def done(self, said: list[str]) -> Done:
        """For the exporter."""
        return Done(
            list(self._made),
            [each for made in self._made.values() for each in made],
            self._failed,
            self._skipped,
            list(self._faults)[:16],
            self._emitted[:MAX_EMITTED],
            said,
            time.monotonic() - self._began,
        )

    def _begin(self, place: int) -> tuple[CapturedExchange, int]:
        return CapturedExchange(self._task.exchanges[place], self._emitted, place), len(self._emitted)

    def _end(self, ex: CapturedExchange, answer: object) -> None:
        wanted = instead(ex, answer)
        if len(wanted) != 1 or wanted[0] is not ex or ex.is_changed:
            self._made[ex.place] = [each.changed() for each in wanted]

    def _fail(self, place: int, error: BaseException, emitted: int) -> None:
        self._failed.append(place)
        fault = fault_of(error, self._setup.path)
        kind = WRONG_RETURN if isinstance(error, WrongReturnError) else fault.kind
        # Where nothing of it was running, it has returned, or waits for something.
        self._faults[Fault(kind, fault.line or self._first_line)] = None
        if not self._is_async:  # of calls that wait side by side nobody knows whose they are
            del self._emitted[emitted:]


def serve(sock: socket.socket) -> None:
    """Do what the exporter asks for until it is gone."""
    setup = wire.decode_setup(wire.read(sock))
    end_after(LOAD_SECONDS + STUCK)
    said = Said()
    sys.stdout = sys.stderr = said
    confine(setup.max_memory)
    try:
        with time_limit(LOAD_SECONDS):
            hook = load(setup.name, setup.path, setup.text).__dict__["exchange"]
    except BaseException as error:  # noqa: BLE001  # see loading.check_loads
        sock.sendall(wire.frame(Loaded(fault_of(error, setup.path))))
        return
    faulthandler.cancel_dump_traceback_later()
    sock.sendall(wire.frame(Loaded()))
    if inspect.iscoroutinefunction(hook):
        import trio  # noqa: PLC0415

        trio.run(_serve_async, sock, setup, hook, said)
        return
    while payload := wire.read(sock):
        with _task_of(setup, hook, payload) as work:
            work.run()
        sock.sendall(wire.frame(work.done(said.take())))


async def _serve_async(sock: socket.socket, setup: Setup, hook: Callable[[CapturedExchange], Any], said: Said) -> None:
    import trio  # noqa: PLC0415

    while True:
        # The exporter writes a frame as a whole: once it begins, the rest is there.
        await trio.lowlevel.wait_readable(sock)
        payload = wire.read(sock)
        if not payload:
            return
        with _task_of(setup, hook, payload) as work:
            await work.run_async()
        sock.sendall(wire.frame(work.done(said.take())))


@contextlib.contextmanager
def _task_of(setup: Setup, hook: Callable[[CapturedExchange], Any], payload: bytes) -> Iterator[Work]:
    """A task, and the end of this process if it does not end: the exporter ends a stuck one, unless it is gone itself."""
    task = wire.decode_task(payload)
    end_after(task.seconds + setup.call_budget + STUCK)
    yield Work(setup, hook, task)
    faulthandler.cancel_dump_traceback_later()


def main(descriptor: int) -> None:
    """Run in this process until the exporter is gone, or has no use for it; then end it with all that the hook has started."""
    try:
        with socket.socket(fileno=descriptor) as sock, contextlib.suppress(OSError):
            serve(sock)
    finally:
        os.killpg(0, signal.SIGKILL)
