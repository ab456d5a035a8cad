"""The exporter's stages, kept running: a fault in one costs what that stage had in its hands, and a pause.

Expected trouble (a backend that is down, a disk that is full) is no fault and does not come here. What does is a mistake of
ours or of a library's, or a system without memory or threads. It must reach neither the other stages nor the supervisor,
so the stage is begun again: at once the first time, then after growing pauses (``core/restarts.py``). What the stages before
it hold meanwhile is bounded, and what does not fit is counted where it is lost.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.exporter.sparing_log import SparingLog

Work = Callable[[], Awaitable[None]]


class Keeper:
    """Keeps stages, and counts their faults."""

    def __init__(self, policy: RestartPolicy | None = None, *, randomness: Callable[[], float] = random.random) -> None:
        """``randomness`` is uniform in 0 to 1."""
        self._policy = policy or RestartPolicy()
        self._randomness = randomness
        self._down: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        """By stage, since the start."""

    @property
    def down(self) -> list[str]:
        """The stages that wait to be begun again."""
        return sorted(self._down)

    async def keep(self, stage: str, work: Work) -> None:
        """Do the work until it returns or is cancelled, from its beginning again after each fault."""
        log = SparingLog(stage=stage)
        failures = 0
        while True:
            began = trio.current_time()
            fault: Exception | None = None
            try:
                await work()
            except* Exception as group:  # noqa: BLE001 (whatever it is; a cancellation beside it goes on)
                fault = group
            if fault is None:
                return
            healthy = trio.current_time() - began >= self._policy.healthy_after
            failures = 1 if healthy else failures + 1
            pause = self._policy.delay(failures, self._randomness())
            self.faults[stage] += 1
            log.fault("exporter_stage_failed", fault, restart_in_seconds=round(pause, 3))
            await self._pause(stage, pause)

    async def _pause(self, stage: str, seconds: float) -> None:
        self._down[stage] += 1
        try:
            await trio.sleep(seconds)
        finally:
            self._down[stage] -= 1
            self._down += Counter()  # without the zeros
