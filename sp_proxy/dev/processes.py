"""The developer's own processes: each in a process group of its own, its output handed on line by line, ended as a whole.

The command of the single form keeps the terminal instead: it is the foreground of it, so Ctrl-C and input are its own.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from sp_proxy.dev.errors import DevError

STOP_SECONDS = 8.0
"""Between SIGTERM and SIGKILL."""
MAX_LINE = 64 * 1024
"""Characters after which a line of a service's is broken."""
_AFTER_END_SECONDS = 1.0
"""For the rest of its output, which a child of its own may keep open for ever."""


class Running:
    """A process of the developer's."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        directory: Path,
        on_line: Callable[[str, str], None] | None,
    ) -> None:
        """``on_line`` gets the name and each line of both outputs; None: it keeps our outputs, our input and our terminal.

        Raises DevError.
        """
        self.name = name
        self._own_group = on_line is not None or not _on_terminal()
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if on_line else None,
                stdout=subprocess.PIPE if on_line else None,
                stderr=subprocess.STDOUT if on_line else None,
                env=dict(environ),
                cwd=directory,
                process_group=0 if self._own_group else None,
                text=True,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
            )
        except OSError as error:
            where = directory if not directory.is_dir() else command[0]
            raise DevError(f"{name}: {where}: {(error.strerror or str(error)).lower()}") from error
        self._reader: threading.Thread | None = None
        if on_line and self.process.stdout:
            self._reader = threading.Thread(
                target=self._read, args=(self.process.stdout, on_line), name=f"output of {name}", daemon=True
            )
            self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """As a shell has it: 128 and the signal's number where one ended it. None while it runs."""
        code = self.process.poll()
        return 128 - code if code is not None and code < 0 else code

    @property
    def on_our_terminal(self) -> bool:
        """Ctrl-C reaches it without us."""
        return not self._own_group

    def send(self, number: int) -> None:
        """Send a signal to it, and to all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            if self._own_group:
                os.killpg(self.process.pid, number)
            elif self.process.poll() is None:
                self.process.send_signal(number)

    def finish(self) -> None:
        """After its end: what is left of its group ends too, and its output is read to the end."""
        if self._own_group:
            self.send(signal.SIGKILL)
        if self._reader:
            self._reader.join(_AFTER_END_SECONDS)

    def _read(self, lines: IO[str], on_line: Callable[[str, str], None]) -> None:
        with suppress(ValueError, OSError), lines:
            while line := lines.readline(MAX_LINE):
                on_line(self.name, line.rstrip("\r\n"))


def stop_all(running: Sequence[Running]) -> None:
    """End them together: SIGTERM, and SIGKILL for those that do not follow it."""
    deadline = time.monotonic() + STOP_SECONDS
    for each in running:
        if each.exit_code is None:
            each.send(signal.SIGTERM)
    for each in running:
        try:
            each.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.send(signal.SIGKILL)
            each.process.wait()
        each.finish()


def require_program(name: str, directory: Path) -> None:
    """Raises DevError for a program that is not there: better said before anything is started."""
    try:
        found = (directory / name).is_file() if "/" in name else shutil.which(name) is not None
    except OSError as error:  # in a folder that may not be looked into
        raise DevError(f"{name}: {(error.strerror or str(error)).lower()}") from error
    if not found:
        raise DevError(f"{name}: no such program")


def _on_terminal() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
