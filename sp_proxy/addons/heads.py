"""Request hooks in a relay worker, called with each request's head in the worker's own loop.

A hook that raises costs its own effect. One that raises or takes too long again and again is switched off for a while. One
that does not return holds up its worker: which one is running stands in memory that the supervisor shares, which asks for the
end of the call by a signal, and where that is not heard replaces the worker and starts the next without that hook
(``supervisor/addon_watch.py``).
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

from msgspec import Struct

from sp_proxy.addons.head import Head
from sp_proxy.addons.loading import TooSlowError, fault_of, load, time_limit
from sp_proxy.core.exchange import Direction
from sp_proxy.core.head_edits import HeadEdit

log = logging.getLogger(__name__)

STRIKES: Final = 5
"""Slow calls after which a hook is switched off; a thousand quick ones make up for one: anything may be late once."""
FORGIVING: Final = 1000
MAX_FAILED: Final = 50
"""Calls in a row that fail before the hook is switched off, as in ``process.py``."""
FIRST_PAUSE: Final = 30.0
MAX_PAUSE: Final = 3600.0
"""Seconds."""
STATE_BYTES: Final = 8
"""Of the shared memory: number of calls so far and, in the lowest byte, place of the hook that runs, from 1; or 0."""
MAX_HOOKS: Final = 255
MAX_LOGGED: Final = 100


class RequestAddon(Struct, frozen=True, array_like=True):
    """What a worker is told of one."""

    name: str
    path: str
    text: str
    pure: bool = False
    place: int = 1
    """Its number in the shared memory."""


class _Hook:
    """One hook, its time and its faults."""

    def __init__(self, addon: RequestAddon, module: ModuleType) -> None:
        self.addon = addon
        self.call: Callable[[Head], Any] = module.__dict__["request"]
        self.off_until = 0
        self.strikes = 0
        self.quick = 0
        self.failed = 0
        self.pause = FIRST_PAUSE
        self.calls = f"addon_requests:{addon.name}"
        self.time = f"addon_request_ns:{addon.name}"
        self.faults = f"addon_request_faults:{addon.name}"
        self.off = f"addon_switched_off:{addon.name}"
        self.logged: set[tuple[str, int]] = set()

    def slow(self, now: int, *, interrupted: bool) -> bool:
        """It took too long: whether it is switched off for it. Once is enough where it had to be interrupted."""
        self.strikes = STRIKES if interrupted else self.strikes + 1
        if self.strikes < STRIKES:
            return False
        self.strikes = STRIKES - 1  # one more slow call after the pause is enough
        self._rest(now)
        return True

    def fails(self, now: int) -> bool:
        """It raised: whether it is switched off for that."""
        self.failed += 1
        if self.failed < MAX_FAILED:
            return False
        self.failed = 0
        self._rest(now)
        return True

    def _rest(self, now: int) -> None:
        self.off_until = now + round(self.pause * 1e9)
        self.pause = min(2 * self.pause, MAX_PAUSE)

    def was_quick(self) -> None:
        """It did not."""
        self.quick += 1
        if self.quick >= FORGIVING:
            self.quick = 0
            self.strikes = max(0, self.strikes - 1)


class RequestHooks:
    """Keeps the protocol ``core.head_edits.HeadHooks``."""

    def __init__(
        self,
        addons: Sequence[RequestAddon],
        budget: float,
        counters: defaultdict[str, int],
        state: "memoryview[int] | None" = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        interrupt: float = 0.0,
    ) -> None:
        """``budget`` in seconds. ``state`` is the shared memory as one number; ``clock`` tells nanoseconds. ``interrupt``:
        seconds after which a call is ended by a signal, where nobody else looks (0: none); it costs two system calls each.

        A file that cannot be run here is logged and left out: it could be when it was checked.
        """
        self._budget_ns = round(budget * 1e9)
        self._counters = counters
        self._state = memoryview(bytearray(STATE_BYTES)).cast("Q") if state is None else state
        self._clock = clock
        self._called = 0
        self._calling = False
        self._interrupt = interrupt
        self._hooks = [hook for each in addons if (hook := self._load(each)) is not None]
        self.pure = all(each.pure for each in addons)
        self.whole = True

    def edit(
        self, direction: Direction, method: bytes, target: bytes, authority: bytes, fields: bytes
    ) -> HeadEdit | None:
        """See ``HeadHooks``."""
        head = Head(direction, method, target, authority, fields)
        clock, counters, state = self._clock, self._counters, self._state
        edit: HeadEdit | None = None
        self.whole = True
        for hook in self._hooks:
            began = clock()
            if began < hook.off_until:
                self.whole = False
                continue
            saved = head.saved()
            interrupted = failed = False
            self._called += 1
            state[0] = (self._called << 8 | hook.addon.place) & 0xFFFFFFFFFFFFFFFF
            try:
                try:
                    self._calling = True
                    if self._interrupt:
                        with time_limit(self._interrupt):
                            hook.call(head)
                    else:
                        hook.call(head)
                finally:
                    self._calling = False
                edit = head.edit()
            except BaseException as error:  # noqa: BLE001  # sys.exit and the like: nothing of it is the relay's
                head.restore(saved)
                self.whole = False
                interrupted, failed = isinstance(error, TooSlowError), True
                counters[hook.faults] += 1
                self._tell(hook, error)
            state[0] = 0
            ended = clock()
            counters[hook.calls] += 1
            counters[hook.time] += ended - began
            if not failed:
                hook.failed = 0
            elif not interrupted and hook.fails(ended):
                counters[hook.off] += 1
                log.error(
                    "addon %s: request(head) failed %d times in a row: left out for a while",
                    hook.addon.name,
                    MAX_FAILED,
                )
            if ended - began <= self._budget_ns and not interrupted:
                hook.was_quick()
            elif hook.slow(ended, interrupted=interrupted):
                counters[hook.off] += 1
                slowly = f"takes longer than {self._budget_ns / 1e6:g} ms again and again"
                why = "did not return, and was interrupted" if interrupted else slowly
                log.error("addon %s: request(head) %s: left out for a while", hook.addon.name, why)
        return edit

    def interrupt(self, *_: object) -> None:
        """End the call that is going on, if there is one: for a handler of signals in the thread that calls ``edit``."""
        if self._calling:
            self._calling = False
            raise TooSlowError

    def _load(self, addon: RequestAddon) -> _Hook | None:
        try:
            return _Hook(addon, load(addon.name, addon.path, addon.text))
        except BaseException as error:  # noqa: BLE001  # whatever stands at its top
            fault = fault_of(error, addon.path)
            log.error("addon %s cannot be run: %s at %s:%d", addon.name, fault.kind, addon.path, fault.line)  # noqa: TRY400
            return None

    def _tell(self, hook: _Hook, error: BaseException) -> None:
        """Name the line, once, and nothing of what the exception says: it may hold what was on its way."""
        fault = fault_of(error, hook.addon.path)
        key = (fault.kind, fault.line)
        if key in hook.logged or len(hook.logged) >= MAX_LOGGED:
            return
        hook.logged.add(key)
        lines = hook.addon.text.splitlines()
        code = lines[fault.line - 1].strip()[:200] if 0 < fault.line <= len(lines) else ""
        log.error("addon %s: %s at %s:%d: %s", hook.addon.name, fault.kind, hook.addon.path, fault.line, code)
