"""Hooks written as text, and processes that run them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
