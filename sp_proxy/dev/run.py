"""The life of a run: authority → places → backend → daemons → services → wait → deliver what is left → tell → take down.

The main thread does all of it and only ever waits on the flag that a signal sets, so nothing is cut in the middle; taking down
happens on every way out. What a killed run left is removed by the next one.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct
from rich.console import Console
from rich.live import Live
from rich.text import Text

from sp_proxy.demo import runs
from sp_proxy.demo.errors import DemoError, NotPermittedError, StoppedError
from sp_proxy.demo.inquiries import Unanswered
from sp_proxy.dev import environment, pods, screen, trust, wiring
from sp_proxy.dev.arrivals import catch_up
from sp_proxy.dev.calls import Exchanges
from sp_proxy.dev.errors import DevError
from sp_proxy.dev.health import Health
from sp_proxy.dev.identity import acting_as, invoking
from sp_proxy.dev.layout import DAEMON_USER, Common
from sp_proxy.dev.pods import Pods
from sp_proxy.dev.processes import STOP_SECONDS, require_program
from sp_proxy.dev.project import Project
from sp_proxy.dev.screen import Row
from sp_proxy.dev.signals import Signals
from sp_proxy.dev.stage import Stage
from sp_proxy.dev.wiring import PREFIX

_REFRESH_SECONDS = 0.5
_TOLD_EXCHANGES = 10
_PRELOAD = Path(__file__).with_name("node.cjs")


class Options(Struct, frozen=True):
    """What was asked for."""

    project: Project
    single: bool
    """One command, which keeps the terminal and hands on its exit code."""
    explicit: bool = False
    """The explicit proxy, whoever asks."""
    user: str = ""
    """Who the services run as, where root asks; empty: who called sudo."""
    backend_port: int | None = None
    open_browser: bool | None = None
    """None: on a terminal where there is one."""
    database: Path | None = None
    """Where what is captured is kept; None: nowhere."""
    config: Path | None = None
    """The user's own settings: rules, redaction."""
    assignments: tuple[str, ...] = ()
    intercept: bool = True
    stay: bool = False
    """Keep the dashboard when the services have ended, until Ctrl-C."""
    mocked: Mapping[str, Any] = {}
    """Settings of daemons that answer from ``database`` (``mock/daemon.py``)."""


def run(options: Options, console: Console) -> int:
    """Run it to its end, in the main thread. Returns the exit code. Raises DemoError."""
    signals = Signals()
    try:
        return Run(options, console, signals).run()
    except (StoppedError, DemoError):
        if not signals.numbers:
            raise
        return 128 + signals.numbers[0]


