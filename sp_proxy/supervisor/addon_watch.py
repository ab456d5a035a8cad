"""Which request hook runs in a relay worker just now, read from memory shared with it; and hooks that take it too far.

A hook that does not return, or takes memory without end, holds up a whole worker: its call is ended by a signal
(``heads.py``). Where that is not heard the worker is ended, and the next one is started without that hook, as after a death
in the middle of one. Deaths that no hook can be blamed for may be a hook's all the same (it has closed what was not its
own): two within a minute, and the next workers are without one of them, and after one more death without another in its
place, until they live; when all have had their turn, without any.
"""

import mmap
import os
import signal
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import structlog
import trio
from msgspec import Struct

from sp_proxy.addons.heads import STATE_BYTES, RequestAddon

LOOK_INTERVAL = 0.25
INTERRUPTED_LOOKS = 4
"""As many after the signal mean that it is not heard; of a call that takes memory the next one does."""
BLAMELESS_DEATHS = 2
BLAMELESS_SECONDS = 60.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class AddonLimits(Struct, frozen=True):
    """What a call of a request hook may take before it is ended."""

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
        self._suspect = ""
        """Left out for deaths that nobody could be blamed for: the next one within a minute clears it."""
        self._cleared: set[str] = set()

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
            named = self._suspects()
            reason = f"workers died again and again, the last one: {reason}"
        for name in named:
            self._off[name] = reason
            log.error("addon_switched_off", addon=name, reason=reason, until="its file or the settings change")

    def _suspects(self) -> list[str]:
        """Whom to leave out after a death that nobody can be blamed for."""
        now = trio.current_time()
        self._deaths = [*(each for each in self._deaths if now - each < BLAMELESS_SECONDS), now]
        if len(self._deaths) == 1:  # since the last suspect was left out, workers have lived
            self._suspect = ""
            self._cleared.clear()
        if len(self._deaths) < BLAMELESS_DEATHS:
            return []
        if self._suspect:
            del self._off[self._suspect]
            self._cleared.add(self._suspect)
            log.info("addon_switched_on", addon=self._suspect, reason="workers died without it too")
        names = [each.name for each in self.on]
        rest = [name for name in names if name not in self._cleared]
        self._suspect = rest[0] if rest else ""
        return rest[:1] or names


class Watched:
    """What one worker shares with us. Closed at the end of a ``with`` block."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("sp-proxy-addon-state")
        """What the worker inherits."""
        try:
            os.truncate(self.fd, STATE_BYTES)
            self._map = mmap.mmap(self.fd, STATE_BYTES, prot=mmap.PROT_READ)
        except OSError:  # no descriptor left for the map
            os.close(self.fd)
            raise
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
        """End a call that does not return, or takes too much memory, and the worker if that does not help."""
        stuck_after, max_memory = limits.stuck_after, limits.max_memory
        call, looks, before, told = 0, 0, 0, 0
        while True:
            await trio.sleep(LOOK_INTERVAL)
            now = self._call
            if not now & 0xFF:
                call = 0
                continue
            resident = _resident(process.pid)
            if now != call:
                call, looks, before, told = now, 0, resident, 0
                continue
            # By looks and not by the clock: who has not been running himself has seen nothing.
            looks += 1
            if resident - before > max_memory:
                reason, patience = f"request(head) took more than {max_memory >> 20} MiB", 1
            elif looks * LOOK_INTERVAL >= stuck_after:
                reason, patience = f"request(head) did not return within {stuck_after:g} s", INTERRUPTED_LOOKS
            else:
                continue
            if told >= patience:
                self._end(process, now, reason)
                return
            if not told:
                log.warning("addon_interrupted", place=now & 0xFF, pid=process.pid, reason=reason)
                process.send_signal(signal.SIGALRM)
            told += 1

    def _end(self, process: trio.Process, call: int, reason: str) -> None:
        self.stuck, self._stuck_place = reason, call & 0xFF
        process.kill()


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123  # not a file that could be elsewhere
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError, ValueError):
        return 0
