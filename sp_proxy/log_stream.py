"""Where log lines go: a descriptor that may be full, broken or on a full disk, and must not harm what is logged about.

Whoever reads the log may stop reading, so that a write waits for ever, or go away, so that it fails. Neither may stop the loop
that relays or delivers. A line (of a long one each ``PIPE_BUF`` bytes) waits for ``PATIENCE`` at most, those behind it not at
all until there is room again; the first that is written then stands behind one that says how many were lost.
"""

import io
import os
import select
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

from msgspec import json

PATIENCE: Final = 0.1
"""Seconds: a reader that is only slow has read on by then."""


class LogStream(io.TextIOBase):
    """Each write is a line, or several. It never fails; without a descriptor below it writes as ``out`` does."""

    def __init__(self, out: TextIO, *, console: bool, context: Mapping[str, object] | None = None) -> None:
        """What was lost is said as ``console`` lines are, or in JSON with ``context``. Does not own the descriptor."""
        self._out = out
        self._console = console
        self._context = context or {}
        self._lock = threading.Lock()
        self._lost = 0
        self._torn = False  # the last line has no end
        self._poll = select.poll()
        try:
            self._descriptor = out.fileno()
        except (OSError, ValueError):
            self._descriptor = -1
        else:
            self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, text: str) -> int:
        """Write it, or count it as lost."""
        with self._lock:
            if self._descriptor < 0:
                self._out.write(text)
                self._out.flush()
            elif not self._put((self._said() + text).encode("utf-8", "backslashreplace")):
                self._lost += 1
            else:
                self._lost = 0
        return len(text)

    def _said(self) -> str:
        """What stands before the next line."""
        end = "\n" if self._torn else ""
        if not self._lost:
            return end
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if self._console:
            return f"{end}{at} [warning  ] log_lines_lost lines={self._lost}\n"
        line = {**self._context, "event": "log_lines_lost", "lines": self._lost, "level": "warning", "timestamp": at}
        return f"{end}{json.encode(line).decode()}\n"

    def _put(self, data: bytes) -> bool:
        wait = 0.0 if self._lost else PATIENCE
        while data:
            try:
                if not self._poll.poll(wait * 1000):
                    return False
                # What poll has said holds for so many bytes (PIPE_BUF).
                written = os.write(self._descriptor, data[: select.PIPE_BUF])
            except OSError:
                return False
            self._torn = data[written - 1 : written] != b"\n"
            data = data[written:]
        return True
