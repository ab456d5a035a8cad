"""Which request hook runs in a relay worker just now, read from memory shared with it; and hooks that take it too far.

A hook that does not return, or takes memory without end, holds up a whole worker: the worker is ended, and the next one is
started without that hook, as after a death in the middle of one. Deaths that no hook can be blamed for may be a hook's all the
same (it has closed what was not its own): two within a minute, and the next workers are without any.
"""

import mmap
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import structlog
import trio
from msgspec import Struct

from sp_proxy.addons.heads import STATE_BYTES, RequestAddon

LOOK_INTERVAL = 0.25
BLAMELESS_DEATHS = 2
BLAMELESS_SECONDS = 60.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class AddonLimits(Struct, frozen=True):
    """What a call of a request hook may take before its worker is ended."""

    stuck_after: float = 2.0
    """Seconds."""
    max_memory: int = 512 << 20
    """Bytes."""


class Switchboard:
    """The request hooks of one generation of workers, and those that are switched off."""

    def __init__(self, addons: Sequence[RequestAddon]) -> None:
        self._addons = tuple(addons)
        self._off: dict[str, str] = {}
        self._deaths: list[float] = []

    @property
    def on(self) -> tuple[RequestAddon, ...]:
        """What the next worker is started with."""
        return tuple(each for each in self._addons if each.name not in self._off)

    @property
    def off(self) -> dict[str, str]:
        """Why, by name."""
        return dict(self._off)

    def blame(self, place: int, reason: str) -> None:
        """The hook at this place was running; 0: none."""
        named = [each.name for each in self.on if each.place == place]
        if not named and self.on:
            now = trio.current_time()
            self._deaths = [*(each for each in self._deaths if now - each < BLAMELESS_SECONDS), now]
            if len(self._deaths) >= BLAMELESS_DEATHS:
                self._deaths.clear()
                named = [each.name for each in self.on]
                reason = f"workers with them died again and again, the last one: {reason}"
        for name in named:
            self._off[name] = reason
            log.error("addon_switched_off", addon=name, reason=reason, until="its file or the settings change")


class Watched:
    """What one worker shares with us. Closed at the end of a ``with`` block."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("sp-proxy-addon-state")
        """What the worker inherits."""
        os.truncate(self.fd, STATE_BYTES)
        self._map = mmap.mmap(self.fd, STATE_BYTES, prot=mmap.PROT_READ)
        self.stuck = ""
        """Why the worker was ended, for a hook."""
        self._stuck_place = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()
        os.close(self.fd)

    @property
    def place(self) -> int:
        """Of the hook that is running, or was when the worker ended."""
        return self._stuck_place or self._call & 0xFF

    @property
    def _call(self) -> int:
        return int.from_bytes(self._map[:STATE_BYTES], "little")

    async def watch(self, process: trio.Process, limits: AddonLimits) -> None:
        """End the worker when a call does not return, or takes too much memory."""
        stuck_after, max_memory = limits.stuck_after, limits.max_memory
        call, looks, before = 0, 0, 0
        while True:
            await trio.sleep(LOOK_INTERVAL)
            now = self._call
            if not now & 0xFF:
                call = 0
                continue
            resident = _resident(process.pid)
            if now != call:
                call, looks, before = now, 0, resident
                continue
            # By looks and not by the clock: who has not been running himself has seen nothing.
            looks += 1
            if resident - before > max_memory:
                self._end(process, now, f"request(head) took more than {max_memory >> 20} MiB")
                return
            if looks * LOOK_INTERVAL >= stuck_after:
                self._end(process, now, f"request(head) did not return within {stuck_after:g} s")
                return

    def _end(self, process: trio.Process, call: int, reason: str) -> None:
        self.stuck, self._stuck_place = reason, call & 0xFF
        process.kill()


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123  # not a file that could be elsewhere
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError, ValueError):
        return 0