class Run:
    """One run."""

    def __init__(self, options: Options, console: Console, signals: Signals) -> None:
        self._options = options
        self._console = console
        self._signals = signals
        self._live = console.is_terminal and not console.is_dumb_terminal and not options.single
        self._exchanges = Exchanges()
        self._names = [service.name for service in options.project.services]
        self._said: dict[str, str] = {}
        self._identity = invoking(os.environ, options.user)
        self._since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"

    def run(self) -> int:
        """From the beginning to the end."""
        for service in self._options.project.services:
            require_program(service.words[0], self._options.project.directory / service.directory)
        apart = self._may_have_pods()
        parent = Path("/run") if apart else Path(tempfile.gettempdir())
        for path in runs.remove_left_over_directories(parent, PREFIX):
            self._say(f"removed what an earlier run left: {path}")
        with ExitStack() as stack:
            directory = _run_directory(parent, stack)
            return self._play(self._settled(directory, stack, apart=apart), directory)

    def _may_have_pods(self) -> bool:
        if self._options.explicit or sys.platform != "linux" or os.geteuid() != 0:
            if self._options.user:
                raise DevError("--user is for namespaces: as root on Linux, and without --proxy")
            return False
        if missing := wiring.missing_tools():
            packages = " ".join(sorted(set(missing.values())))
            raise DevError(f"{', '.join(missing)} not found: apt-get install {packages}, or use --proxy")
        for removed in pods.sweep():
            self._say(f"removed what an earlier run left: {removed}")
        return True

    def _settled(self, directory: Path, stack: ExitStack, *, apart: bool) -> Stage:
        """Places for everything: namespaces, or this host where none are to be had."""
        wait, project = self._signals.wait_or_stop, self._options.project
        if apart:
            with ExitStack() as attempt:
                stage = Pods(directory, attempt, wait, project, self._identity)
                try:
                    stage.settle()
                except NotPermittedError as error:
                    self._say(f"no network namespaces here ({error}): the explicit proxy instead")
                else:
                    stage.stack = stack
                    stack.push(attempt.pop_all())
                    return stage
        here = Stage(directory, stack, wait, project)
        here.settle()
        return here

    def _play(self, stage: Stage, directory: Path) -> int:
        options = self._options
        environ = dict(os.environ)
        # The authority is its owner's, whoever the services run as: whoever called sudo, or ourselves.
        owner = invoking(environ)
        owner = owner if owner.home.is_dir() else invoking({})
        ourselves = owner.uid == os.geteuid()
        kept = trust.state_directory(environ if ourselves else {}, Path.home() if ourselves else owner.home)
        with acting_as(owner):
            made = trust.authority(kept)
        if made:
            self._say(
                f"made a certificate authority in {kept}; it stays on this machine, and in no store of the system's"
            )
        replaced = environment.replaced_proxies(environ)
        if replaced and not isinstance(stage, Pods):
            self._say(f"{', '.join(replaced)} of the environment is not used: hosts behind that proxy are not reached")
        files = trust.write_files(kept, directory, environment.own_bundles(environ))
        if isinstance(stage, Pods):
            kept = trust.copy_key(kept, owner, directory / "authority", DAEMON_USER)
        preload = directory / _PRELOAD.name
        shutil.copyfile(_PRELOAD, preload)
        preload.chmod(0o644)
        if not stage.claim_backend_port(options.backend_port):
            self._say(f"port 4318 is taken: the dashboard gets port {stage.backend.port}")
        own_rules = options.config is not None
        common = Common(
            stage.backend.port, str(kept), str(files.known), options.intercept, own_rules, mocked=options.mocked
        )
        stage.configure(common)
        stage.start_backend(self._database(stage, directory))
        stage.start_daemons(options.config, list(options.assignments))
        self._say(f"dashboard {stage.backend.url}")
        if options.mocked:
            self._say("FOR TESTS ONLY: what --database has an answer to is answered by it, and does not go out")
        for member in stage.members:
            if member.inbound:
                self._say(
                    f"{member.name}: http://localhost:{member.inbound.port} leads to its port {member.inbound.to}"
                )
        self._open_browser(stage.backend.url)
        stage.start_services(environ, files, preload, None if options.single else self._print_line)
        code = self._watch(stage)
        stage.stop_services()
        if options.stay and not self._signals.numbers:
            self._say(f"ended with exit code {code}; the dashboard stays until Ctrl-C: {stage.backend.url}")
            while not self._signals.wait(_REFRESH_SECONDS):
                stage.check()
        stage.stop_daemons()
        catch_up(self._exchanges, stage.backend, self._since)
        self._tell()
        if options.mocked:
            with suppress(Unanswered):
                self._say(screen.mocked(stage.backend.json("/api/v1/stats")))
        return code

    def _database(self, stage: Stage, directory: Path) -> Path:
        """Where the backend keeps what it gets: a file of the user's, or one that goes with the run."""
        if self._options.database:
            return self._options.database.absolute()
        place = directory / "backend"
        place.mkdir(mode=0o700)
        if stage.backend_user is not None:
            os.chown(place, stage.backend_user, stage.backend_user)
        return place / "dev.sqlite3"

    # ---- while it runs

    def _watch(self, stage: Stage) -> int:
        """Until it is over; the exit code."""
        if self._options.single:
            return self._watch_command(stage)
        with Health(stage.members) as health, self._display(stage, health) as show:
            while not self._signals.wait(_REFRESH_SECONDS):
                stage.check()
                catch_up(self._exchanges, stage.backend, self._since)
                show(False)
                codes = {member.name: member.running.exit_code for member in stage.members if member.running}
                failed = [(name, code) for name, code in codes.items() if code]
                if failed:
                    name, code = failed[0]
                    self._say(f"{name} ended with exit code {code}: all end")
                    return code or 0
                if all(code == 0 for code in codes.values()):
                    self._say("all services have ended")
                    return 0
            show(True)
            return 128 + self._signals.numbers[0]

    def _watch_command(self, stage: Stage) -> int:
        running = stage.members[0].running
        assert running
        handed_on = 0
        deadline = 0.0
        while (code := running.exit_code) is None:
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(0.1)
            stage.check()
            if running.on_our_terminal and set(self._signals.numbers) == {signal.SIGINT}:
                self._signals.forget()  # the terminal has sent it to the command too, whose affair it is
            for number in self._signals.numbers[handed_on:]:
                running.send(number)
                handed_on += 1
                deadline = deadline or time.monotonic() + STOP_SECONDS
            if deadline and time.monotonic() > deadline:
                running.send(signal.SIGKILL)
        return code

    @contextmanager
    def _display(self, stage: Stage, health: Health) -> Iterator[Callable[[bool], None]]:
        def rows() -> list[Row]:
            states = health.states()
            return [
                Row(each.name, each.inbound.port if each.inbound else None, states[each.name]) for each in stage.members
            ]

        if not self._live:

            def say_changes(_ending: bool) -> None:
                for row in rows():
                    if self._said.get(row.name) != row.state:
                        self._said[row.name] = row.state
                        self._say(f"{row.name} is {row.state}")

            yield say_changes
            say_changes(True)
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:

            def draw(ending: bool) -> None:
                live.update(screen.live_view(rows(), self._exchanges, stage.backend.url, ending=ending), refresh=True)

            yield draw

    # ---- what is said

    def _tell(self) -> None:
        for exchange in reversed(self._exchanges.latest(_TOLD_EXCHANGES if self._options.single else 0)):
            self._print(screen.exchange_line(exchange))
        if not self._options.single:
            for line in screen.tree_lines(self._exchanges, self._names):
                self._print(line)
        self._say(screen.totals(self._exchanges, self._names))
        if self._options.database:
            self._say(f"kept: sp-proxy backend --set backend.database={self._options.database}")

    def _print_line(self, name: str, line: str) -> None:
        self._print(screen.log_line(name, line, max(map(len, self._names))))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def _say(self, line: str) -> None:
        self._console.print(f"sp-proxy: {line}", markup=False, highlight=False, soft_wrap=True)

    def _open_browser(self, url: str) -> None:
        wanted = self._options.open_browser
        if wanted is None:
            desktop = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
            wanted = desktop and self._console.is_terminal and os.geteuid() != 0
        if wanted and not webbrowser.open(url):
            self._say(f"no browser could be opened; the dashboard is at {url}")


def _run_directory(parent: Path, stack: ExitStack) -> Path:
    """A directory for this run, until the stack closes."""
    try:
        made = tempfile.TemporaryDirectory(prefix=f"{runs.this_run(PREFIX)}-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise DevError(f"no directory can be made in {parent}: {os.strerror(error.errno or 0).lower()}") from error
    directory = Path(stack.enter_context(made))
    if os.geteuid() == 0:
        directory.chmod(0o711)  # services and daemons of other users find their files there
    return directory
