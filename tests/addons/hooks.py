"""Hooks written as text, and processes that run them."""

import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import trio

from sp_proxy.addons.process import AddonProcess, CapturePlan
from sp_proxy.addons.source import look

PATIENCE = 60.0
"""Seconds for a process to start on a busy machine, and to be found stuck."""


def plan(
    text: str, name: str = "hook", *, call: float = 5.0, batch: float = 20.0, memory: int = 512 << 20
) -> CapturePlan:
    """Generous limits, for a machine that stalls."""
    return CapturePlan(look(f"/addons/{name}.py", dedent(text)), call, batch, memory)


@asynccontextmanager
async def running(text: str, name: str = "hook", **limits: float) -> AsyncIterator[AddonProcess]:
    process = AddonProcess(plan(text, name, **limits))  # type: ignore[arg-type]
    with trio.fail_after(PATIENCE):
        try:
            yield process
        finally:
            process.close()


def wait_for_end(file: Path) -> None:
    """Of the process whose number stands in a file. A zombie has ended: who should reap it may not be here."""
    process = Path("/proc", file.read_text(), "stat")
    until = time.monotonic() + PATIENCE
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while process.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < until
            time.sleep(0.05)
