"""The demo's life: build up → traffic → let everything arrive → tell → take down, which also happens after every failure.

The main thread does all of it and only ever waits on the flag that a signal sets, so nothing is cut in the middle. The first
Ctrl-C ends the traffic and leads to the counts; the second ends everything.
"""

import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live

from sp_proxy.demo import places, runs, screen
from sp_proxy.demo.access import opener
from sp_proxy.demo.counts import Books, Counts
from sp_proxy.demo.errors import DemoError, NotPermittedError, StoppedError
from sp_proxy.demo.inquiries import Unanswered, daemon_counts
from sp_proxy.demo.layout import BACKEND_PORT, DAEMON_USER
from sp_proxy.demo.shop.customers import Traffic
from sp_proxy.demo.stage import Stage

SETTLE_SECONDS = 20.0
"""For the last exchanges to arrive in the backend; a batch waits 0.2 seconds."""
REFRESH_SECONDS = 0.4
PLAIN_REFRESH_SECONDS = 10.0
"""Between two lines where there is no terminal to draw on."""
BURST_PAUSE, SLOW_PAUSE = 0.12, 2.0
RECENT_LINES = 16
INTERRUPT_EXIT_CODE = 128 + signal.SIGINT
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    requests: int = 100
    """Of the customers, in the burst."""
    once: bool = False
    """End after the burst."""
    port: int | None = None
    """The backend's; None: its usual one, or a free one."""
    forward: bool = False
    """Forwarding mode, whoever asks."""


