"""The demo's processes. Each has a session of its own (Ctrl-C is the demo's to translate) and a log file; all end with it.

A process that the demo cannot end, because it was itself killed, gets SIGTERM from the kernel (``--pdeathsig`` of
setpriv). That signal is tied to the thread which started the process, so this is done by the main thread only.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sp_proxy.demo.errors import DemoError

_STOP_SECONDS = 8.0
"""Between SIGTERM and SIGKILL: above the daemons' grace period and flush timeout."""
_LAST_BYTES = 4096


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would configure the daemons, or send their requests elsewhere."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("SP_PROXY_", "OTEL_")) and not name.lower().endswith("_proxy")
    }


class Child:
    """A process under a name."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        pass_fds: Sequence[int] = (),
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """``on_line`` is called, in a thread, with each line of its standard output, which otherwise goes to the log."""
        self.name = name
        self._log = log
        with log.open("wb") as file:
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if on_line else file,
                    stderr=file,
                    pass_fds=pass_fds,
                    env=clean_environment(os.environ),
                    start_new_session=True,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
            except OSError as error:
                raise DemoError(f"{name} cannot be started: {command[0]}: {error.strerror}") from error
        self._reader = threading.Thread(target=self._read, args=(on_line,), name=name, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def finish(self) -> None:
        """After its end: wait until all that it wrote has been read."""
        self._reader.join()

    def _read(self, on_line: Callable[[str], None] | None) -> None:
        if self.process.stdout and on_line:
            with self.process.stdout as lines:
                for line in lines:
                    on_line(line)

    def check(self) -> None:
        """Raises DemoError if it has ended."""
        if not self.alive:
            raise DemoError(f"{self.name} ended unexpectedly: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log, for a person."""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return _plain(said[-1]) if said else f"exit code {self.process.returncode}"


def _plain(line: str) -> str:
    """A line of a log for people: of a JSON one, what it is about, and the last line of the traceback if it has one."""
    try:
        value = json.loads(line)
        exception = str(value.get("exception", "")).strip().splitlines()
        return f"{value['event']}: {exception[-1]}" if exception else str(value["event"])
    except (ValueError, AttributeError, KeyError):
        return line


def stop_all(children: Iterable[Child]) -> None:
    """End them together, by force if need be, and read what they wrote to the end."""
    children = list(children)
    deadline = time.monotonic() + _STOP_SECONDS
    for child in children:
        if child.alive:
            child.process.terminate()
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        child.finish()
