"""Destinations on this machine: OTLP-JSON lines in a file or on standard output. They are attempted like a backend, so
a full disk is retried, and what a reader does not take is counted.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.otlp_json import json_line
from sp_proxy.exporter.outcome import Accepted, Outcome, Permanent, Retryable


class LinesFile:
    """Appends to a file, of which one older piece is kept (``PATH.1``). Owned by nobody: others may rotate it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._one_at_a_time = trio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def origin(self) -> str:
        """For the log."""
        return str(self._path)

    async def send(self, payload: Payload) -> Outcome:
        """Write one line, whole."""
        async with self._one_at_a_time:
            try:
                # A named pipe that nobody opens, a file system that hangs: not even the end of the daemon waits for these.
                await trio.to_thread.run_sync(self._write, payload, abandon_on_cancel=True)
            except OSError as error:
                return Retryable("file_error", detail=f"{self._path}: {error.strerror or error}")
        return Accepted()

    def _write(self, payload: Payload) -> None:
        line = json_line(payload)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and size + len(line) > self._max_bytes:
                os.close(fd)
                fd = -1
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                size = 0
            try:
                write_all(fd, line)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(fd, size)  # half a line would spoil the next one too
                raise
        finally:
            if fd >= 0:
                os.close(fd)


class Stdout:
    """Writes to standard output."""

    def __init__(self) -> None:
        self._one_at_a_time = trio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def origin(self) -> str:
        """For the log."""
        return "standard output"

    async def send(self, payload: Payload) -> Outcome:
        """Write one line. A reader that does not read holds up this destination only; one that is gone is the end."""
        async with self._one_at_a_time:
            try:
                await trio.to_thread.run_sync(self._write, payload, abandon_on_cancel=True)
            except BrokenPipeError:
                return Permanent("broken_pipe", "nobody reads standard output any more")
            except OSError as error:
                return Retryable("file_error", detail=f"standard output: {error.strerror or error}")
        return Accepted()

    def _write(self, payload: Payload) -> None:
        line = json_line(payload)
        sys.stdout.flush()
        write_all(sys.stdout.fileno(), line)


def write_all(fd: int, data: bytes) -> None:
    """Write to a descriptor, however many calls it takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