class Interrupts:
    """Counts signals that ask for the end."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self.count = 0

    def wait(self, seconds: float) -> bool:
        """Wait; returns early, and True, when the first signal has come."""
        return self._arrived.wait(seconds)

    def wait_or_stop(self, seconds: float) -> None:
        """Wait; raises StoppedError when a signal has come."""
        if self.wait(seconds):
            raise StoppedError

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """A signal handler."""
        self.count += 1
        self._arrived.set()


def watch_signals() -> Interrupts:
    """Count the signals that ask for the end, from now to the end of the process: a late Ctrl-C has nothing to cut."""
    interrupts = Interrupts()
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, interrupts.note)
    return interrupts


def run(options: Options, console: Console) -> int:
    """Run the demo to its end, in the main thread. Returns the exit code: 0 if all counts agree. Raises DemoError."""
    try:
        return Demo(options, console, watch_signals()).run()
    except StoppedError:
        return INTERRUPT_EXIT_CODE


class Demo:
    """One run."""

    def __init__(self, options: Options, console: Console, interrupts: Interrupts) -> None:
        self._options = options
        self._console = console
        self._interrupts = interrupts
        self._counts: dict[str, Counts] = {}
        self._stored = 0
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._ending = False

    def run(self) -> int:
        """From the beginning to the end."""
        transparent = self._may_be_transparent()
        parent = Path("/run") if transparent else Path(tempfile.gettempdir())
        for path in runs.remove_left_over_directories(parent):
            self._say(f"removed what an earlier run left: {path}")
        with ExitStack() as stack:
            stage = Stage(_run_directory(parent, stack), stack, self._interrupts.wait_or_stop)
            if not stage.claim_backend_port(self._options.port):
                self._say(f"port {BACKEND_PORT} is taken: the backend gets port {stage.backend.port}")
            self._settle(stage, transparent=transparent)
            return self._play(stage)

    def _may_be_transparent(self) -> bool:
        if self._options.forward:
            return False
        if sys.platform != "linux" or os.geteuid() != 0:
            self._say("not root: forwarding mode (as root, the demo uses network namespaces and redirect rules)")
            return False
        if missing := places.missing_tools():
            packages = " ".join(sorted(set(missing.values())))
            raise DemoError(f"{', '.join(missing)} not found: apt-get install {packages}, or use --forward")
        return True

    def _settle(self, stage: Stage, *, transparent: bool) -> None:
        """Places for everything."""
        if transparent:
            try:
                for name in places.remove_left_over_namespaces():
                    self._say(f"removed what an earlier run left: network namespace {name}")
                stage.settle_in_pods(opener(stage.directory))
            except NotPermittedError as error:
                self._say(f"no network namespaces here ({error}): forwarding mode")
            else:
                self._say(
                    "transparent mode: a network namespace for each service, with its own redirect rules"
                    f" and its own daemon, which runs as user {DAEMON_USER} without any capability"
                )
                return
        stage.settle_on_host()

    def _play(self, stage: Stage) -> int:
        """Traffic, counts, and what came of them."""
        stage.start_backend()
        stage.start_shop()
        self._say(f"dashboard {stage.backend.url}")
        once = self._options.once
        traffic = Traffic(self._options.requests, 0.0 if once else BURST_PAUSE, None if once else SLOW_PAUSE)
        customers = stage.start_customers(secrets.token_hex(3), traffic)
        with self._display(stage) as show:
            while customers.alive and not self._interrupts.wait(REFRESH_SECONDS):
                stage.check()
                show()
            if customers.alive or self._interrupts.count:
                self._ending = True
                show()
            elif customers.process.returncode:
                raise DemoError(f"the customers failed: {customers.last_words()}")
            stage.finish_traffic(customers)
            books = self._settled(stage, show)
        return self._tell(stage, books)

    def _settled(self, stage: Stage, show: Callable[[], None]) -> Books:
        """The books when they agree, or when it has been long enough."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            show()
            books = self._books(stage)
            if not books.disagreements() or time.monotonic() > deadline:
                return books
            stage.check()
            time.sleep(REFRESH_SECONDS)
            if self._interrupts.count > 1:
                raise StoppedError

    def _books(self, stage: Stage) -> Books:
        """Everything that is counted, now. What does not answer keeps the counts it had."""
        for member in stage.members:
            self._counts.setdefault(member.name, Counts())
            with suppress(Unanswered):
                self._counts[member.name] = daemon_counts(stage.places[member.name], member)
        with suppress(Unanswered):
            self._stored = stage.backend.stored()
        return Books(*stage.calls.snapshot(), dict(self._counts), self._stored)

    @contextmanager
    def _display(self, stage: Stage) -> Iterator[Callable[[], None]]:
        """What is shown while traffic flows: a live table, or a line now and then where there is no terminal."""
        if not self._live:
            next_line = time.monotonic() + PLAIN_REFRESH_SECONDS

            def say_now_and_then() -> None:
                nonlocal next_line
                if time.monotonic() >= next_line:
                    next_line = time.monotonic() + PLAIN_REFRESH_SECONDS
                    self._say(screen.one_line(self._books(stage)))

            yield say_now_and_then
            return
        recent: list[dict[str, Any]] = []
        with Live(console=self._console, auto_refresh=False) as live:

            def draw() -> None:
                nonlocal recent
                with suppress(Unanswered):
                    recent = stage.backend.recent(max(3, min(RECENT_LINES, self._console.height - 12)))
                view = screen.live_view(self._books(stage), recent, stage.backend.url, ending=self._ending)
                live.update(view, refresh=True)

            yield draw

    def _tell(self, stage: Stage, books: Books) -> int:
        """The end, for people. Returns the exit code."""
        with suppress(Unanswered):
            if trace := stage.backend.widest_trace():
                self._console.print(screen.trace_tree(trace))
        if not self._live:
            self._console.print(screen.counts_table(books))
        self._say(screen.totals(books))
        problems = books.disagreements()
        for line in problems:
            self._say(f"FAIL  {line}")
        if not problems:
            self._say("ok: all counts agree")
        return 1 if problems else 0

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _run_directory(parent: Path, stack: ExitStack) -> Path:
    """A directory for this run, until the stack closes."""
    try:
        made = tempfile.TemporaryDirectory(prefix=f"{runs.this_run()}-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise DemoError(f"no directory can be made in {parent}: {os.strerror(error.errno or 0).lower()}") from error
    directory = Path(stack.enter_context(made))
    directory.chmod(0o711)  # the daemons' user finds its configuration there
    return directory
